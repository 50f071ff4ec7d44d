"""Conversations, by the libraries that trainers use: `datasets` opens the shards, `transformers` counts the tokens."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import official_readers as official
from tests.support.chat_builds import SOURCES, TEMPLATE, build, plain, stored, write_corpus
from tests.support.tokenizers import byte_tokenizer

PLAIN = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n"
    "{{ m['content'] if m['content'] else m['tool_calls'][0]['function'] | tojson }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A template of the usual kind, which marks nothing."""


def load_tokenizer(folder: Path, template: str) -> Any:
    transformers = pytest.importorskip("transformers")
    file = byte_tokenizer(folder, "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>")
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), chat_template=template, bos_token="<|endoftext|>")


def test_shares_of_trained_tokens_are_those_that_transformers_counts(tmp_path: Path) -> None:
    """Every row's tokens, and so every domain's share, within its largest conversation."""
    tokenizer = load_tokenizer(tmp_path, TEMPLATE)
    made = build(tmp_path, write_corpus(tmp_path / "corpus"))
    manifest, sums = made.manifest(), dict.fromkeys(SOURCES, 0)
    for row in stored(made, "parquet"):
        messages = plain(row)["messages"]
        for message in messages:
            if "tool_calls" in message:
                message["tool_calls"] = json.loads(message["tool_calls"])
        found = tokenizer.apply_chat_template(
            messages, tools=row["tools"] and json.loads(row["tools"]), return_assistant_tokens_mask=True, return_dict=True
        )
        assert sum(found["assistant_masks"]) == row["tokens"]
        sums[row["domain"]] += row["tokens"]
    for name, weight in zip(SOURCES, (0.5, 0.3, 0.2), strict=True):
        assert abs(sums[name] - weight * 30_000) <= manifest.domains[name].largest_document


def test_growth_is_what_transformers_renders(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tmp_path, PLAIN)
    (tmp_path / "plain.jinja").write_text(PLAIN)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<|endoftext|>"}}))
    tokens = {"tokenizer": "tokenizer.json", "template": "plain.jinja"}
    for count in ("trained", "all"):
        made = build(tmp_path, write_corpus(tmp_path / f"corpus-{count}"), tokens={**tokens, "count": count})
        made.write()
        for row in stored(made, "parquet"):
            messages = plain(row)["messages"]
            for message in messages:
                if "tool_calls" in message:
                    message["tool_calls"] = json.loads(message["tool_calls"])
            expected = 0 if count == "trained" else len(tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"])
            for at in [i for i, m in enumerate(messages) if count == "trained" and m["role"] == "assistant"]:
                before = tokenizer.apply_chat_template(messages[:at], tokenize=False, add_generation_prompt=True)
                after = tokenizer.apply_chat_template(messages[: at + 1], tokenize=False)
                expected += len(tokenizer(after[len(before) :], add_special_tokens=False)["input_ids"])
            assert row["tokens"] == expected


def packed(folder: Path, template: str, **tokens: Any) -> Any:
    (folder / "mine.jinja").write_text(template)
    sources = {n: {k: v for k, v in s.items() if k != "keep"} for n, s in write_corpus(folder / "corpus").items()}
    counted = {"tokenizer": "tokenizer.json", "template": "mine.jinja", "count": "trained", **tokens}
    shards = {"size": "40KB", "formats": ["parquet", "arrow", "jsonl", "mds", "litdata"], "sequence_length": 2048, "labels": True}
    return build(folder, sources, tokens=counted, shards={**shards, "compression": "none"})


def masks_by_transformers(tokenizer: Any, messages: list[Any], tools: Any, marked: bool) -> tuple[list[int], list[int]]:
    """Ids and assistant mask of a conversation. Without a mark: by what the rendering grows by, in characters."""
    if marked:
        found = tokenizer.apply_chat_template(messages, tools=tools, return_assistant_tokens_mask=True, return_dict=True)
        return found["input_ids"], found["assistant_masks"]
    whole = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    learned = [False] * len(whole)
    for at in [i for i, message in enumerate(messages) if message["role"] == "assistant"]:
        before = tokenizer.apply_chat_template(messages[:at], tools=tools, tokenize=False, add_generation_prompt=True)
        after = tokenizer.apply_chat_template(messages[: at + 1], tools=tools, tokenize=False)
        learned[len(before) : len(after)] = [True] * (len(after) - len(before))
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], [int(any(learned[a:b])) for a, b in found["offset_mapping"]]


