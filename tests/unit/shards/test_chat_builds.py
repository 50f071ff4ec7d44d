"""Whole builds of conversations: whole in every format, the same however the corpus lies, shares of trained tokens exact."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import CHAT_FORMATS
from chameleon_data.versions.verify import verify_version
from tests.support.chat_builds import SOURCES, TEMPLATE, build, plain, rows_of, stored, write_corpus
from tests.support.manifests import forge, list_files, with_files


def test_the_bytes_do_not_depend_on_how_the_corpus_lies(tmp_path):
    made = []
    for name, how in (("one", {}), ("other", {"files": 3, "reverse": True, "parquet": True})):
        (tmp_path / name).mkdir()
        made.append(build(tmp_path / name, write_corpus(tmp_path / name / "corpus", **how), keep=name == "one"))
    assert made[0].write() == made[1].write()
    assert made[0].kept is not None


@pytest.mark.parametrize("tokens", [{"count": "trained"}, {"count": "all"}])
def test_bytes_are_counted_without_a_tokenizer_and_proved(tmp_path, tokens):
    made = build(tmp_path, write_corpus(tmp_path / "corpus"), tokens=tokens, input={"dedup": "exact"}, mix={"budget": 8_000})
    manifest = made.manifest()
    assert not verify_version(made.store, manifest).problems
    assert manifest.messages == {"role": "string", "content": "string", "tool_calls": "json"}
    for row in stored(made, "parquet"):
        turns = [m for m in row["messages"] if tokens["count"] == "all" or m["role"] == "assistant"]
        assert row["tokens"] == sum(len(((m["content"] or "") + (m["tool_calls"] or "")).encode()) for m in turns)


def test_every_format_holds_whole_conversations_and_verify_proves_them(tmp_path):
    made = build(tmp_path, write_corpus(tmp_path / "corpus"))
    manifest = made.manifest()
    assert not verify_version(made.store, manifest).problems
    by_format = {format: [plain(row) for row in stored(made, format)] for format in CHAT_FORMATS}
    assert all(rows == by_format["parquet"] for rows in by_format.values())
    rows = by_format["parquet"]
    assert {row["domain"] for row in rows} == set(SOURCES)
    assert any(row["tools"] == '[{"name":"find"}]' for row in rows)
    assert any(m.get("tool_calls", "").startswith('[{"function":{"arguments":{"page":') for row in rows for m in row["messages"])
    assert {row["url"] for row in rows if row["domain"] != "legal"} == {None}


def test_a_changed_turn_is_found(tmp_path):
    made = build(tmp_path, write_corpus(tmp_path / "corpus"), shards={"size": "1MB", "formats": ["jsonl"], "compression": "none"})
    manifest = made.manifest()
    (file,) = list_files(made.store, manifest)
    data = made.store.read(file["path"]).replace(b'"role":"user","content":"', b'"role":"user","content":"!', 1)
    Path(made.store.local(file["path"])).write_bytes(data)
    forged = with_files(made.store, manifest, [{**file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}])
    found = verify_version(made.store, forged).problems
    assert any("are not those that its doc_id names" in problem for problem in found)
    assert verify_version(made.store, forge(made.store, manifest, lambda m: m["messages"].pop("tool_calls"))).problems


def test_contents_of_two_types_are_refused_with_both_files(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}, {"role": "assistant", "content": "y"}]}
    (tmp_path / "corpus/legal/9.jsonl").write_text(json.dumps(parts) + "\n")
    with pytest.raises(InputError, match=r"'content' as values of several types.*a list in .*9.jsonl; string in .*0.jsonl"):
        build(tmp_path, sources)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"shards": {"formats": ["litdata"]}}, "litdata holds no conversations"),
        ({"shards": {"formats": ["megatron"]}}, "megatron holds no conversations"),
    ],
)
def test_what_holds_no_conversations_is_refused(tmp_path, sections, message):
    with pytest.raises(InputError, match=message):
        build(tmp_path, {name: {"path": "x", **keys} for name, keys in SOURCES.items()}, **sections)


def test_texts_beside_conversations_are_refused(tmp_path):
    sources = {name: {"path": "x", **keys} for name, keys in SOURCES.items()}
    with pytest.raises(InputError, match="has texts and legal, code conversations"):
        build(tmp_path, {**sources, "book": "x"})


def test_a_template_makes_text_of_conversations_that_stand_beside_texts(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    (tmp_path / "mine.jinja").write_text(TEMPLATE)
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(30)))
    del sources["legal"]["keep"]
    texts = {
        "legal": {**sources["legal"], "template": "mine.jinja"},
        "book": {"path": str(tmp_path / "plain.jsonl")},
        "code": {**sources["code"], "template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"},
    }
    made = build(tmp_path, texts, tokens={"unit": "bytes"}, mix={"budget": 20_000}, shards={"formats": ["parquet", "mds"]})
    manifest = made.manifest()
    assert verify_version(made.store, manifest).problems == ()
    assert manifest.messages == {}
    assert manifest.recipe.sources["legal"].template == TEMPLATE
    rows = stored(made, "parquet")
    expected = {f"user: {e['instruction']}\n\n{e['input']}\nassistant: {e['output']}\n" for e in rows_of("code") if e["input"]}
    found = {row["text"] for row in rows if row["domain"] == "code"}
    assert len(found & expected) > 5
    assert all(row["text"].startswith("<|") for row in rows if row["domain"] == "legal")
    assert any("<|assistant|>[{" in row["text"] for row in rows if row["domain"] == "legal")  # a tool call


def test_another_template_of_a_source_is_surveyed_anew(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    keys = []
    for template in (TEMPLATE, TEMPLATE + " ", TEMPLATE):
        texts = {name: {**{k: v for k, v in s.items() if k != "keep"}, "template": template} for name, s in sources.items()}
        keys.append([part.key for part in build(tmp_path, texts, tokens={"unit": "bytes"}).parts])
    assert keys[0] == keys[2]
    assert not {*keys[0]} & {*keys[1]}


def test_a_template_of_a_source_that_refuses_or_is_none(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    refusing = "{% if messages | length > 4 %}{{ raise_exception('too long') }}{% endif %}" + TEMPLATE
    texts = {name: {**{k: v for k, v in s.items() if k != "keep"}, "template": refusing} for name, s in sources.items()}
    made = build(tmp_path, texts, tokens={"unit": "bytes"}, input={"max_bad": 0.9})
    long = sum(len(row["messages"]) > 4 for row in rows_of("legal"))
    assert made.survey.reasons == {"legal": {"the template refuses the conversation": long}}
    with pytest.raises(InputError, match=r"sources.book.template: /.*/none.jinja: no such file"):
        build(tmp_path, {**texts, "book": {**texts["book"], "template": "none.jinja"}}, tokens={"unit": "bytes"})
    with pytest.raises(InputError, match=r"sources.book: 'template' makes text of conversations"):
        build(tmp_path, {**texts, "book": {"path": "x", "template": "none.jinja"}}, tokens={"unit": "bytes"})


def test_a_template_that_refuses_a_conversation_sets_it_aside(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    made = None
    template = "{% if messages | length > 4 %}{{ raise_exception('too long') }}{% endif %}" + TEMPLATE
    (tmp_path / "strict.jinja").write_text(template)
    tokens = {"tokenizer": "tokenizer.json", "template": "strict.jinja", "count": "trained"}
    made = build(tmp_path, sources, tokens=tokens, input={"max_bad": 0.9})
    long = sum(len(row["messages"]) > 4 for row in rows_of("legal"))
    assert made.survey.reasons == {"legal": {"the chat template refuses the conversation": long}}


def test_a_template_whose_growth_tells_no_turns_is_refused(tmp_path):
    sources = write_corpus(tmp_path / "corpus")
    (tmp_path / "odd.jinja").write_text("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}")
    tokens = {"tokenizer": "tokenizer.json", "template": "odd.jinja", "count": "trained"}
    with pytest.raises(InputError, match=r"tokens.template: it has no \{% generation %\}"):
        build(tmp_path, sources, tokens=tokens)
