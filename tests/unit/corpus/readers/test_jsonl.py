"""JSON lines. Oracle: `json.loads` line by line. Every reason has a line, and each line stands alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.readers import blocks, stream
from chameleon_data.corpus.readers.rows import REASONS, Fault
from tests.support.reader_files import LIMIT, BadRows, Documents, compress, quick, read_file, read_rows

LINES: list[tuple[bytes, str]] = [  # a line, and its text after ":" or its reason
    (b'{"text": "good"}', ":good"),
    (b'{"text": "good"}\r', ":good"),
    (b'\t{"text": "\\u00e9\\n\\u0000"} ', ":é\n\0"),
    ('{"text": "a\u2028b\x85c"}'.encode(), ":a\u2028b\x85c"),
    (b'{"text": "first", "text": "last"}', ":last"),
    (b'{"text": "nan", "x": NaN}', ":nan"),
    (b'{"text": "NaN \\" Infinity", "x": {"y": [-Infinity, Infinity,NaN]}, "NaN": "a\\\\"}', ':NaN " Infinity'),
    (b'{"text": NaN}', "text is not a string"),
    (b'{"text": -Infinity}', "text is not a string"),
    (b'{"text": "a", "x": nan}', "broken JSON"),
    (b'{"text": "NaN", "x": }', "broken JSON"),
    (b'{"text": "\xff", "x": NaN}', "invalid UTF-8"),
    (b'{"text": "a"', "broken JSON"),
    (b'{"text": "a"}{"text": "b"}', "broken JSON"),
    (b'{"text": "lone \\ud800"}', "half of a surrogate pair"),
    (b'{"text": "\\udc00\\ud83d"}', "half of a surrogate pair"),
    (b'{"text": "elsewhere", "\\ud800": ["\\uDFFF", NaN]}', ":elsewhere"),
    (b'{"text": "\\ud83d\\uDE00 \\\\ud800", "x": "\\ud800"}', ":\U0001f600 \\ud800"),
    (b'{"text": "a", "x": "\\ud800" }}', "broken JSON"),
    (b'{"text": 1, "x": "\\ud800"}', "text is not a string"),
    (b'{"text": "tab\t"}', "broken JSON"),
    (b'{"text": "nul\0"}', "broken JSON"),
    (b'{"text": "deep", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}", "broken JSON"),
    (b'{"text": "long number", "x": ' + b"9" * 5000 + b"}", ":long number"),
    (b'{"text": "1e400", "x": [1e400, -1.5E+999, 1e5, "1e400"]}', ":1e400"),
    (b'{"text": -1e400}', "text is not a string"),
    (b'{"text": "no number", "x": [1e400, 1.2.3]}', "broken JSON"),
    (b"text", "broken JSON"),
    (b'\xef\xbb\xbf{"text": "a"}', ":a"),  # as where `cat` joined files that begin with a mark
    (b'\xef\xbb\xbf\xef\xbb\xbf{"text": "a"}', "broken JSON"),
    (b'["text"]', "not an object"),
    (b'"text"', "not an object"),
    (b"null", "not an object"),
    (b"17", "not an object"),
    (b"{}", "no text"),
    (b'{"Text": "a"}', "no text"),
    (b'{"text": null}', "null text"),
    (b'{"text": 1}', "text is not a string"),
    (b'{"text": ["a"]}', "text is not a string"),
    (b'{"text": {"text": "a"}}', "text is not a string"),
    (b'{"text": true}', "text is not a string"),
    (b'{"text": ""}', "blank text"),
    (b'{"text": " \\n\\u3000\\u2028\\u0085\\u001f"}', "blank text"),
    (b'{"text": "' + b" " * 200 + b'"}', "blank text"),
    *((f'{{"text": "{blank}"}}'.encode(), "blank text") for blank in "\x85\xa0\u1680\u2003\u2028\u205f\u3000"),
    ('{"text": "\u200b"}'.encode(), ":\u200b"),
    (b'{"text": "' + b" " * 200 + b'x"}', ":" + " " * 200 + "x"),
    (b'{"text": "a\xff"}', "invalid UTF-8"),
    (b'{"text": "a", "x": "\xc3"}', "invalid UTF-8"),
    (b'{"text": "\xed\xa0\x80"}', "invalid UTF-8"),
    ('{"text": "utf-16"}'.encode("utf-16-be"), "broken JSON"),
    (b'{"text": "' + b"x" * LIMIT + b'"}', ":" + "x" * LIMIT),
    (b'{"text": "' + b"x" * (LIMIT + 1) + b'"}', "longer than max_document"),
    (b'{"text": "' + "é".encode() * (LIMIT // 2 + 1) + b'"}', "longer than max_document"),
    (b'{"text": "' + b"\\u0001" * LIMIT + b'"}', ":" + "\x01" * LIMIT),
    (b'{"text": "a", "x": "' + b"x" * (6 * LIMIT + 2**20) + b'"}', "longer than max_document"),
    (b"", ""),
    (b" \t\r", ""),
]


def expected(lines: Iterable[tuple[bytes, str]]) -> tuple[Documents, BadRows]:
    numbered = list(enumerate(what for _, what in lines))
    rows: Documents = [(i, "own", what[1:], None) for i, what in numbered if what.startswith(":")]
    return rows, [(i, "own", what) for i, what in numbered if what and not what.startswith(":")]


@pytest.mark.parametrize(("line", "what"), LINES, ids=[str(i) for i in range(len(LINES))])
def test_one_line(tmp_path: Path, line: bytes, what: str) -> None:
    for before, after in ((b"\n", b""), (b"\n", b"\n"), (b'{"text": "z"}\n', b'\n{"text": "z"}')):
        (tmp_path / "x.jsonl").write_bytes(before + line + after)
        rows, bad = read_rows(tmp_path / "x.jsonl")
        want = expected([(before, ":z" if len(before) > 1 else ""), (line, what), (after, ":z" if len(after) > 1 else "")])
        assert (rows, bad) == want


def test_every_reason_has_a_line() -> None:
    assert len(REASONS) == len(Fault)
    covered = {what for _, what in LINES if not what.startswith(":")}
    assert set(REASONS) - covered == {
        "wrong number of columns", "broken CSV", "no domain", "bad domain name", "no id", "domain is a float", "id is a float",
        "domain is neither a string nor an integer", "id is neither a string nor an integer", "id is not UTF-8",
        "no conversation", "not a list of messages", "unknown role", "two system turns", "no assistant turn",
        "a turn without content", "the template refuses the conversation", "domain is not a number", "a column is not UTF-8",
        "'where' cannot be evaluated for its values",
    }  # fmt: skip


@quick
@given(st.data())
def test_lines_do_not_depend_on_reads_frames_or_blocks(tmp_path: Path, data: st.DataObject) -> None:
    lines = [(b"", ""), *data.draw(st.lists(st.sampled_from(LINES), max_size=25))]
    body = b"\n".join(line for line, _ in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
    kind = data.draw(st.sampled_from(["", ".gz", ".zst"]))
    path = tmp_path / f"x.jsonl{kind}"
    path.write_bytes(b"".join(compress(piece, kind) for piece in pieces))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "READ_BYTES", data.draw(st.sampled_from([1, 7, 100, 5000, 2**17])) if len(body) < 10**5 else 2**14)
        patch.setattr(blocks, "BLOCK_ROWS", data.draw(st.sampled_from([1, 3, 2**17])))
        assert read_rows(path, block_bytes=data.draw(st.sampled_from([1, 30, 2**20]))) == expected(lines)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "a", "a.b", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@quick
@given(
    st.lists(json_values, max_size=8).filter(lambda values: not values or not isinstance(values[0], list)),
    st.sampled_from(["text", "a", "a.b", "a.b.c"]),
)
def test_fields_against_a_naive_reader(tmp_path: Path, documents: list[Any], key: str) -> None:
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents), newline="\n")
    rows: Documents = []
    bad = []
    for i, document in enumerate(documents):
        missing: Any = object()
        value = document
        if isinstance(document, dict) and key in document:
            value = document[key]
        else:
            for part in key.split("."):
                value = value.get(part, missing) if isinstance(value, dict) else missing
        if not isinstance(document, dict):
            bad.append((i, "own", "not an object"))
        elif value is missing:
            bad.append((i, "own", "no text"))
        elif value is None:
            bad.append((i, "own", "null text"))
        elif not isinstance(value, str):
            bad.append((i, "own", "text is not a string"))
        elif not value.strip():
            bad.append((i, "own", "blank text"))
        else:
            rows.append((i, "own", value, None))
    assert read_rows(tmp_path / "x.jsonl", text=key) == (rows, bad)


def test_byte_order_mark_and_last_line(tmp_path: Path) -> None:
    for body in (b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}', b'\xef\xbb\xbf\n{"text": "b"}', b"\xef\xbb\xbf"):
        (tmp_path / "x.jsonl").write_bytes(body)
        for size in (1, 2, 100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stream, "READ_BYTES", size)
                assert [row[2] for row in read_rows(tmp_path / "x.jsonl")[0]] == [c for c in "ab" if f'"{c}"'.encode() in body]
                assert read_rows(tmp_path / "x.jsonl")[1] == []


def test_domains_and_ids_by_line(tmp_path: Path) -> None:
    lines: list[Any] = [
        {"text": "a", "id": "x", "meta": {"set": "RedPajamaC4"}},
        {"text": "b", "id": 7, "meta": {"set": "other"}},
        {"text": 1, "id": "y", "meta": {"set": "other"}},  # a bad text keeps its row's domain
        {"text": "c", "id": "z", "meta": {}},
        {"text": "c", "id": "z"},
        {"text": "c", "id": "z", "meta": {"set": None}},
        {"text": "c", "id": "z", "meta": {"set": ["list"]}},
        {"text": "c", "id": "z", "meta": "set"},
        {"text": "c", "id": "z", "meta": {"set": " blank "}},
        {"text": "c", "id": "z", "meta": {"set": ""}},
        {"text": "c", "meta": {"set": "other"}},
        {"text": "c", "id": None, "meta": {"set": "c4"}},
        {"text": "c", "id": 1.5, "meta": {"set": "other"}},
        {"text": "c", "id": True, "meta": {"set": "other"}},
        {"text": "c", "id": "", "meta": {"set": "other"}},
        "not an object",
        {"id": "q", "meta.set": "c4", "text": "d", "meta": {"set": "other"}},  # the key as it stands wins
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows, bad = read_rows(tmp_path / "x.jsonl", domain="meta.set", rename={"RedPajamaC4": "c4"}, id="id")
    assert rows == [(0, "c4", "a", "x"), (1, "other", "b", "7"), (16, "c4", "d", "q")]
    assert bad == [
        (2, "other", "text is not a string"),
        *((i, "own", "no domain") for i in range(3, 6)),
        (6, "own", "domain is neither a string nor an integer"),
        (7, "own", "no domain"),
        (8, "own", "bad domain name"),
        (9, "own", "bad domain name"),
        (10, "other", "no id"),
        (11, "c4", "no id"),
        (12, "other", "id is a float"),
        (13, "other", "id is neither a string nor an integer"),
        (14, "other", "no id"),
        (15, "own", "not an object"),
    ]
    (tmp_path / "x.jsonl").write_text('{"text": "a", "set": 0}\n{"text": "b", "set": 1.0}\n{"text": "c", "set": NaN}\n')
    rows, bad = read_rows(tmp_path / "x.jsonl", domain="set")
    assert (rows, bad) == ([(0, "0", "a", None)], [(i, "own", "domain is a float") for i in (1, 2)])


def test_blocks_of_bad_rows_alone_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"{}\n" * 3000)
    assert [len(b.bad) for _, b in read_file(tmp_path / "bad.jsonl")] == [3000]
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 500)
    monkeypatch.setattr(stream, "READ_BYTES", 300)
    assert [len(b.bad) for _, b in read_file(tmp_path / "bad.jsonl")] == [500] * 6
