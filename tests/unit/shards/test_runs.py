"""Runs: every shard's rows come back out of them, by one range of each, and no byte of them is believed that changed."""

from __future__ import annotations

import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.errors import InputError
from chameleon_data.shards import runs as runs_module
from chameleon_data.shards.runs import RUN_SCHEMA, cut_runs, read_run_lists, read_runs, write_run_list
from chameleon_data.store import store as storage
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.slices import INDEX_ENTRY_BYTES, SlicedFile, read_slices, write_slices
from chameleon_data.store.store import Store

SHARDS = 7


def rows(numbers: list[int]) -> pa.Table:
    columns = [pa.array(numbers, field.type) for field in RUN_SCHEMA if field.name != "body"]
    return pa.table([*columns, pa.array([b"text %d" % n for n in numbers], pa.large_binary())], schema=RUN_SCHEMA)


@pytest.fixture
def written() -> tuple[Store, tuple[SlicedFile, ...]]:
    """Two runs; the second has one row in shard 3 alone."""
    store = Store(f"memory://{uuid.uuid4().hex}")
    pending = [(np.array([0, 0, 2, 5]), rows([0, 1, 2, 3])), (np.array([2, 6]), rows([4, 5]))]
    for name, some in (("a", pending), ("b", [(np.array([3]), rows([6]))])):
        write_slices(store, f"{name}-0.run", RUN_SCHEMA, some, range(SHARDS))
        write_run_list(store, f"{name}.json", [SlicedFile(f"{name}-0.run")])
    return store, tuple(run for part in read_run_lists(store, ["a.json", "b.json"]) for run in part.runs)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=30).filter(any))
def test_the_runs_of_a_part_are_all_ranges_once(sizes: list[int]) -> None:
    """Each has some rows and begins where the one before has RUN_BYTES, but where a range has more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "RUN_BYTES", 100)
        cut = cut_runs(np.array(sizes))
    assert [number for ranges in cut for number in ranges] == list(range(len(sizes)))
    of_runs = [sum(sizes[number] for number in ranges) for ranges in cut]
    assert all(of_runs)
    assert all(size < 100 + max(sizes) for size in of_runs)
    assert len(cut) <= -(-sum(sizes) // 100)


def test_a_file_that_has_no_slice_for_a_number_is_not_asked(monkeypatch):
    store, pending = Store(f"memory://{uuid.uuid4().hex}"), [(np.array([0, 0, 2, 5]), rows([0, 1, 2, 3]))]
    cut = [range(2), range(2, 4), range(4, SHARDS)]
    files = [SlicedFile(f"{ranges.start}.run", "", ranges.start, ranges.stop) for ranges in cut]
    for ranges, file in zip(cut, files, strict=True):
        write_slices(store, file.path, RUN_SCHEMA, pending, ranges)
    asked: list[str] = []
    real = storage.MemoryFolder.read_range
    monkeypatch.setattr(storage.MemoryFolder, "read_range", lambda self, path, *at: asked.append(path) or real(self, path, *at))
    expected = [[0, 1], [], [2], [], [], [3], []]
    for at in range(SHARDS):
        asked.clear()
        assert read_runs(store, files, at)["row"].to_pylist() == expected[at]
        assert set(asked) == {next(file.path for file in files if file.first <= at < file.behind)}
        for length in range(1, SHARDS - at + 1):
            found = read_slices(store, files, range(at, at + length))
            assert [[n for table in some for n in table["row"].to_pylist()] for some in found] == expected[at : at + length]


EXPECTED = [[0, 1], [], [2, 4], [6], [], [3], [5]]


@pytest.mark.parametrize("at", range(SHARDS))
@pytest.mark.parametrize("length", [1, 2, 7])
def test_any_slices_come_back(written, at, length):
    store, runs = written
    found = read_slices(store, runs, range(at, min(at + length, SHARDS)))
    tables = [pa.concat_tables([RUN_SCHEMA.empty_table(), *some]) for some in found]
    assert [table["row"].to_pylist() for table in tables] == EXPECTED[at : at + length]
    assert all(table.equals(rows(table["row"].to_pylist())) for table in tables)


def test_a_run_is_asked_twice_however_many_shards_and_once_where_it_has_none(written, monkeypatch):
    asked: list[str] = []
    real = storage.MemoryFolder.read_range
    monkeypatch.setattr(storage.MemoryFolder, "read_range", lambda self, path, *at: asked.append(path) or real(self, path, *at))
    store, runs = written
    read_slices(store, runs, range(4, SHARDS))
    assert sorted(asked) == ["a-0.run", "a-0.run", "b-0.run"]


def test_no_changed_byte_is_believed(written):
    """Every thirteenth byte of a run, slices and index: those of other shards do not matter, all others are seen."""
    store, runs = written
    body, listed, seen = store.read("a-0.run"), store.read("a.json"), 0
    tried = range(0, len(body), 13)
    for at in tried:
        changed = bytearray(body)
        changed[at] ^= 1 << at % 8
        store.write("a-0.run", bytes(changed))
        store.write("a.json", listed)
        for shard in range(SHARDS):
            try:
                found = read_runs(store, runs, shard)
                assert found["row"].to_pylist() == EXPECTED[shard]
                assert found.equals(rows(EXPECTED[shard]))
            except InputError:
                seen += not store.exists("a-0.run") and not store.exists("a.json")
                break
        else:
            pytest.fail(f"byte {at} changed and nobody saw it")
    assert seen == len(tried)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("zeros", [True, False])
def test_a_run_that_a_power_failure_tore_is_seen_and_goes(tmp_path, kept, zeros):
    """Its beginning reached the disk; the rest is full of zeros, or not there."""
    store, file = Store(str(tmp_path)), tmp_path / "a-0.run"
    write_slices(store, file.name, RUN_SCHEMA, [(np.array([0, 2]), rows([0, 1]))], range(SHARDS))
    write_run_list(store, "a.json", [SlicedFile(file.name)])
    (part,), body, listed = read_run_lists(store, ["a.json"]), file.read_bytes(), store.read("a.json")
    first = int(len(body) * kept)
    for shard in (2,) if first < len(body) else ():  # the last slice
        file.write_bytes(body[:first] + bytes(len(body) - first) * zeros)
        store.write("a.json", listed)
        with pytest.raises(InputError, match="run the same command again, which makes it anew"):
            read_runs(store, part.runs, shard)
        assert store.list() == {}


def test_a_slice_in_the_place_of_another_one_is_seen(tmp_path):
    """Two shards with the same bytes in their slices; the index of one is put in the other's place."""
    store = Store(str(tmp_path))
    write_slices(store, "x.run", RUN_SCHEMA, [(np.array([0]), rows([1])), (np.array([1]), rows([1]))], range(2))
    body = store.read("x.run")
    second = body[INDEX_ENTRY_BYTES : 2 * INDEX_ENTRY_BYTES]
    store.write("x.run", second + body[INDEX_ENTRY_BYTES:])
    with pytest.raises(InputError, match="damaged"):
        read_runs(store, [SlicedFile("x.run")], 0)


def test_a_list_of_another_release_is_refused(written):
    store, _ = written
    write_record(store, "a.json", {**read_record(store, "a.json"), "format": 1})
    with pytest.raises(InputError, match="runs of another release of chameleon-data; finish the build with that release"):
        read_run_lists(store, ["a.json"])
