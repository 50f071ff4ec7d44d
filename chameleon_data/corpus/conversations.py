"""Conversations: brought to one form, checked, and written as canonical JSON, which stands for the text of the row.

    {"messages":[{"content":"…","role":"user"},{"content":"…","role":"assistant"}],"tools":[…]}

A source names a column of messages, `{role, content}` or ShareGPT's `{from, value}`, told apart by what stands there; or columns
of a prompt and one of its completion, as Alpaca has them. Keys whose value is null are left out, all else is as it came. So
equal conversations are equal bytes, whatever file format they came from, and the pipeline hashes, keeps and sorts them as texts.

In a shard `messages` is a list of structs. Its fields are `role`, `content`, and those that occur in the corpus, each of one
type, as kept columns are (`kept_columns.py`). What is no plain value, such as tool calls, is text of Arrow's JSON type, which
`datasets` opens as the lists and objects that it holds. `tools` is plain text that holds JSON.
Why: docs/decisions/181-conversations-as-canonical-json.md, docs/decisions/188-tool-calls-as-json.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from chameleon_data.corpus.kept_columns import ARROW_TYPES, join_kinds, kind_of, plain_value, whole_number
from chameleon_data.corpus.readers.rows import Fault
from chameleon_data.hashing import canonical_json

ASSISTANT, USER, SYSTEM = "assistant", "user", ("system", "developer")
ROLES = {*SYSTEM, USER, ASSISTANT, "tool", "function"}
SHAREGPT_ROLES = {
    "human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT, "chatgpt": ASSISTANT, "model": ASSISTANT,
    "system": "system", "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
"""What ShareGPT's `from` says -> the role."""
FIRST_FIELDS = ("role", "content")
"""Fields that every message has, before those that occur, which are sorted."""
FIELD_TYPES = {**ARROW_TYPES, "string": pa.string(), "json": pa.json_()}
"""Kind of a field of the messages -> its type in a shard."""
CALLS = "tool_calls"
ChatMessage = dict[str, Any]


def make_conversation(found: Any, tools: Any = None) -> bytes | Fault:
    """The canonical JSON of a list of messages, or what is wrong with it. Lists and tools may be given as JSON text."""
    messages = _parse(found)
    if messages is None:
        return Fault.NO_MESSAGES
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return Fault.NOT_MESSAGES
    turns = [_of_sharegpt(m) if "role" not in m and "from" in m else _of_openai(m) for m in messages]
    if fault := _check(turns):
        return fault
    conversation: dict[str, Any] = {"messages": turns}
    if known := _parse(tools):
        conversation["tools"] = known
    return canonical_json(conversation)


def make_exchange(prompts: Sequence[Any], completion: Any) -> bytes | Fault:
    """The same of one question, which may stand in several columns, and its answer."""
    if completion is None or all(prompt is None for prompt in prompts):
        return Fault.NO_MESSAGES
    if not all(value is None or type(value) is str for value in (*prompts, completion)):
        return Fault.NOT_MESSAGES
    question = "\n\n".join(prompt for prompt in prompts if prompt and prompt.strip())
    return make_conversation([{"role": USER, "content": question}, {"role": ASSISTANT, "content": completion}])


