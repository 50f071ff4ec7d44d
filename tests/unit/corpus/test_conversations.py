"""Conversations in each form that corpora have: one canonical JSON, its columns in a shard and back, and what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.conversations import (
    decode_conversations,
    encode_conversations,
    field_kinds,
    make_conversation,
    make_exchange,
    message_objects,
    messages_array,
    messages_type,
    shown_texts,
)
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.kept_columns import join_kinds
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.rows import REASONS, Block, Fault
from chameleon_data.recipe import Source

QUESTION, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"x": None}}}]}
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def read(path: Path, rows: list[Any], **keys: Any) -> Block:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (fragment,) = list_fragments("own", source := Source(path=(str(path),), **keys)).fragments
    (block,) = read_blocks(fragment, source, 2**20)
    return block


@given(st.lists(st.tuples(text, text, st.none() | text, st.none() | st.integers(0, 9)), min_size=1, max_size=5), st.booleans())
def test_a_shard_gives_back_the_canonical_json(turns: list[tuple[str, str, Any, Any]], tools: bool) -> None:
    messages = [m for q, a, name, score in turns for m in ({"role": "user", "content": q, "name": name},
                                                          {"role": "assistant", "content": a, "score": score}, CALL)]  # fmt: skip
    made = make_conversation(messages, TOOLS if tools else None)
    assert isinstance(made, bytes)
    texts = pa.array([made.decode()], pa.large_string())
    kinds = {name: str(join_kinds(found)) for name, found in field_kinds(texts).items()}
    stored, known = decode_conversations(texts.cast(pa.large_binary()), kinds)
    assert stored.type == messages_type(kinds)
    assert stored.type.value_type.field(0).name == "role"
    assert encode_conversations(pa.chunked_array([stored]), pa.chunked_array([known]), kinds).equals(texts)
    expected = [{k: v for k, v in message.items() if v is not None} for message in messages]
    objects = message_objects(stored, json.loads)
    assert [{k: v for k, v in message.items() if v is not None} for message in objects[0]] == expected
    assert {**objects[0][2]} == CALL, "content stands in every message, and tool calls are a list"
    assert messages_array(json.loads(json.dumps(objects))).equals(stored)
    assert json.loads(made) == {"messages": expected, **({"tools": TOOLS} if tools else {})}


def test_messages_of_several_types_are_no_shard() -> None:
    with pytest.raises(ValueError, match="'content' of messages has values of several types"):
        messages_array([[QUESTION, {**ANSWER, "content": [{"type": "text", "text": "So."}]}]])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_forms_are_told_apart_by_what_stands_there(tmp_path: Path, suffix: str) -> None:
    expected = make_conversation([QUESTION, ANSWER])
    openai = [{"messages": [QUESTION, ANSWER]}]
    sharegpt = [{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}]
    alpaca = [{"instruction": "Why?", "input": "", "output": "So."}]
    for rows, keys in (
        (openai, {"chat": "messages"}),
        (sharegpt, {"chat": "conversations"}),
        (alpaca, {"prompt": ["instruction", "input"], "completion": "output"}),
        ([{"m": json.dumps(openai[0]["messages"])}], {"chat": "m"}),
    ):
        assert read(tmp_path / f"a{suffix}", rows, **keys).text.to_pylist() == [expected.decode()]


def test_tools_are_part_of_a_conversation(tmp_path: Path) -> None:
    rows = [{"messages": [QUESTION, CALL], "tools": tools} for tools in (TOOLS, json.dumps(TOOLS), None, [])]
    texts = read(tmp_path / "a.jsonl", rows, chat="messages", tools="tools").text.to_pylist()
    assert texts[0] == texts[1] != texts[2] == texts[3]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (None, Fault.NO_MESSAGES), ("words", Fault.NOT_MESSAGES), ([1], Fault.NOT_MESSAGES), ([], Fault.NO_ASSISTANT),
        ([QUESTION], Fault.NO_ASSISTANT), ([QUESTION, ANSWER, {"role": "boss", "content": "x"}], Fault.UNKNOWN_ROLE),
        ([QUESTION, {"role": "assistant", "content": " \n"}], Fault.EMPTY_CONTENT),
        ([QUESTION, {"role": "assistant"}], Fault.EMPTY_CONTENT),
        ([{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, ANSWER], Fault.TWO_SYSTEMS),
        ([{"role": "user", "content": 3}, ANSWER], Fault.NOT_MESSAGES), ([QUESTION, CALL], Fault.NONE),
    ],
)  # fmt: skip
def test_broken_conversations_are_quarantined_with_the_reason(tmp_path: Path, messages: Any, fault: Fault) -> None:
    block = read(tmp_path / "a.jsonl", [{"messages": messages}, {"messages": [QUESTION, ANSWER]}], chat="messages")
    assert [(bad.row, bad.reason) for bad in block.bad] == ([(0, REASONS[fault])] if fault else [])
    assert len(block.text) == 2 - bool(fault)


def test_a_prompt_of_several_columns() -> None:
    made = make_exchange(("Add.", "1 and 2"), "3")
    assert made == make_conversation([{"role": "user", "content": "Add.\n\n1 and 2"}, {"role": "assistant", "content": "3"}])
    assert make_exchange(("Add.", None), None) == Fault.NO_MESSAGES
    assert make_exchange((" ", ""), "3") == Fault.EMPTY_CONTENT
    assert make_exchange((1,), "3") == Fault.NOT_MESSAGES


def test_what_is_embedded_of_a_conversation() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image", "image": "x.png"}]}
    made = make_conversation([{"role": "system", "content": "Be brief."}, QUESTION, ANSWER, parts, CALL])
    texts = pa.array([made.decode()], pa.large_string())
    shown = {of: shown_texts(texts, of)[0].as_py() for of in ("user", "assistant", "all")}
    assert shown["user"] == "Why?\n\nLook."
    assert shown["assistant"].startswith("So.\n\n[{")
    assert shown["all"].startswith("Be brief.\n\nWhy?\n\nSo.\n\nLook.\n\n[{")
