"""Every bad input of `tests/hostile.py` keeps its promise: quarantined with a reason, or one message and nothing published."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.parquet_pages import CHUNK_SLACK_BYTES, WatchedFile, _struct, column_chunk
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe, Source
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.store.store import Store
from tests.support import fuzz
from tests.support.hostile import (
    GOOD,
    LEAST,
    LONGEST,
    ONE_PAGE,
    RECIPES,
    SEED,
    TEXT,
    Case,
    arrow,
    cases,
    line,
    lines,
    parquet,
    repeated,
    views,
)  # fmt: skip
from tests.support.in_process import parts_of, record_part, surveyed
from tests.support.paths import DATA

CASES = cases()


def recipe_of(case: Case, folder: Path) -> Recipe:
    return Recipe.model_validate({
        "name": "hostile", "out": str(folder.parent / "out"),
        "sources": {"own": {"path": str(folder), **case.source}},
        "input": {"max_bad": 0.9, "max_document": LONGEST, "hash": case.hash},
    })  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_promise(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    case.write(folder)
    recipe = recipe_of(case, folder)
    if case.refused is not None:
        with pytest.raises(InputError, match=case.refused) as refusal:
            surveyed(recipe)
        assert len(str(refusal.value)) < 2000
        assert not list(Store(recipe.out).list("builds"))
        assert not list(Store(recipe.out).list("_chameleon/versions"))
        return
    _, _, found = surveyed(recipe)
    reasons: Counter[str] = Counter()
    for counts in found.reasons.values():
        reasons.update(counts)
    assert (sum(t.rows for t in found.tallies.values()), dict(reasons)) == (case.kept, dict(case.reasons))
    assert sum(t.read for t in found.tallies.values()) == case.kept + sum(case.reasons.values())


PEAK = """
import sys
from pathlib import Path
from chameleon_data.errors import InputError
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.recipe import Source
from chameleon_data.corpus.fragments import list_fragments
source, rows, bad = Source(path=(sys.argv[1],)), 0, []
try:
    for fragment in list_fragments("own", source):
        for block in read_blocks(fragment, source, int(sys.argv[2])):
            rows, bad = rows + len(block.text), bad + [b.reason for b in block.bad][:9]
            del block