@pytest.mark.parametrize("marked", [True, False])
def test_masks_of_packed_conversations_are_those_that_transformers_gives(tmp_path: Path, marked: bool) -> None:
    """Every conversation of the corpus is rendered by `transformers`; every stretch of a sequence is one of them, whole, and the
    sums of the masks hold every domain's share."""
    template = TEMPLATE if marked else PLAIN
    tokenizer = load_tokenizer(tmp_path, template)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<|endoftext|>"}}))
    made = packed(tmp_path, template)
    whole = build(tmp_path, write_corpus(tmp_path / "again"), mix={"budget": "auto"}, shards={"formats": ["parquet"]})
    whole.write()
    known = {name: dict[tuple[int, ...], list[int]]() for name in SOURCES}
    for row in stored(whole, "parquet"):
        messages = plain(row)["messages"]
        for message in messages:
            if "tool_calls" in message:
                message["tool_calls"] = json.loads(message["tool_calls"])
        tools = row["tools"] and json.loads(row["tools"])
        ids, mask = masks_by_transformers(tokenizer, messages, tools, marked)
        known[row["domain"]][tuple(ids)] = mask
    manifest, sums, end = made.manifest(), dict.fromkeys(SOURCES, 0), made.job.counter.end_of_text
    for row in stored(made, "parquet"):
        for begin, stop in itertools.pairwise([*row["doc_starts"], 2048]):
            ids, mask = row["input_ids"][begin:stop], row["loss_mask"][begin:stop]
            while ids[-1] == end:
                ids.pop()
            assert mask[: len(ids)] == known[row["domain"]][tuple(ids)]
            assert not any(mask[len(ids) :])
            sums[row["domain"]] += sum(mask)
    for name, weight in zip(SOURCES, (0.5, 0.3, 0.2), strict=True):
        assert sums[name] == manifest.domains[name].tokens
        assert abs(sums[name] - weight * 30_000) <= manifest.domains[name].largest_document


def test_trainers_readers_open_packed_conversations(tmp_path: Path) -> None:
    """Each format by the package that it comes from."""
    made = packed(tmp_path, TEMPLATE)
    made.manifest()
    folder = Path(made.store.url.removeprefix("file://")) / made.build.folder
    for format in made.recipe.shards.formats:
        assert official.read(folder / format, format, "train") == stored(made, "parquet"), format


@pytest.mark.parametrize("format", ["parquet", "arrow", "jsonl"])
def test_datasets_opens_conversations(tmp_path: Path, format: str) -> None:
    """As a trainer does, and with nothing parsed by hand: tool calls are lists, and what transformers makes of a row is what was
    counted."""
    datasets = pytest.importorskip("datasets")
    made = build(tmp_path, write_corpus(tmp_path / "corpus"), shards={"size": "9KB", "formats": [format], "compression": "none"})
    made.write()
    folder = f"{made.store.url.removeprefix('file://')}/{made.build.folder}/{format}"
    builder = {"jsonl": "json"}.get(format, format)
    found = datasets.load_dataset(builder, data_dir=folder, split="train", cache_dir=str(tmp_path / "cache"))
    kept = stored(made, format)
    assert [{**row, "messages": 0} for row in found] == [{**row, "messages": 0} for row in kept]
    tokenizer, called = load_tokenizer(tmp_path, TEMPLATE), 0
    for row, expected in zip(found, kept, strict=True):
        for message, as_text in zip(plain(row)["messages"], plain(expected)["messages"], strict=True):
            calls = json.loads(as_text.pop("tool_calls", "null"))
            assert message == {**as_text, **({"tool_calls": calls} if calls else {})}
            called += bool(calls)
        tokens = tokenizer.apply_chat_template(row["messages"], return_assistant_tokens_mask=True, return_dict=True)
        assert sum(tokens["assistant_masks"]) == row["tokens"]
    assert called > 3


def test_trl_renders_conversations_as_transformers_does(tmp_path: Path) -> None:
    """Rows as `datasets` gives them, through the functions with which TRL's trainers prepare a data set.
    Why it may be absent: docs/decisions/187-trl-beside-the-tests.md."""
    datasets, data_utils = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils", reason="TRL is not installed")
    made = build(tmp_path, write_corpus(tmp_path / "corpus"), shards={"size": "9KB", "formats": ["parquet"]})
    made.write()
    folder = f"{made.store.url.removeprefix('file://')}/{made.build.folder}/parquet"
    rows = datasets.load_dataset("parquet", data_dir=folder, split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = load_tokenizer(tmp_path, TEMPLATE)
    tooled = 0
    for row in rows:
        assert data_utils.is_conversational(row)
        tools = row["tools"] and json.loads(row["tools"])
        expected = tokenizer.apply_chat_template(plain(row)["messages"], tools, tokenize=False)
        assert data_utils.apply_chat_template(row, tokenizer)["text"] == expected
        tooled += bool(tools)
    assert tooled > 3
