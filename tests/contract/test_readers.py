"""Oracles: the same texts in every format read as the same documents; `json.loads` line by line; what a file held before it
was cut. That memory does not grow with the file is tested on two sizes here, and measured on gigabytes by `make bench`."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers import blocks as readers
from chameleon_data.corpus.readers.blocks import Block, read_blocks
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source

Rows = list[tuple[int, str, str, str | None]]  # row, domain, text, id
LIMIT = 10_000
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def blocks(path: Path, limit: int = LIMIT, block_bytes: int = 2**20, **keys: Any) -> list[Block]:
    source = Source(path=(str(path),), **keys)
    found = [b for f in list_fragments("own", source) for b in read_blocks(f, source, limit, block_bytes)]
    for block in found:
        assert block.text.type == pa.large_string()
        assert block.text.null_count == 0
        block.text.validate(full=True)
        assert block.rows.dtype == np.int64
        assert block.domain.dtype == np.int32
        assert len(block.text) == len(block.rows) == len(block.domain)
        assert (block.ids is None) == (source.id is None)
        assert block.ids is None or (len(block.ids) == len(block.text) and block.ids.null_count == 0)
        assert len(block.text) + len(block.bad) > 0
    return found


def read(path: Path, **keys: Any) -> tuple[Rows, list[tuple[int, str, str]]]:
    rows: Rows = []
    bad = []
    for b in blocks(path, **keys):
        ids = b.ids.to_pylist() if b.ids is not None else [None] * len(b.rows)
        rows += zip(b.rows.tolist(), [b.names[d] for d in b.domain], b.text.to_pylist(), ids, strict=True)
        bad += [(r.row, r.domain, r.reason) for r in b.bad]
    return rows, sorted(bad)


def write(path: Path, texts: Sequence[str], ids: Sequence[Any], sets: Sequence[str]) -> Path:
    """The rows as a file of the kind that the name says."""
    if path.suffix in (".gz", ".zst"):
        plain = write(path.with_suffix(""), texts, ids, sets).read_bytes()
        half = len(plain) // 2
        one = gzip.compress if path.suffix == ".gz" else zstandard.compress
        path.write_bytes(one(plain[:half]) + one(plain[half:]))
        path.with_suffix("").unlink()
        return path
    table = pa.table({"id": ids, "text": texts, "meta": [{"set": s} for s in sets]})
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("id", "text", "meta.set"), *zip(ids, texts, sets, strict=True)])
    elif path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=4)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, str(path))
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as out:
            out.write_table(table, max_chunksize=3)
    else:
        with pa.ipc.new_file(path, table.schema) as out:
            out.write_table(table, max_chunksize=3)
    return path


KINDS = [f".{base}{how}" for base in ("jsonl", "ndjson", "json", "csv") for how in ("", ".gz", ".zst")]
KINDS += [".parquet", ".feather", ".arrow", ".ipc"]
TEXTS = ["plain", 'two\nlines\r\nand "quotes", commas', "ünïcödé 漢字 🙂 \u2028 \x85 \u0600", "a\x00b", " x ", "\ufeffmark"]
TEXTS += ["NA", "null", "1.5", "y" * 9000]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_and_compression_gives_the_same_documents(tmp_path: Path, kind: str) -> None:
    n = len(TEXTS)
    sets = ["web" if i % 3 else "Books" for i in range(n)]
    path = write(tmp_path / f"x{kind}", TEXTS, list(range(n)), sets)
    rows, bad = read(path, id="id", domain="meta.set", rename={"Books": "book"}, block_bytes=50)
    assert rows == [(i, "web" if i % 3 else "book", TEXTS[i], str(i)) for i in range(n)]
    assert bad == []
    assert read(path)[0] == [(i, "own", text, None) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("how", ["", ".gz", ".zst"])
def test_a_text_file_is_one_document(tmp_path: Path, how: str) -> None:
    pack: Callable[[bytes], bytes] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[how]
    cases = [
        ("a\r\nb\n", [(0, "own", "a\r\nb\n", None)], []),
        ("\ufeffa", [(0, "own", "a", None)], []),
        ("x" * LIMIT, [(0, "own", "x" * LIMIT, None)], []),
        ("x" * (LIMIT + 1), [], [(0, "own", "longer than max_document")]),
        ("x" * 500_000, [], [(0, "own", "longer than max_document")]),
        (" \n\u3000", [], [(0, "own", "blank text")]),
        ("", [], [(0, "own", "blank text")]),
    ]
    for text, rows, bad in cases:
        (tmp_path / f"x.txt{how}").write_bytes(pack(text.encode()))
        assert read(tmp_path / f"x.txt{how}") == (rows, bad)
    (tmp_path / f"x.txt{how}").write_bytes(pack(b"a\xff"))
    assert read(tmp_path / f"x.txt{how}") == ([], [(0, "own", "invalid UTF-8")])


# JSON lines: every reason, and lines judged alone

LINES: list[tuple[bytes, str]] = [  # a line, and its text after ":" or its reason
    (b'{"text": "good"}', ":good"),
    (b'{"text": "good"}\r', ":good"),
    (b'\t{"text": "\\u00e9\\n\\u0000"} ', ":é\n\0"),
    ('{"text": "a\u2028b\x85c"}'.encode(), ":a\u2028b\x85c"),
    (b'{"text": "first", "text": "last"}', ":last"),
    (b'{"text": "nan", "x": NaN}', "broken JSON"),
    (b'{"text": "a"', "broken JSON"),
    (b'{"text": "a"}{"text": "b"}', "broken JSON"),
    (b'{"text": "lone \\ud800"}', "broken JSON"),
    (b'{"text": "tab\t"}', "broken JSON"),
    (b'{"text": "nul\0"}', "broken JSON"),
    (b'{"text": "deep", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}", "broken JSON"),
    (b'{"text": "long number", "x": ' + b"9" * 5000 + b"}", "broken JSON"),
    (b"text", "broken JSON"),
    (b'\xef\xbb\xbf{"text": "a"}', "broken JSON"),
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


def expected(lines: Iterable[tuple[bytes, str]]) -> tuple[Rows, list[tuple[int, str, str]]]:
    numbered = list(enumerate(what for _, what in lines))
    rows: Rows = [(i, "own", what[1:], None) for i, what in numbered if what.startswith(":")]
    return rows, [(i, "own", what) for i, what in numbered if what and not what.startswith(":")]


@pytest.mark.parametrize(("line", "what"), LINES, ids=[str(i) for i in range(len(LINES))])
def test_one_line(tmp_path: Path, line: bytes, what: str) -> None:
    for before, after in ((b"\n", b""), (b"\n", b"\n"), (b'{"text": "z"}\n', b'\n{"text": "z"}')):
        (tmp_path / "x.jsonl").write_bytes(before + line + after)
        rows, bad = read(tmp_path / "x.jsonl")
        want = expected([(before, ":z" if len(before) > 1 else ""), (line, what), (after, ":z" if len(after) > 1 else "")])
        assert (rows, bad) == want


def test_every_reason_has_a_line() -> None:
    covered = {what for _, what in LINES if not what.startswith(":")}
    assert set(readers.REASONS) - covered == {"wrong number of columns", "broken CSV", "no domain", "bad domain name", "no id"}


@quick
@given(st.data())
def test_lines_do_not_depend_on_reads_frames_or_blocks(tmp_path: Path, data: st.DataObject) -> None:
    lines = [(b"", ""), *data.draw(st.lists(st.sampled_from(LINES), max_size=25))]
    body = b"\n".join(line for line, _ in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
    kind = data.draw(st.sampled_from(["", ".gz", ".zst"]))
    pack: Callable[[bytes], bytes] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[kind]
    path = tmp_path / f"x.jsonl{kind}"
    path.write_bytes(b"".join(map(pack, pieces)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "READ_BYTES", data.draw(st.sampled_from([1, 7, 100, 5000, 2**17])) if len(body) < 10**5 else 2**14)
        patch.setattr(readers, "BLOCK_ROWS", data.draw(st.sampled_from([1, 3, 2**17])))
        assert read(path, block_bytes=data.draw(st.sampled_from([1, 30, 2**20]))) == expected(lines)


@quick
@given(st.text("\n\r\x85xy", max_size=60), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 20))
def test_splitting_lines(text: str, cuts: list[int], longest: int) -> None:
    body = text.encode("latin-1")
    chunks = [body[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(body)])]
    naive = [line if len(line) <= longest else None for line in body.split(b"\n")]
    runs = list(readers._lines([c for c in chunks if c], longest))
    assert [line for _, run in runs for line in run] == naive
    assert [first for first, _ in runs] == [0, *itertools.accumulate(len(run) for _, run in runs)][:-1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "a", "a.b", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@quick
@given(st.lists(json_values, max_size=8), st.sampled_from(["text", "a", "a.b", "a.b.c"]))
def test_fields_against_a_naive_reader(tmp_path: Path, documents: list[Any], key: str) -> None:
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents), newline="\n")
    rows: Rows = []
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
    assert read(tmp_path / "x.jsonl", text=key) == (rows, bad)


def test_byte_order_mark_and_last_line(tmp_path: Path) -> None:
    for body in (b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}', b'\xef\xbb\xbf\n{"text": "b"}', b"\xef\xbb\xbf"):
        (tmp_path / "x.jsonl").write_bytes(body)
        for size in (1, 2, 100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(readers, "READ_BYTES", size)
                assert [row[2] for row in read(tmp_path / "x.jsonl")[0]] == [c for c in "ab" if f'"{c}"'.encode() in body]
                assert read(tmp_path / "x.jsonl")[1] == []


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
    rows, bad = read(tmp_path / "x.jsonl", domain="meta.set", rename={"RedPajamaC4": "c4"}, id="id")
    assert rows == [(0, "c4", "a", "x"), (1, "other", "b", "7"), (16, "c4", "d", "q")]
    assert bad == [
        (2, "other", "text is not a string"),
        *((i, "own", "no domain") for i in range(3, 8)),
        (8, "own", "bad domain name"),
        (9, "own", "bad domain name"),
        (10, "other", "no id"),
        (11, "c4", "no id"),
        *((i, "other", "no id") for i in range(12, 15)),
        (15, "own", "not an object"),
    ]


# Nothing ends early in silence


def single_frame(kind: str, path: Path, count: int = 12) -> Rows:
    rng = random.Random(1)
    texts = [f"{i} {rng.random()}" for i in range(count)]
    if kind.endswith((".gz", ".zst")):
        body = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
        path.write_bytes(gzip.compress(body) if kind.endswith(".gz") else zstandard.compress(body))
    else:
        write(path, texts, list(range(count)), ["s"] * count)
    return [(i, "own", text, None) for i, text in enumerate(texts)]


@pytest.mark.parametrize("kind", [".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow", ".ipc", ".feather"])
def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x{kind}"
    rows = single_frame(kind, path)
    whole = path.read_bytes()
    assert read(path)[0] == rows
    for end in range(0, len(whole), 1 if len(whole) < 1000 else 3):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"x\.\w+.*(truncated|damaged).*; fetch it again"):
            read(path)


@pytest.mark.parametrize("kind", [".jsonl.gz", ".jsonl.zst"])
def test_frames_and_what_follows_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x{kind}"
    rows = single_frame(kind, path)
    one = path.read_bytes()
    path.write_bytes(one * 3)
    assert [row[2] for row in read(path)[0]] == [row[2] for row in rows] * 3
    assert [row[0] for row in read(path)[0]] == list(range(3 * len(rows)))
    for garbage in (b"\0", b"x", b"trailing bytes", b"\0" * 512, one[:5], one[:-1]):
        path.write_bytes(one + garbage)
        with pytest.raises(InputError, match="fetch it again"):
            read(path)
    if kind == ".jsonl.zst":  # what pzstd and the seekable format add
        path.write_bytes(one + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + one)
        assert len(read(path)[0]) == 2 * len(rows)


def test_a_zstd_window_that_would_take_gigabytes(tmp_path: Path) -> None:
    options = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    (tmp_path / "x.jsonl.zst").write_bytes(packer.compress(b'{"text": "a"}\n') + packer.flush())
    with pytest.raises(InputError, match="window is larger than 128 MiB"):
        read(tmp_path / "x.jsonl.zst")


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("x.jsonl", gzip.compress(b"{}"), "holds gzip"),
        ("x.csv", zstandard.compress(b"{}"), "holds zstd"),
        ("x.txt", b"PAR1....PAR1", "holds Parquet"),
        ("x.jsonl.gz", b'{"text": "a"}\n', "not what its name says"),
        ("x.jsonl.gz", zstandard.compress(b"{}"), "not what its name says"),
        ("x.arrow", b"FEA1....FEA1", "Feather version 1"),
        ("x.arrow", b'{"text": "a"}\n', "truncated"),
        ("x.ipc", b"", "truncated"),
        ("x.csv", b"id\n1\n", "no column 'text' for the text"),
        ("x.jsonl", b"PK\x03\x04....", "holds zip.*unpack it"),
        ("x.csv", "text\na\n".encode("utf-16"), "holds UTF-16.*UTF-8"),
        ("x.txt", b"\xfe\xff\0a", "holds UTF-16"),
    ],
)
def test_names_that_lie(tmp_path: Path, name: str, body: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InputError, match=says):
        read(tmp_path / name)


def test_flipped_bits_in_parquet_with_checksums(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(50)]}), path, write_page_checksum=True, compression="none")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"text 30")
    whole[at] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match="fetch it again"):
        read(path)


# Columns


@pytest.mark.parametrize("kind", [".parquet", ".arrow", ".ipc", ".feather"])
@pytest.mark.parametrize(
    "kind_of_text",
    [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(), pa.binary_view(),
     pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string())],
    ids=str,
)  # fmt: skip
def test_string_types_of_columns(tmp_path: Path, kind: str, kind_of_text: pa.DataType) -> None:
    values = [b"good", None, b"", b" ", b"a\xff", b"good", "é".encode(), b"x" * 101]
    if pa.types.is_dictionary(kind_of_text):
        raw = pa.array(values, pa.binary()).dictionary_encode()
        inner = raw.dictionary.cast(pa.large_binary() if kind_of_text.value_type == pa.large_string() else pa.binary())
        column = pa.DictionaryArray.from_arrays(raw.indices.cast(kind_of_text.index_type), inner.view(kind_of_text.value_type))
    elif pa.types.is_string(kind_of_text) or kind_of_text == pa.string_view():
        column = pa.array(values, pa.binary() if kind_of_text == pa.string() else pa.binary_view()).view(kind_of_text)
    else:
        column = pa.array(values, pa.large_binary() if kind_of_text == pa.large_string() else kind_of_text).view(kind_of_text)
    path = tmp_path / f"x{kind}"
    table = pa.table({"other": list(range(8)), "text": column})
    if kind == ".parquet" and kind_of_text == pa.dictionary(pa.int8(), pa.large_string()):
        pq.write_table(table, path)
        with pytest.raises(InputError, match="Invalid UTF8"):  # pyarrow checks this one type itself, for the file as a whole
            read(path)
        return
    if kind == ".parquet":
        pq.write_table(table, path, row_group_size=3)
    elif kind == ".feather":
        pyarrow.feather.write_feather(table, str(path), compression="zstd")
    else:
        with (pa.ipc.new_stream if kind == ".arrow" else pa.ipc.new_file)(path, table.schema) as out:
            out.write_table(table)
    rows, bad = read(path, limit=100, id="other")
    assert rows == [(0, "own", "good", "0"), (5, "own", "good", "5"), (6, "own", "é", "6")]
    assert bad == [
        (1, "own", "null text"), (2, "own", "blank text"), (3, "own", "blank text"),
        (4, "own", "invalid UTF-8"), (7, "own", "longer than max_document"),
    ]  # fmt: skip


def test_columns_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(
        {
            "number": [1, None, 3],
            "nothing": pa.nulls(3),
            "list": [["a"], ["b"], None],
            "meta": [{"text": "a", "set": "s", "n": 1}, {"text": None, "set": None, "n": 2}, None],
            "meta.n": ["literal", "literal", "literal"],
            "text": ["x", "y", "z"],
        }
    )
    pq.write_table(table, path)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as out:
        out.write_table(table)
    not_string = "text is not a string"
    for file in (path, tmp_path / "x.arrow"):
        assert read(file, text="number")[1] == [(0, "own", not_string), (1, "own", "null text"), (2, "own", not_string)]
        assert read(file, text="nothing")[1] == [(i, "own", "null text") for i in range(3)]
        assert read(file, text="list")[1] == [(0, "own", not_string), (1, "own", not_string), (2, "own", "null text")]
        assert read(file, text="meta")[1] == [(0, "own", not_string), (1, "own", not_string), (2, "own", "null text")]
        nested = read(file, text="meta.text", domain="meta.set")
        assert nested == ([(0, "s", "a", None)], [(1, "own", "null text"), (2, "own", "null text")])
        assert [row[2] for row in read(file, text="meta.n")[0]] == ["literal"] * 3
        assert read(file, domain="number")[1] == [(i, "own", "no domain") for i in range(3)]
        assert read(file, id="number") == ([(0, "own", "x", "1"), (2, "own", "z", "3")], [(1, "own", "no id")])
        for keys in ({"text": "body"}, {"text": "meta.body"}, {"domain": "set"}, {"id": "text.id"}):
            with pytest.raises(
                InputError, match=r"no column '.*' for the \w+; there are number, nothing, list, meta, meta\.n, text"
            ):
                read(file, **keys)


def test_extension_types_are_refused_unread(tmp_path: Path) -> None:
    ran = []

    class Foreign(pa.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pa.string(), "chameleon.test")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: pa.DataType, data: bytes) -> Foreign:
            return cls()

        def __arrow_ext_class__(self) -> type:
            class Values(pa.ExtensionArray):  # type: ignore[misc]
                def __init__(self) -> None:
                    ran.append(1)

            return Values

    table = pa.table({"text": pa.ExtensionArray.from_storage(Foreign(), pa.array(["a"])), "plain": ["b"]})
    pq.write_table(table, tmp_path / "x.parquet")
    pyarrow.feather.write_feather(table, str(tmp_path / "x.feather"))
    for name in ("x.parquet", "x.feather"):
        with pytest.raises(InputError, match="extension type"):  # not registered here: known by its name alone
            read(tmp_path / name)
        assert [row[2] for row in read(tmp_path / name, text="plain")[0]] == ["b"]
    pa.register_extension_type(Foreign())
    try:
        for name, key in itertools.product(("x.parquet", "x.feather"), ("text", "plain")):
            with pytest.raises(InputError, match="extension type"):
                read(tmp_path / name, text=key)
    finally:
        pa.unregister_extension_type("chameleon.test")
    assert not ran


def test_offsets_that_point_outside_are_refused(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 5, 3, 9], np.int32))
    hostile = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcdefghi")])
    with pa.ipc.new_file(tmp_path / "x.arrow", pa.schema([("text", pa.string())])) as out:
        out.write_batch(pa.record_batch([hostile], ["text"]))
    with pytest.raises(InputError, match="fetch it again"):
        read(tmp_path / "x.arrow")


def test_row_numbers_are_of_the_file(tmp_path: Path) -> None:
    texts = [None if i % 7 == 3 else f"text {i}" for i in range(5000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", row_group_size=1300)
    pyarrow.feather.write_feather(pa.table({"text": texts}), str(tmp_path / "x.feather"), chunksize=1700)
    for name in ("x.parquet", "x.feather"):
        rows, bad = read(tmp_path / name, block_bytes=20_000)
        assert rows == [(i, "own", text, None) for i, text in enumerate(texts) if text]
        assert bad == [(i, "own", "null text") for i, text in enumerate(texts) if text is None]


@pytest.mark.parametrize("kind", [".parquet", ".feather", ".arrow", ".ipc", ".csv", ".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_damage_is_quarantined_or_refused(tmp_path: Path, kind: str) -> None:
    """Bytes flipped, lost and added: never another exception, never a crash. Seeded; 35,000 such files were tried once."""
    path = write(tmp_path / f"x{kind}", TEXTS, list(range(len(TEXTS))), ["s"] * len(TEXTS))
    whole, rng = path.read_bytes(), random.Random(kind)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 2, 8])):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        path.write_bytes(damaged)
        try:
            rows, bad = read(path, id="id", domain="meta.set")
        except InputError:
            continue
        assert len({row for row, *_ in [*rows, *bad]}) == len(rows) + len(bad)


# CSV


def test_csv_records(tmp_path: Path) -> None:
    body = (
        b'\xef\xbb\xbfid,text,set\r\n1,"a ""b""\n\nc",s\r\n\r\n2,short\r\n3,"x,y",s\r\n4,a,b,c\r\n5,a,b,c\r\n'
        b"6,\xff,s\n\n7,,s\n8,bad domain, s\n,no id,s\n10,last,s\n11"
    )
    (tmp_path / "x.csv").write_bytes(body)
    (tmp_path / "x.csv.zst").write_bytes(zstandard.compress(body))
    for name in ("x.csv", "x.csv.zst"):
        rows, bad = read(tmp_path / name, id="id", domain="set")
        assert rows == [(0, "s", 'a "b"\n\nc', "1"), (2, "s", "x,y", "3"), (9, "s", "last", "10")]
        wrong = "wrong number of columns"
        assert bad == [
            (1, "own", wrong), (3, "own", wrong), (4, "own", wrong), (5, "s", "invalid UTF-8"),
            (6, "s", "blank text"), (7, "own", "bad domain name"), (8, "s", "no id"), (10, "own", wrong),
        ]  # fmt: skip


@quick
@given(st.data())
def test_csv_against_the_csv_module(tmp_path: Path, data: st.DataObject) -> None:
    cell = st.text(st.sampled_from('a"\n,é '), max_size=4)
    table = data.draw(st.lists(st.lists(cell, min_size=1, max_size=4).filter(lambda r: len(r) > 1), max_size=40))
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"]))).writerows(
        [["id", "text"], *table]
    )
    (tmp_path / "x.csv").write_text(out.getvalue(), newline="")
    rows: Rows = []
    bad = []
    for i, row in enumerate(table):
        if len(row) != 2:
            bad.append((i, "own", "wrong number of columns"))
        elif not row[1].strip():
            bad.append((i, "own", "blank text"))
        else:
            rows.append((i, "own", row[1], None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BATCH_ROWS", data.draw(st.sampled_from([1, 3, 2**10])))
        assert read(tmp_path / "x.csv", block_bytes=data.draw(st.sampled_from([1, 2**20]))) == (rows, bad)


def test_csv_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "CSV_RECORD", 1000)
    (tmp_path / "x.csv").write_bytes(b"text\n" + b"a\n" * 1000 + b'"not closed\n' + b"b\n" * 2000)
    with pytest.raises(InputError, match=r"record 1001 is longer than .* is a quote not closed"):
        read(tmp_path / "x.csv")
    for body, says in (
        (b"body,id\na,b\n", "no column 'text' for the text; there are body, id"),
        (b"text,text\na,b\n", "stands twice"),
        (b'text\na\n"b\nc\n', "truncated, or a quote is not closed, in record 1"),
        (b'"text\na\n', "no header"),
        (b"text\ra\rb\r", "no header"),
        (b"\xff\xfet\0e\0x\0t\0\n\0a\0", "holds UTF-16"),
    ):
        (tmp_path / "x.csv").write_bytes(body)
        with pytest.raises(InputError, match=says):
            read(tmp_path / "x.csv")


def test_csv_records_that_are_broken(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'\n\r\nid,text\n1,"a"b\n\xff,\xff,\xff\n2,a\rb\n3,a"b\n4,"\xff"\n')
    wrong = [(0, "own", "broken CSV"), (1, "own", "wrong number of columns"), (2, "own", "broken CSV")]
    assert read(tmp_path / "x.csv") == ([(3, "own", 'a"b', None)], [*wrong, (4, "own", "invalid UTF-8")])


# Bounds


def test_blocks_are_of_the_size_asked_for(tmp_path: Path) -> None:
    texts = ["x" * 1000] * 3000
    write(tmp_path / "x.jsonl", texts, range(3000), ["s"] * 3000)
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", use_dictionary=False)
    pyarrow.feather.write_feather(pa.table({"text": texts}), str(tmp_path / "x.feather"), compression="uncompressed")
    for name in ("x.jsonl", "x.parquet", "x.feather"):
        sizes = [sum(map(len, b.text.to_pylist())) for b in blocks(tmp_path / name, block_bytes=500_000)]
        assert sum(sizes) == 3_000_000
        assert len(sizes) >= 3
        assert all(500_000 <= size < 1_600_000 for size in sizes[:-1])
    (tmp_path / "bad.jsonl").write_bytes(b"{}\n" * 3000)
    assert [len(b.bad) for b in blocks(tmp_path / "bad.jsonl")] == [3000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BLOCK_ROWS", 500)
        patch.setattr(readers, "READ_BYTES", 300)
        assert [len(b.bad) for b in blocks(tmp_path / "bad.jsonl")] == [500] * 6


def peak(path: Path) -> int:
    """Peak memory in MiB of a fresh process that reads the file."""
    code = f"""
