"""Every bad input of `tests/hostile.py` keeps its promise: quarantined with a reason, or one message and nothing published."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from chameleon_data.corpus.kept_rows import check_kept_files, read_kept_parts
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.errors import InputError
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.pipelines.machine import private_memory
from chameleon_data.recipe import Recipe
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
from tests.support.in_process import parts_of, record_part, row_store_of, surveyed
from tests.support.paths import DATA

CASES = cases()


def recipe_of(case: Case, folder: Path) -> Recipe:
    return Recipe.model_validate({
        "name": "hostile", "out": str(folder.parent / "out"),
        "sources": {"own": {"path": str(folder), **case.source}},
        "input": {"max_bad": 0.9, "max_blank": 0.9, "max_document": LONGEST, "hash": case.hash},
    })  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["", "kept", "divided"])
@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_promise(case: Case, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, keep = tmp_path / "in", how == "kept"
    folder.mkdir()
    case.write(folder)
    if how == "divided":
        largest = max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)
        monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", max(7, largest // 60))
        monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 1)
    recipe = recipe_of(case, folder)
    if case.refused is not None:
        with pytest.raises(InputError, match=case.refused) as refusal:
            surveyed(recipe, keep=keep)
        assert len(str(refusal.value)) < 2000
        assert not list(Store(recipe.out).list("builds"))
        assert not list(Store(recipe.out).list("_chameleon/versions"))
        return
    store, parts, found = surveyed(recipe, keep=keep)
    if keep:
        rows = row_store_of(recipe, load_token_counter(recipe.tokens))
        kept = read_kept_parts(rows, [part.key for part in parts])
        check_kept_files(store, kept)
        assert sum(file.rows for part in kept for file in part.files) == case.kept
    reasons: Counter[str] = Counter()
    for counts in found.reasons.values():
        reasons.update(counts)
    assert (sum(t.rows for t in found.tallies.values()), dict(reasons)) == (case.kept, dict(case.reasons))
    assert sum(t.read for t in found.tallies.values()) == case.kept + sum(case.reasons.values())


PEAK = """
import sys
from pathlib import Path
from chameleon_data.errors import InputError
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.local_engine import local_engine
from chameleon_data.pipelines.machine import private_memory
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.recipe import Source
from chameleon_data.corpus.fragments import list_fragments
source, rows, bad = Source(path=(sys.argv[1],)), 0, []
try:
    for fragment in list_fragments("own", source).fragments:
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


def page_of_2_gib(_: Path) -> bytes:
    """Found by the fuzzer: 3.6 kB of Parquet, as they are, whose page says 2 GiB. pyarrow makes a buffer for them."""
    return (DATA / "page_of_2_gib.parquet").read_bytes()


def page_that_expands(_: Path) -> bytes:
    """A page of zstd whose header says 2 GiB."""
    body = parquet(pa.table({"text": ["a" * 90] * 9}), compression="zstd", use_dictionary=False, write_statistics=False)
    expanded = next(n for n in range(800, 900) if body[4:].startswith(b"\x15\x00\x15" + varint(2 * n)))
    return body[:7] + varint(2 * (2**31 - 1)) + body[7 + len(varint(2 * expanded)) :]


def dictionary_of_2_billion(_: Path) -> bytes:
    body = parquet(pa.table({"text": [f"{i:070}" for i in range(1000)]}), compression="none", write_statistics=False)
    values = b"\x4c\x15" + varint(2 * 1000)  # field 7, a structure; its field 1
    assert body.count(values) == 1
    return body.replace(values + b"\x15\x00", b"\x4c\x15" + varint(2 * (2**27 - 1)))


@pytest.mark.parametrize("hostile", [page_of_2_gib, page_that_expands, dictionary_of_2_billion])
def test_a_page_that_says_it_is_huge_ends_in_one_message_that_names_the_file(
    engine: Engine, tmp_path: Path, hostile: Callable[[Path], bytes]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(hostile(tmp_path))
    recipe = recipe_of(Case("huge", lambda _: None, refused="a.parquet"), tmp_path / "in")
    with pytest.raises(InputError, match=r"in/a\.parquet: "):
        weigh_recipe(recipe, engine, lambda *_: None)


def test_a_page_that_needs_more_memory_than_there_is_ends_in_one_message_too(tmp_path: Path) -> None:
    """The worker is ended three times, and two builds' worth of other workers go on."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(page_of_2_gib(tmp_path))
    recipe = recipe_of(Case("huge", lambda _: None, refused="a.parquet"), tmp_path / "in")
    held = private_memory(os.getpid())
    with (
        local_engine(workers=1, memory=held + 10**9) as engine,
        pytest.raises(InputError, match=r"in/a\.parquet: .*(died 3 times; .*raise --memory|damaged)"),
    ):
        weigh_recipe(recipe, engine, lambda *_: None)


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def test_a_quantity_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mix\.budget: .*greater than 0"):  # found by the fuzzer
        parse_recipe(LEAST + "mix: {budget: 0e9999999999}\n", tmp_path)


def test_the_home_of_nobody(tmp_path: Path) -> None:
    """Found by the fuzzer: a `~name` without such a user is a folder of that name."""
    found = parse_recipe("name: t\nout: o\nsources: {a: ~nobody-of-this-name/x.jsonl}\n", tmp_path)
    assert found.sources["a"].path == (f"{tmp_path}/~nobody-of-this-name/x.jsonl",)
