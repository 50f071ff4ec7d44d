"""`verify` in ranges of shards: whatever the ranges and whichever comes first, the same is found, and little returns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions import verify
from chameleon_data.versions.checks.problems import EXAMPLES, ProblemList
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.proof_files import share_manifest
from chameleon_data.versions.streaming import TableFunction, stream_here
from chameleon_data.versions.verify import Verification, plan_ranges, verify_version
from chameleon_data.versions.verify_shards import RangeFound, unpack_found
from tests.support.corpus import documents, documents_with_copies, lay_out, write_recipe
from tests.support.in_process import ready
from tests.support.manifests import forge, list_paths

CASES = {
    "several epochs": {},
    "less than one": {"mix": {"budget": 60_000}, "shards": {"size": "10KB"}},
    "a cut epoch of copies": {"mix": {"budget": 700_000, "exhausted": "repeat"}, "shards": {"size": "30KB"}},
    "splits without copies": {
        "mix": {"budget": 200_000, "max_epochs": 8, "validation": 0.2}, "input": {"dedup": "exact"}, "shards": {"size": "30KB"},
    },
}  # fmt: skip


def build(folder: Path, copies: bool = False, **sections: Any) -> tuple[Store, Manifest]:
    corpus = documents_with_copies() if copies else documents()
    sources = lay_out(folder / "corpus", corpus, ["jsonl"], 2)
    made = ready(load_recipe(write_recipe(folder / "recipe.yaml", sources, **sections)))
    return made.store, made.manifest()


def prove_in_ranges(store: Store, manifest: Manifest, seed: int) -> Verification:
    """Each shard in a range of its own, and the answers in any order."""

    def stream(make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
        shuffled = random.Random(seed).sample(list(tables), len(tables))
        return (make()(table) for table in shuffled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "PROOF_RANGE_BYTES", 1)
        patch.setattr(verify, "MOST_PROOF_RANGES", 10**9)
        return verify_version(store, manifest, stream=stream)


@pytest.mark.parametrize("case", CASES)
def test_ranges_and_their_order_change_nothing_of_a_true_version(tmp_path: Path, case: str) -> None:
    store, manifest = build(tmp_path, "copies" in case, **CASES[case])
    whole = verify_version(store, manifest)
    assert whole.ok, whole.problems
    assert sum(manifest.shard_counts.values()) > 3
    for seed in range(3):
        assert prove_in_ranges(store, manifest, seed) == whole


def test_ranges_change_nothing_of_a_false_version(tmp_path: Path) -> None:
    """Shards in each other's place, a missing one, and counts that are wrong."""
    store, manifest = build(tmp_path, shards={"size": "30KB", "formats": ["parquet"]})
    paths = list_paths(store, manifest)
    bodies = [store.read(path) for path in paths]
    for here, there in ((1, 2), (2, 1)):
        store.write(paths[here], bodies[there])

    def swap(plain: dict[str, Any]) -> None:
        one, other = plain["shards"][1:3]
        for key in ("sha256", "bytes", "content", "rows", "tokens", "domain_rows", "domain_tokens"):
            one[key], other[key] = other[key], one[key]

    forged = forge(store, manifest, swap)
    store.remove([paths[5]])
    forged = forge(store, forged, lambda plain: plain["domains"]["book"].update(most_copies=7))
    whole = verify_version(store, forged)
    for words in ("not in the order of their hashes", "stands before its place", "missing", "'book'", "'content_digest'"):
        assert any(words in problem for problem in whole.problems), words
    for seed in range(3):
        assert set(prove_in_ranges(store, forged, seed).problems) == set(whole.problems)


def test_what_returns_does_not_grow_with_the_shards_of_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = RangeFound.pack
    monkeypatch.setattr(RangeFound, "pack", lambda self: sizes.append(len(body := real(self))) or body)
    store, manifest = build(tmp_path, shards={"size": "10KB", "formats": ["parquet"]})
    assert verify_version(store, manifest).ok
    (whole,) = sizes
    sizes.clear()
    prove_in_ranges(store, manifest, 0)
    assert len(sizes) == manifest.shard_count > 30
    assert whole < 2 * max(sizes)


def test_the_ranges_are_all_shards_once_with_the_tokens_before_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manifest = build(tmp_path, **CASES["splits without copies"])
    facts = {split: SplitFacts(split, manifest) for split in manifest.shard_counts}
    scratch = Store(str(tmp_path / "scratch"))
    share_manifest(scratch, manifest)
    sizes = [sum(sums.bytes for sums in manifest.formats.values()) // n for n in (1, 3, 10**9)]
    for size in sizes:
        monkeypatch.setattr(verify, "PROOF_RANGE_BYTES", size)
        monkeypatch.setattr(verify, "MOST_PROOF_RANGES", 10**9)
        ranges, last = plan_ranges(store, scratch, facts, stream_here)
        assert [one.number for one in ranges] == list(range(len(ranges)))
        assert [shard for one in ranges for shard in range(one.start, one.stop)] == list(
            range(sum(manifest.shard_counts.values()))
        )
        assert sum(one.bytes for one in ranges) == sum(sums.bytes for sums in manifest.formats.values())
        for one in ranges:
            first = one.start - facts[one.split].first
            assert (one.held.sum() == 0) == (first == 0)
        assert all((places >= 0).all() for places in last.values())
    monkeypatch.setattr(verify, "MOST_PROOF_RANGES", 2)
    assert len(plan_ranges(store, scratch, facts, stream_here)[0]) <= 4, "two in each split, as its last one may be short"


def test_what_a_task_found_survives_the_way(tmp_path: Path) -> None:
    store, manifest = build(tmp_path)
    kept: list[pa.Table] = []

    def stream(make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            kept.append(make()(table))
            yield kept[-1]

    verify_version(store, manifest, stream=stream)
    number, found = unpack_found(kept[-1])
    assert found.pack() == kept[-1]["found"][number].as_py()


def test_problems_are_counted_and_a_few_are_told() -> None:
    halves = [ProblemList(), ProblemList()]
    for number in range(100):
        halves[number // 50].add("order", [f"shard {number}"])
    halves[0].add("files", ["one", "one"])
    halves[0].join(halves[1])
    assert halves[0].total == 101
    said = halves[0].sentences()
    assert said[:EXAMPLES] == [f"shard {n}" for n in range(EXAMPLES)]
    assert said[EXAMPLES:] == [f"order: {100 - EXAMPLES} more problems like these", "one"]