def _parse(value: Any) -> Any:
    """What JSON text holds; a text that is none stays."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value.encode())
    except ValueError:
        return value or None


def _of_openai(message: ChatMessage) -> ChatMessage:
    return {key: whole_number(value) for key, value in message.items() if value is not None}


def _of_sharegpt(message: ChatMessage) -> ChatMessage:
    renamed = {"role": SHAREGPT_ROLES.get(message["from"], str(message["from"])), "content": message.get("value")}
    return _of_openai({**{key: value for key, value in message.items() if key not in ("from", "value")}, **renamed})


def _check(messages: Sequence[ChatMessage]) -> Fault:
    roles = [message.get("role") for message in messages]
    if not all(isinstance(role, str) and role in ROLES for role in roles):
        return Fault.UNKNOWN_ROLE
    if sum(role in SYSTEM for role in roles) > 1:
        return Fault.TWO_SYSTEMS
    if ASSISTANT not in roles:
        return Fault.NO_ASSISTANT
    for message in messages:
        content = message.get("content")
        if not (isinstance(content, str | list) or content is None):
            return Fault.NOT_MESSAGES
        if not message.get(CALLS) and not (content.strip() if isinstance(content, str) else content):
            return Fault.EMPTY_CONTENT
    return Fault.NONE


def read_conversation(text: str | bytes) -> tuple[list[ChatMessage], Any]:
    """Messages and tools of canonical JSON; no tools are None."""
    conversation = json.loads(text)
    return conversation["messages"], conversation.get("tools")


def field_kinds(texts: pa.LargeStringArray) -> dict[str, set[str]]:
    """Field of the messages of these conversations -> the kinds of its values."""
    return _kinds_of_turns(_plain_turns(read_conversation(text)[0]) for text in texts.to_pylist())


def _plain_turns(messages: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """The messages with values as kept columns hold them: what is none of theirs is JSON text."""
    return [{name: plain_value(value) for name, value in message.items()} for message in messages]


def _kinds_of_turns(conversations: Iterable[Sequence[ChatMessage]]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for messages in conversations:
        for message in messages:
            for name, value in message.items():
                if value is not None:
                    kinds.setdefault(name, set()).add(kind_of(value))
    return kinds


def order_fields(names: Mapping[str, Any] | set[str]) -> list[str]:
    """Fields of a message in their order in a shard."""
    return [*FIRST_FIELDS, *sorted({*names} - {*FIRST_FIELDS}, key=str.encode)]


def messages_type(fields: Mapping[str, str]) -> pa.DataType:
    """The type of `messages` in a shard; `fields` gives the kind of each field."""
    return pa.list_(pa.struct([(name, FIELD_TYPES[fields.get(name, "string")]) for name in order_fields({*fields})]))


def decode_conversations(texts: pa.LargeBinaryArray, fields: Mapping[str, str]) -> tuple[pa.Array, pa.Array]:
    """(rows,) `messages` and `tools` of a shard, out of canonical JSON."""
    found = [read_conversation(text) if text else ([], None) for text in texts.to_pylist()]
    messages = [_plain_turns(turns) for turns, _ in found]
    tools = [None if known is None else canonical_json(known).decode() for _, known in found]
    return _make_messages(messages, fields), pa.array(tools, pa.large_string())


def encode_conversations(messages: pa.ChunkedArray, tools: pa.ChunkedArray, fields: Mapping[str, str]) -> pa.LargeStringArray:
    """The inverse. ValueError where a field that is JSON text holds none."""
    texts = []
    for turns, known in zip(messages.to_pylist(), tools.to_pylist(), strict=True):
        conversation: dict[str, Any] = {
            "messages": [
                {
                    name: json.loads(value) if fields.get(name) == "json" else whole_number(value)
                    for name, value in message.items()
                    if value is not None
                }
                for message in turns
            ]
        }
        if known is not None:
            conversation["tools"] = json.loads(known)
        texts.append(canonical_json(conversation).decode())
    return pa.array(texts, pa.large_string())


def message_objects(messages: pa.Array, parse: Callable[[str], Any]) -> list[list[ChatMessage]]:
    """(rows,) `messages` of a shard as objects of JSON: role and content, and the other fields that a message has.

    `parse` makes the value of a field that is JSON text out of it.
    """
    parsed = {field.name for field in messages.type.value_type if field.type == FIELD_TYPES["json"]}
    return [
        [
            {
                name: parse(value) if name in parsed and value is not None else value
                for name, value in message.items()
                if value is not None or name in FIRST_FIELDS
            }
            for message in turns
        ]
        for turns in messages.to_pylist()
    ]


def messages_array(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> pa.Array:
    """The inverse of `message_objects`. ValueError where a field has several types."""
    turns = [_plain_turns(messages) for messages in conversations]
    fields = {name: join_kinds(found) for name, found in _kinds_of_turns(turns).items()}
    known = {name: kind for name, kind in fields.items() if kind}
    if mixed := {*fields} - {*known}:
        raise ValueError(f"the field {min(mixed)!r} of messages has values of several types")
    return _make_messages(turns, known)


def _make_messages(turns: Sequence[Sequence[ChatMessage]], fields: Mapping[str, str]) -> pa.Array:
    """(rows,) `messages` of a shard. JSON is text until the end, since pyarrow makes no structs of it."""
    as_text = messages_type({name: "string" if kind == "json" else kind for name, kind in fields.items()})
    return pa.array(turns, as_text).cast(messages_type(fields))


def contents(messages: Sequence[ChatMessage], of: str) -> Iterator[str]:
    """The texts of turns: of `user` and system, of `assistant` with its tool calls, or of `all`."""
    for message in messages:
        if of != "all" and (message["role"] == ASSISTANT) != (of == ASSISTANT):
            continue
        content = message.get("content")
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]
        if CALLS in message:
            yield canonical_json(message[CALLS]).decode()


def shown_texts(texts: pa.LargeStringArray, of: str) -> pa.LargeStringArray:
    """(rows,) what is embedded of each conversation: the texts of some of its turns; of all where those hold none."""
    shown = []
    for text in texts.to_pylist():
        messages, _ = read_conversation(text)
        roles = messages if of != USER else [message for message in messages if message["role"] == USER]
        shown.append("\n\n".join(contents(roles, of)) or "\n\n".join(contents(messages, "all")) or text)
    return pa.array(shown, pa.large_string())