except InputError as error:
    bad = [str(error)]
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024, rows, bad)
"""
GIB = 2**30


def sparse(size: int) -> Callable[[Path], None]:
    """NUL in one line, of which the disk holds nothing."""
    return lambda path: path.touch() or os.truncate(path, size)


def bomb(path: Path) -> None:
    """1 GiB in one line; 33 kB as stored."""
    packer = zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        file.write(packer.compress(b'{"text": "'))
        for _ in range(16):
            file.write(packer.compress(b"a" * (GIB // 16)))
        file.write(packer.flush())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("name", "write", "longest", "says"),
    [
        ("a.jsonl", sparse(2 * GIB), LONGEST, "0 ['longer than max_document']"),
        ("a.txt", sparse(GIB), LONGEST, "0 ['longer than max_document']"),
        ("a.csv", sparse(GIB // 4), LONGEST, "is a quote not closed"),
        ("a.jsonl.zst", bomb, LONGEST, "0 ['longer than max_document']"),
        ("a.parquet", lambda f: pq.write_table(repeated(400), f, store_schema=False, **ONE_PAGE), 4 * LONGEST, "400 []"),
        ("a.parquet", lambda f: pq.write_table(repeated(400).cast(TEXT), f, use_dictionary=False,
                                               column_encoding="DELTA_BYTE_ARRAY"), 4 * LONGEST, "400 []"),
        ("a.arrow", lambda f: arrow(repeated(400))(f.parent), 4 * LONGEST, "400 []"),
        ("a.arrow", lambda f: arrow(views(400, LONGEST))(f.parent), 4 * LONGEST, "400 []"),
    ],
    ids=["2 GB line", "1 GB text", "CSV", "1 GB of zstd", "dictionary", "prefixes", "Arrow dictionary", "Arrow views"],
)  # fmt: skip
def test_what_expands_to_gigabytes_takes_no_such_memory(
    tmp_path: Path, name: str, write: Callable[[Path], None], longest: int, says: str
) -> None:
    """400 rows of 1 MiB, or up to 2 GiB of one line: at most 300 MiB beside the process itself (110 MiB)."""
    write(tmp_path / name)
    command = [sys.executable, "-c", PEAK, str(tmp_path / name), str(longest)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    peak, _, found = done.stdout.partition(" ")
    assert says in found
    assert int(peak) < 110 + 300, done.stdout


def test_the_table_holds_both_kinds_and_no_name_twice() -> None:
    assert len({c.name for c in CASES}) == len(CASES)
    assert all((c.kept is None) != (c.refused is None) for c in CASES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str, tmp_path: Path) -> None:
    text, says = RECIPES[name]
    with pytest.raises(InputError, match=re.escape(says)):
        parse_recipe(text, tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_file_replaced_between_survey_and_write(tmp_path: Path) -> None:
    """The survey's identity is of the file that was read, so another one under its name is refused when it is opened."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines())
    case = Case("replaced", lambda _: None, kept=3)
    recipe = recipe_of(case, folder)
    counter = load_token_counter(recipe.tokens)
    (part,) = parts_of(recipe, counter)
    time.sleep(0.01)
    (folder / "a.jsonl").write_bytes(line("another") * len(GOOD))
    with pytest.raises(InputError, match="changed"):
        record_part(Store(recipe.out), recipe, part, counter)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_fuzzed_readers(target: str) -> None:
    """The fuzzer's own targets on its seeds and on some 120 mutations of them; hours of it are in the soak."""
    random, seeds = Random(SEED), fuzz.seeds(target)
    for seed in seeds:
        fuzz.TARGETS[target](seed)
        for _ in range(max(4, 120 // len(seeds))):
            body = bytearray(seed)
            for _ in range(random.randint(1, 4)):
                at, how = random.randrange(len(body) + 1), random.randrange(4)
                body[at : at + (0, 1, random.randint(1, 40), 1)[how]] = random.randbytes((1, 0, 0, 1)[how])
            fuzz.TARGETS[target](bytes(body))


def test_a_page_that_says_it_has_two_gigabytes(tmp_path: Path) -> None:
    """Found by the fuzzer: 3.6 kB of Parquet, read as they are, for which Arrow made a buffer of 2 GiB."""
    (tmp_path / "a.parquet").write_bytes((DATA / "page_of_2_gib.parquet").read_bytes())
    assert _refused(tmp_path, "the page at byte 4 says") < 2**24


@pytest.mark.parametrize(("compression", "field", "page"), [("none", 3, 0), ("none", 2, 9), ("zstd", 2, 0), ("zstd", 3, 9)])
def test_a_page_of_a_large_file_that_says_it_has_two_gigabytes(tmp_path: Path, compression: str, field: int, page: int) -> None:
    """17 MiB that do not compress, in pages of 1 MiB; a header (its field 2: bytes as read; 3: as stored) is damaged."""
    table = pa.table({"text": [Random(i).randbytes(2**15).decode("latin-1") for i in range(480)]})
    how: dict[str, Any] = {"use_dictionary": False, "write_statistics": False, "write_batch_size": 8}
    body = parquet(table, compression=compression, write_page_checksum=True, **how)
    assert len(body) > 17 * 2**20
    at, sizes = 4, {}
    for _ in range(page + 1):
        at += sizes.get("size", 0) + sizes.get(3, 0)
        end, found = _struct(body, at, 0)
        sizes = {"size": end - at, 2: found[2], 3: found[3]}
    said = [varint(2 * (2**31 - 1) if key == field else 2 * sizes[key]) for key in (2, 3)]
    old = b"\x15\x00\x15" + varint(2 * sizes[2]) + b"\x15" + varint(2 * sizes[3])
    new = b"\x15\x00\x15" + said[0] + b"\x15" + said[1]
    assert body[at:].startswith(old)
    rest = body[at + len(old) :]
    (tmp_path / "a.parquet").write_bytes(body[:at] + new + rest[: 2**19] + rest[2**19 + len(new) - len(old) :])
    assert _refused(tmp_path, f"the page at byte {at:,} says 2,147,483,647 bytes; its column has fewer") < 2**24


def test_a_dictionary_that_says_it_has_two_billion_values(tmp_path: Path) -> None:
    body = parquet(pa.table({"text": [f"{i:070}" for i in range(1000)]}), compression="none", write_statistics=False)
    values = b"\x4c\x15" + varint(2 * 1000)  # field 7, a structure; its field 1
    assert body.count(values) == 1
    (tmp_path / "a.parquet").write_bytes(body.replace(values + b"\x15\x00", b"\x4c\x15" + varint(2 * (2**27 - 1))))
    assert _refused(tmp_path, "the dictionary at byte 4 says 134217727 values") < 2**24


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def _refused(folder: Path, says: str) -> int:
    """The most bytes that Arrow held while the folder was read and refused."""
    how, before = Source(path=(str(folder),)), pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(InputError, match=re.escape(says)):
            [list(read_blocks(f, how, LONGEST)) for f in list_fragments("own", how)]
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() > 0
    return int(pool.max_memory())


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False, "compression": "zstd"}, {"data_page_version": "2.0"}])
def test_headers_are_followed_however_a_file_is_read(options: dict[str, Any]) -> None:
    random = Random(SEED)
    table = pa.table({"text": [random.randbytes(random.randint(0, 900)).hex() for _ in range(500)], "b": ["one", None] * 250})
    body = parquet(table, data_page_size=3000, write_page_checksum=True, **options)
    group = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0)
    for longest in (7, 40, 4000, 2**17):
        watched = WatchedFile(io.BytesIO(body))
        watched.chunks = [column_chunk(group.column(i)) for i in (0, 1)]
        for chunk in reversed(watched.chunks):
            watched.seek(chunk.start)
            while watched.tell() < chunk.end - CHUNK_SLACK_BYTES:
                watched.read(min(random.randint(1, longest), chunk.end - CHUNK_SLACK_BYTES - watched.tell()))
            assert (chunk.next, chunk.held) == (chunk.end - CHUNK_SLACK_BYTES, b"")


def test_a_quantity_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mix\.budget: .*greater than 0"):  # found by the fuzzer
        parse_recipe(LEAST + "mix: {budget: 0e9999999999}\n", tmp_path)


def test_the_home_of_nobody(tmp_path: Path) -> None:
    """Found by the fuzzer: a `~name` without such a user is a folder of that name."""
    found = parse_recipe("name: t\nout: o\nsources: {a: ~nobody-of-this-name/x.jsonl}\n", tmp_path)
    assert found.sources["a"].path == (f"{tmp_path}/~nobody-of-this-name/x.jsonl",)