from pathlib import Path
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.recipe import Source
from chameleon_data.corpus.fragments import list_fragments
source = Source(path=({str(path)!r},))
for fragment in list_fragments("own", source):
    for block in read_blocks(fragment, source, 2**20, 2**20):
        pass
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps({"text": "word " * 2000}).encode() + b"\n"
    (tmp_path / "small.jsonl").write_bytes(line * 100)
    (tmp_path / "large.jsonl").write_bytes(line * 20_000)  # 200 MB
    packer = zstandard.ZstdCompressor().compressobj()
    with (tmp_path / "line.jsonl.zst").open("wb") as file:  # one line of 400 MB
        file.write(packer.compress(b'{"text": "'))
        for _ in range(400):
            file.write(packer.compress(b"x" * 10**6))
        file.write(packer.flush())
    rng = np.random.default_rng(0)
    noise = [rng.bytes(4000).hex() for _ in range(20_000)]  # 160 MB in one row group
    pq.write_table(pa.table({"text": noise}), tmp_path / "group.parquet", use_dictionary=False)
    base = peak(tmp_path / "small.jsonl")
    for name in ("large.jsonl", "line.jsonl.zst", "group.parquet"):
        assert peak(tmp_path / name) - base < 110, name


# Vectors


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.ipc"])
@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 3), pa.large_list(pa.float64()), pa.list_(pa.float16())], ids=str
)
def test_a_column_of_vectors_is_read_along(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    vectors = [[float(i), 0.5, -i] for i in range(9)]
    wrong: list[Any] = [None, [1.0, float("nan"), 0.0], [1.0, float("inf"), 0.0], [1.0, None, 0.0]]
    vectors[4:8] = wrong
    texts = [f"text {i}" for i in range(8)] + [None]
    table = pa.table({"text": texts, "meta": pa.StructArray.from_arrays([pa.array(vectors, kind)], ["vector"])})
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(table, path, row_group_size=4)
    else:
        pyarrow.feather.write_feather(table, str(path), chunksize=3)
    source = Source(path=(str(path),))
    found = [b for f in list_fragments("own", source) for b in read_blocks(f, source, LIMIT, vectors="meta.vector")]
    assert [v for b in found for v in b.vectors.to_pylist()] == [*vectors[:4], None, None, None, None]
    assert [t for b in found for t in b.text.to_pylist()] == texts[:8]
    assert {b.vectors.type for b in found} == {pa.large_list(pa.float32())}
    assert all(b.vectors is None for f in list_fragments("own", source) for b in read_blocks(f, source, LIMIT))


@pytest.mark.parametrize(
    ("column", "says"),
    [(pa.array([[1, 2]]), "wants lists of float"), (pa.array(["x"]), "wants lists of float"), (None, "no column 'vector'")],
    ids=["integers", "strings", "missing"],
)
def test_what_is_no_column_of_vectors_is_refused(tmp_path: Path, column: pa.Array | None, says: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], **({} if column is None else {"vector": column})}), path)
    source = Source(path=(str(path),))
    (fragment,) = list_fragments("own", source)
    with pytest.raises(InputError, match=says):
        list(read_blocks(fragment, source, LIMIT, vectors="vector"))
    (tmp_path / "b.jsonl").write_text('{"text": "a", "vector": [1.0]}\n')
    source = Source(path=(str(tmp_path / "b.jsonl"),))
    (fragment,) = list_fragments("own", source)
    with pytest.raises(InputError, match=r"only Parquet and Arrow"):
        list(read_blocks(fragment, source, LIMIT, vectors="vector"))
