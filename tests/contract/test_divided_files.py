"""A file in fragments gives the rows of the whole file, with their numbers, wherever it is divided."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.fragments import Fragment, list_fragments
from chameleon_data.corpus.readers import stream
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source
from tests.support.framed_files import bgzf, seekable_zstd, zstd_frames
from tests.support.reader_files import LIMIT, quick, read_rows

STEP = "chameleon_data.corpus.fragments.FRAGMENT_BYTES"
LINES: Sequence[bytes] = [
    b'{"text": "good"}', b'{"text": "a return"}\r', b'{"text": "two\\nlines \xe2\x80\xa8 \xc2\x85"}', b"", b" \t\r", b"{}",
    b'{"text": "b"', b"broken", b'["text"]', b'{"text": "\xff"}', b'\xef\xbb\xbf{"text": "a mark in the middle"}',
    b'{"text": "' + b"x" * (LIMIT + 1) + b'"}', b'{"text": "' + b"y" * 3000 + b'"}',
]  # fmt: skip
WRITERS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "x.jsonl": b"".join,
    "x.jsonl.zst": zstd_frames,
    "seekable.jsonl.zst": seekable_zstd,
    "sums.jsonl.zst": lambda pieces: seekable_zstd(pieces, sums=True),
    "x.jsonl.gz": bgzf,
}


def fragments_of(path: Path) -> tuple[Fragment, ...]:
    return list_fragments("own", Source(path=(str(path),))).fragments


@quick
@given(st.data())
def test_lines(tmp_path: Path, data: st.DataObject) -> None:
    lines = [data.draw(st.sampled_from([b'{"text": "first"}', b'\xef\xbb\xbf{"text": "first"}', b'\r\n {"text": "first"}']))]
    lines += data.draw(st.lists(st.sampled_from(LINES), max_size=25))
    body = b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n", b"\n\n \n"]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
    (tmp_path / "whole.jsonl").write_bytes(body)
    expected = read_rows(tmp_path / "whole.jsonl")
    name = data.draw(st.sampled_from(list(WRITERS)))
    path = tmp_path / name
    path.write_bytes(WRITERS[name](pieces))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "READ_BYTES", data.draw(st.sampled_from([7, 100, 2**17])))
        patch.setattr(STEP, max(data.draw(st.sampled_from([1, 5, 16, 60, 1000])), path.stat().st_size // 200))
        assert read_rows(path) == expected
        found = fragments_of(path)
        if name == "x.jsonl" and len(body) > 1200:
            assert len(found) > 1
    assert sum(f.size for f in found) == path.stat().st_size
    assert [f.end for f in found] == [*(f.begin for f in found[1:]), None]


@pytest.mark.parametrize("name", WRITERS)
def test_all_of_them_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source = random.Random(1)
    body = b"".join(b'{"text": "%s"}\n' % source.randbytes(200).hex().encode() for _ in range(200))
    pieces = [body[at : at + 3000] for at in range(0, len(body), 3000)]
    path = tmp_path / name
    path.write_bytes(WRITERS[name](pieces))
    monkeypatch.setattr(STEP, path.stat().st_size // 7)
    found = fragments_of(path)
    assert len(found) in (7, 8)
    assert all(0.3 < f.size / (path.stat().st_size / 7) < 1.7 for f in found[:-1])
    texts = [[t for b in read_blocks(f, Source(path=("x",)), LIMIT) for t in b.text.to_pylist()] for f in found]
    assert [t for some in texts for t in some] == [json.loads(line)["text"] for line in body.splitlines()]
    assert all(texts)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("x.jsonl.zst", zstandard.compress(b'{"text": "a"}\n' * 100)),
        ("x.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 100) * 3),
        ("x.json", json.dumps([{"text": f"a{i}"} for i in range(100)]).encode()),
        ("x.csv", b"text\n" + b"a\n" * 100),
        ("x.txt", b"a\n" * 100),
    ],
)
def test_what_is_read_by_one_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes) -> None:
    monkeypatch.setattr(STEP, 3)
    (tmp_path / name).write_bytes(body)
    (fragment,) = fragments_of(tmp_path / name)
    assert not fragment.divided


def test_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": [f"{i} " * (i % 7) for i in range(100)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=7)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=7)
    for path in (tmp_path / "x.parquet", tmp_path / "x.arrow"):
        monkeypatch.undo()
        assert len(fragments_of(path)) == 1
        expected = read_rows(path)
        assert len(expected[0]) + len(expected[1]) == 100
        for step in (1, 1500):
            monkeypatch.setattr(STEP, step)
            assert 2 <= len(fragments_of(path)) <= 15
            assert read_rows(path) == expected


def test_a_boundary_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seek table may lie; its frames are then not where it says, or do not end there."""
    source = random.Random(2)
    pieces = [b'{"text": "%s"}\n' % source.randbytes(50).hex().encode() for _ in range(9)]
    whole = seekable_zstd(pieces)
    monkeypatch.setattr(STEP, 2 * len(whole) // 9)
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(whole)
    expected = read_rows(path)
    assert len(fragments_of(path)) > 2
    frame = len(zstandard.compress(pieces[0]))
    begin = len(whole) - 9 - 8 * 9
    for shift in (1, 4, frame):  # the last: a boundary is left out, and two frames are taken for one
        entries = bytearray(whole)
        first, second = (int.from_bytes(whole[at : at + 4], "little") for at in (begin, begin + 8))
        entries[begin : begin + 4] = (first + shift).to_bytes(4, "little")
        entries[begin + 8 : begin + 12] = (max(0, second - shift)).to_bytes(4, "little")
        path.write_bytes(bytes(entries))
        assert read_rows(path) == expected
    found = fragments_of(path)
    lying = Fragment(**{**vars(found[1]), "begin": found[1].begin + 1})
    for fragment in (lying, Fragment(**{**vars(found[0]), "end": found[0].size - 1})):
        with pytest.raises(InputError, match=r"x\.jsonl\.zst: (truncated|.*damaged|holds something else)"):
            list(read_blocks(fragment, Source(path=(str(path),)), LIMIT))


@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_told_as_in_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Flipped, lost and added bytes: the same rows, or a refusal in both."""
    source = random.Random(name)
    pieces = [b'{"text": "%s"}\n' % source.randbytes(30).hex().encode() * 3 for _ in range(12)]
    path = tmp_path / name
    for _ in range(60):
        body = bytearray(WRITERS[name](pieces))
        at = source.randrange(20, len(body))
        body[at : at + source.randrange(3)] = source.randbytes(source.randrange(3))
        path.write_bytes(body)
        outcomes = []
        for step in (2**30, len(body) // 5):
            monkeypatch.setattr(STEP, step)
            try:
                outcomes.append(read_rows(path))
            except InputError:
                outcomes.append("refused")
        assert outcomes[0] == outcomes[1]
