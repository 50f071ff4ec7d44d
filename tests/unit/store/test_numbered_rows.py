"""Rows with numbers: each number's rows come back, from one file, and a list that is there is not written again."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.numbered_rows import numbered_path, write_numbered_rows
from chameleon_data.store.store import Store


def table_of(counts: list[int]) -> pa.Table:
    """So many rows of each number."""
    numbers = [number for number, count in enumerate(counts) for _ in range(count)]
    return pa.table({"number": pa.array(numbers, pa.int64()), "name": pa.array(map(str, range(len(numbers))), pa.large_string())})


@pytest.mark.parametrize("counts", [[1], [2, 0, 3, 1], [0, 0, 0, 0, 5], [1] * 20])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_number_has_its_rows(memory_store: Store, counts: list[int], count: int) -> None:
    table = table_of(counts)
    rows = write_numbered_rows(memory_store, "lists", table, count)
    for number in [*range(len(counts)), 0]:
        if counts[number] or any(counts[number // count * count :][:count]):
            expected = [row for row in table.to_pylist() if row["number"] == number]
            assert rows.read(memory_store, number).to_pylist() == expected
    assert len(memory_store.list(rows.folder)) == len({number // count for number, n in enumerate(counts) if n})


def test_a_list_is_written_once_and_another_one_beside_it(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Store.write

    def count(store: Store, path: str, data: bytes) -> None:
        written.append(path)
        write(store, path, data)

    monkeypatch.setattr(Store, "write", count)
    first = write_numbered_rows(memory_store, "lists", table_of([1, 2, 3]), 2)
    assert len(written) == 2
    memory_store.remove([numbered_path(first.folder, 1)])
    assert write_numbered_rows(memory_store, "lists", table_of([1, 2, 3]), 2) == first
    assert written[2:] == [numbered_path(first.folder, 1)]
    assert write_numbered_rows(memory_store, "lists", table_of([1, 3, 2]), 2).folder != first.folder
    assert first.read(memory_store, 1)["name"].to_pylist() == ["1", "2"]


def test_what_goes_with_a_task_does_not_grow(memory_store: Store) -> None:
    small = write_numbered_rows(memory_store, "lists", table_of([1]))
    large = write_numbered_rows(memory_store, "lists", table_of([1] * 10_000))
    assert len(pickle.dumps(large)) == len(pickle.dumps(small)) < 500


def test_a_damaged_file_of_a_list_is_removed_and_told(memory_store: Store) -> None:
    rows = write_numbered_rows(memory_store, "lists", table_of([1, 1]))
    path = numbered_path(rows.folder, 0)
    body = bytearray(memory_store.read(path))
    body[len(body) // 2] ^= 1
    memory_store.write(path, bytes(body))
    with pytest.raises(InputError, match="was damaged"):
        rows.read(memory_store, 1)
    write_numbered_rows(memory_store, "lists", table_of([1, 1]))
    assert rows.read(memory_store, 1)["name"].to_pylist() == ["1"]
