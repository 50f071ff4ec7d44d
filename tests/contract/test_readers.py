"""Every reader: the same documents and the same bad rows come out, whatever format and compression the rows are stored in.

What is particular to a format is in tests/unit/corpus/readers; memory is measured in tests/system/test_reading.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from tests.support.reader_files import (
    COLUMN_KINDS,
    COMPRESSED,
    LIMIT,
    TEXT_KINDS,
    BadRows,
    Documents,
    compress,
    read_file,
    read_rows,
    write_rows,
)

KINDS = [*TEXT_KINDS, *COLUMN_KINDS]
PLAIN_KINDS = [".jsonl", ".csv", *COLUMN_KINDS]
TEXTS = ["plain", 'two\nlines\r\nand "quotes", commas', "ünïcödé 漢字 🙂 \u2028 \x85 \u0600", "a\x00b", " x ", "\ufeffmark"]
TEXTS += ["NA", "null", "1.5", "y" * 9000]
SETS = ["web" if i % 3 else "Books" for i in range(len(TEXTS))]
KEYS = {"id": "id", "domain": "meta.set", "rename": {"Books": "book"}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_documents(tmp_path: Path, kind: str) -> None:
    path = write_rows(tmp_path / f"x{kind}", TEXTS, list(range(len(TEXTS))), SETS)
    documents, bad = read_rows(path, **KEYS)
    assert documents == [(i, "web" if i % 3 else "book", text, str(i)) for i, text in enumerate(TEXTS)]
    assert bad == []
    assert read_rows(path)[0] == [(i, "own", text, None) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bad_rows(tmp_path: Path, kind: str) -> None:
    """CSV has no null, so what is null elsewhere is empty there; a line of JSON that is not UTF-8 shows no domain."""
    csv, json = ".csv" in kind, "json" in kind
    rows: list[tuple[str | bytes | None, str | None, str | None]] = [
        ("first", "0", "web"),
        ("", "1", "web"),
        (" \n\u3000\x85", "2", "web"),
        ("x" * (LIMIT + 1), "3", "web"),
        (b"a\xff", "4", "web"),
        (None, "5", "web"),
        ("a", "6", " blank "),
        ("a", "7", None),
        ("a", None, "web"),
        ("a", "", "web"),
        ("last", "10", "Books"),
    ]
    bad: BadRows = [
        (1, "web", "blank text"),
        (2, "web", "blank text"),
        (3, "web", "longer than max_document"),
        (4, "own" if json else "web", "invalid UTF-8"),
        (5, "web", "blank text" if csv else "null text"),
        (6, "own", "bad domain name"),
        (7, "own", "bad domain name" if csv else "no domain"),
        (8, "web", "no id"),
        (9, "web", "no id"),
    ]
    documents: Documents = [(0, "web", "first", "0"), (10, "book", "last", "10")]
    texts, ids, sets = zip(*rows, strict=True)
    path = write_rows(tmp_path / f"x{kind}", texts, ids, sets)
    for block_bytes in (1, 50, 2**20):
        assert read_rows(path, block_bytes=block_bytes, **KEYS) == (documents, bad)


@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_blocks_are_of_the_size_asked_for(tmp_path: Path, kind: str) -> None:
    path = write_rows(tmp_path / f"x{kind}", [f"{i:1000}" for i in range(3000)], range(3000), ["s"] * 3000, batch_rows=3000)
    sizes = [sum(map(len, b.text.to_pylist())) for _, b in read_file(path, block_bytes=500_000)]
    assert sum(sizes) == 3_000_000
    assert len(sizes) >= 3
    assert all(500_000 <= size < 1_600_000 for size in sizes[:-1])


@pytest.mark.parametrize("kind", PLAIN_KINDS)
@pytest.mark.parametrize(("keys", "reason"), [({"text": "body"}, "no text"), ({"domain": "set"}, "no domain")])
def test_a_key_that_is_not_there(tmp_path: Path, kind: str, keys: dict[str, str], reason: str) -> None:
    """Columns are of the whole file, so it is refused; a key of JSON is of one line."""
    path = write_rows(tmp_path / f"x{kind}", ["a", "b"], [1, 2], ["s", "s"])
    if kind == ".jsonl":
        assert read_rows(path, **keys) == ([], [(0, "own", reason), (1, "own", reason)])
        return
    with pytest.raises(InputError, match=rf"x\{kind}: no column '(body|set)' for the (text|domain); there are id, text, meta"):
        read_rows(path, **keys)


def one_frame(kind: str, path: Path) -> Documents:
    """A file of twelve rows, in one frame where it is compressed."""
    source = random.Random(1)
    texts = [f"{i} {source.random()}" for i in range(12)]
    suffix = Path(kind).suffix if kind.endswith(COMPRESSED) else ""
    plain = write_rows(path.with_name(f"plain{kind.removesuffix(suffix)}"), texts, list(range(12)), ["s"] * 12)
    path.write_bytes(compress(plain.read_bytes(), suffix))
    return [(i, "own", text, None) for i, text in enumerate(texts)]


@pytest.mark.parametrize("kind", [*(f".{base}{how}" for base in ("jsonl", "csv") for how in COMPRESSED), *COLUMN_KINDS])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x{kind}"
    documents = one_frame(kind, path)
    whole = path.read_bytes()
    assert read_rows(path)[0] == documents
    for end in {*range(0, len(whole), max(1, len(whole) // 150)), *range(len(whole) - 20, len(whole))}:
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"x\.\w+.*(truncated|damaged).*; fetch it again"):
            read_rows(path)


@pytest.mark.parametrize("kind", [f".{base}{how}" for base in ("jsonl", "csv") for how in COMPRESSED])
def test_frames_that_follow_each_other_are_one_file_and_nothing_else_may_follow(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x{kind}"
    documents = one_frame(kind, path)
    one = path.read_bytes()
    path.write_bytes(one * 3)
    header = kind.startswith(".csv")  # it stands in each frame, and is a row in the later ones
    read = [row[2] for row in read_rows(path)[0] if row[2] != "text"]
    assert read == [row[2] for row in documents] * 3
    assert [row[0] for row in read_rows(path)[0]] == list(range(3 * len(documents) + 2 * header))
    for garbage in (b"x", b"trailing bytes", b"\0x", b"\0" * 2**18 + b"x"):
        path.write_bytes(one + garbage)
        with pytest.raises(InputError, match=r"behind the end of its \w+ data"):
            read_rows(path)
    for cut in (one[:5], one[:-1]):
        path.write_bytes(one + cut)
        with pytest.raises(InputError, match=r"fetch it again|behind the end of its (bz2|xz) data"):  # 5 bytes do not show these
            read_rows(path)
    for padding in (b"\0", b"\0" * 512, b"\0" * 2**18):
        for body, times in ((one + padding, 1), (one + padding + one, 2)):
            path.write_bytes(body)
            if kind.endswith(".zst"):
                with pytest.raises(InputError, match="behind the end of its zstd data"):
                    read_rows(path)
            else:
                assert len(read_rows(path)[0]) == times * len(documents) + header * (times - 1)
    if kind.endswith(".zst"):  # what pzstd and the seekable format add
        path.write_bytes(one + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + one)
        assert len(read_rows(path)[0]) == 2 * len(documents) + header


@pytest.mark.parametrize("kind", [".parquet", ".feather", ".arrow", ".ipc", ".csv", ".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_damage_is_quarantined_or_refused(tmp_path: Path, kind: str) -> None:
    """Bytes flipped, lost and added: never another exception, never a crash. Seeded; 35,000 such files were tried once."""
    path = write_rows(tmp_path / f"x{kind}", TEXTS, list(range(len(TEXTS))), ["s"] * len(TEXTS))
    whole, source = path.read_bytes(), random.Random(kind)
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(source.choice([1, 2, 8])):
            at = source.randrange(len(damaged))
            damaged[at : at + source.randrange(4)] = source.randbytes(source.randrange(4))
        path.write_bytes(damaged)
        try:
            documents, bad = read_rows(path, id="id", domain="meta.set")
        except InputError:
            continue
        assert len({row for row, *_ in [*documents, *bad]}) == len(documents) + len(bad)


@pytest.mark.parametrize("kind", COLUMN_KINDS)
def test_nothing_that_follows_an_end_mark_is_lost(tmp_path: Path, kind: str) -> None:
    """Streams of Arrow follow each other; anything else is refused as what it is, and not called damaged."""
    path = tmp_path / f"x{kind}"
    documents = one_frame(kind, path)
    whole = path.read_bytes()
    for more in (b"\0", b"\0" * 600, b"trailing bytes"):
        path.write_bytes(whole + more)
        with pytest.raises(InputError, match=rf"from byte {len(whole):,} on, behind .*, it holds something else; cut that off"):
            read_rows(path)
    path.write_bytes(whole * 3)
    if kind == ".arrow":  # a stream
        rows, bad = read_rows(path)
        assert ([row[2] for row in rows], bad) == ([row[2] for row in documents] * 3, [])
        assert [row[0] for row in rows] == list(range(3 * len(documents)))
    else:
        with pytest.raises(InputError, match=r"give each its own file"):
            read_rows(path)
