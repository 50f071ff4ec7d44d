"""Sizes of parts follow the corpus; a part whose files are what they were keeps its key, whatever comes to them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.parts import LARGEST_PART_BYTES, PART_BYTES, Part, choose_part_bytes, split_parts
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.recipe import Input, Source
from chameleon_data.store.paths import DIVISIONS
from chameleon_data.store.store import Store

MIB = 2**20
SOURCES = {"a": Source(path=("/a",)), "b": Source(path=("/b",))}


def file(name: str, size: int, identity: str = "1") -> list[Fragment]:
    """A file in fragments of at most 32 MiB."""
    count = max(1, -(-size // (32 * MIB)))
    begins = [size * i // count for i in range(count + 1)]
    pieces = [
        Fragment("a", f"/a/{name}", "jsonl", "none", begin, end, end - begin, identity)
        for begin, end in itertools.pairwise(begins)
    ]
    return [*pieces[:-1], replace(pieces[-1], end=None)]


def split(store: Store | None, *files: list[Fragment], spec: SampleSpec | None = None) -> tuple[Part, ...]:
    fragments = sorted((f for pieces in files for f in pieces), key=lambda f: (f.url, f.begin))
    parts = split_parts({"a": fragments}, SOURCES, Input(), spec or SampleSpec(3, 9, 1, None), TokenCounter("bytes"), store)
    covered = sorted((f.url, f.begin, f.size) for part in parts for f in part.fragments)
    assert sum(size for *_, size in covered) == sum(f.size for f in fragments)
    places = [(part.fragments[0].url, part.fragments[0].begin) for part in parts]
    assert places == sorted(places)
    return parts


def keys(parts: tuple[Part, ...]) -> set[str]:
    return {part.key for part in parts}


@pytest.mark.parametrize(
    ("corpus", "size"), [(1, 32 * MIB), (128 * 2**30, 32 * MIB), (2**38, 64 * MIB), (2**42, 2**30), (60 * 10**12, 2**30)]
)
def test_parts_grow_with_the_corpus(corpus: int, size: int) -> None:
    assert choose_part_bytes(corpus, False) == size
    assert choose_part_bytes(corpus, True) == min(size, 128 * MIB)


def test_one_large_file_is_many_parts_of_a_small_corpus_and_few_of_a_large_one() -> None:
    assert len(split(None, file("x", 2**30))) == 32
    other = [Fragment("a", f"/a/y{i}", "jsonl", "none", 0, None, 2**32, "1") for i in range(1100)]
    parts = split(None, file("x", 2**32), other)
    assert sum(part.fragments[0].url == "/a/x" for part in parts) == 4
    assert [f.size for part in parts for f in part.fragments if f.url == "/a/x"] == [LARGEST_PART_BYTES] * 4


def test_a_file_that_is_added_anywhere_changes_no_large_part(memory_store: Store) -> None:
    files = [file(f"m{i:03}", 5 * MIB) for i in range(50)]
    before = split(memory_store, *files)
    for name in ("a", "m020x", "z"):
        after = split(memory_store, *files, file(name, 3 * MIB))
        small = {part.key for part in before if sum(f.size for f in part.fragments) < PART_BYTES // 2}
        assert keys(before) - keys(after) <= small
        assert len(keys(after) - keys(before)) == 1
    assert not keys(split(None, *files, file("a", 3 * MIB))) & keys(before), "without the division all parts would be others"


def test_a_corpus_that_grows_a_thousandfold_keeps_its_parts(memory_store: Store) -> None:
    files = [file("x", 2**30), *(file(f"y{i}", 20 * MIB) for i in range(9))]
    before = split(memory_store, *files)
    more = [Fragment("a", f"/a/z{i}", "jsonl", "none", 0, None, 2**29, "1") for i in range(4000)]
    after = split(memory_store, *files, more)
    assert keys(before) <= keys(after)
    assert max(sum(f.size for f in part.fragments) for part in after if part.key not in keys(before)) >= 16 * PART_BYTES
    assert keys(split(memory_store, *files, more)) == keys(after)


def test_a_file_that_changed_or_went_costs_its_own_parts(memory_store: Store) -> None:
    files = [file("x", 200 * MIB), *(file(f"y{i:02}", 10 * MIB) for i in range(30))]
    before = split(memory_store, *files)
    changed = split(memory_store, file("x", 200 * MIB, "2"), *files[1:])
    assert keys(before) - keys(changed) == {part.key for part in before if part.fragments[0].url == "/a/x"}
    gone = split(memory_store, file("x", 200 * MIB, "2"), *files[2:])
    assert len(keys(changed) - keys(gone)) == 1


def test_another_way_to_read_has_a_division_of_its_own(memory_store: Store) -> None:
    files = [file(f"m{i:03}", 5 * MIB) for i in range(20)]
    one = split(memory_store, *files)
    split(memory_store, *files, spec=SampleSpec(3, 9, 1, "vectors"))
    assert len(memory_store.list(DIVISIONS)) == 2
    split(memory_store, *files, spec=SampleSpec(5, 9, 1, None))
    assert len(memory_store.list(DIVISIONS)) == 2, "another sample is drawn from the same parts"
    assert keys(split(memory_store, file("a", MIB), *files)) & keys(one)
