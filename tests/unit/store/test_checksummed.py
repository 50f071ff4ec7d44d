"""Records, tables and row groups: any flipped bit is noticed, read again, and a damaged file is removed."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.checksummed import (
    GroupWriter,
    column_sums,
    read_groups,
    read_record,
    read_table,
    remove_if_damaged,
    write_record,
    write_table,
)
from chameleon_data.store.memory import MemoryFolder
from chameleon_data.store.store import NameTakenError, Store

TABLE = pa.table({
    "text": pa.array(["a", "", "ccc", "é"] * 50, pa.large_string()),
    "bytes": pa.array([b"", b"1", b"22", b"\xff"] * 50, pa.large_binary()),
    "number": pa.array(range(200), pa.int32()),
    "domain": pa.array(["x", "y"] * 100).dictionary_encode(),
})  # fmt: skip
DAMAGED = "/a: was damaged, by the disk or on the network, and has been removed; run the same command again"


def write_groups(store: Store, path: str, table: pa.Table = TABLE, rows: int = 70) -> None:
    with store.writing(path) as file, pq.ParquetWriter(file, table.schema, compression="zstd") as parquet:
        writer = GroupWriter(parquet)
        for start in range(0, len(table), rows):
            writer.write(table.slice(start, rows))
        writer.end()


def flip(store: Store, path: str, at: int) -> None:
    body = bytearray(store.read(path))
    body[at] ^= 4
    store.write(path, bytes(body))


def test_a_record_comes_back_as_json_has_it(memory_store: Store) -> None:
    for value, read in (({"x": [1, None, "é"], "y": {}}, {"x": [1, None, "é"], "y": {}}), ({7: 0.5}, {"7": 0.5})):
        write_record(memory_store, "a", value)
        assert read_record(memory_store, "a") == read


def test_a_new_record_is_create_only(memory_store: Store) -> None:
    write_record(memory_store, "a", {"x": 1}, new=True)
    write_record(memory_store, "a", {"x": 1}, new=True)
    with pytest.raises(NameTakenError):
        write_record(memory_store, "a", {"x": 2}, new=True)
    write_record(memory_store, "a", {"x": 3})
    assert read_record(memory_store, "a") == {"x": 3}


def test_a_table_comes_back_and_any_reader_reads_it(memory_store: Store) -> None:
    write_table(memory_store, "a", TABLE)
    assert read_table(memory_store, "a").equals(TABLE)
    assert pq.read_table(memory_store.open("a")).equals(TABLE)


def test_groups_come_back_in_tables_of_enough_rows(memory_store: Store) -> None:
    write_groups(memory_store, "a")
    tables = list(read_groups(memory_store, "a", ["number", "text"], rows=100))
    assert [len(table) for table in tables] == [140, 60]
    assert pa.concat_tables(tables).equals(TABLE.select(["number", "text"]))
    assert list(read_groups(memory_store, "a", ["number"], rows=1)) != []


@pytest.mark.parametrize("kind", ["record", "table", "groups"])
def test_any_flipped_bit_is_noticed_and_the_file_is_removed(memory_store: Store, kind: str) -> None:
    write: dict[str, Any] = {
        "record": lambda: write_record(memory_store, "a", {"x": [1, 2], "y": "text"}),
        "table": lambda: write_table(memory_store, "a", TABLE.select(["text", "number"])),
        "groups": lambda: write_groups(memory_store, "a", TABLE.select(["text", "number"])),
    }
    read: dict[str, Any] = {
        "record": lambda: read_record(memory_store, "a"),
        "table": lambda: read_table(memory_store, "a"),
        "groups": lambda: pa.concat_tables(read_groups(memory_store, "a", ["text", "number"])),
    }
    write[kind]()
    whole, size, messages = read[kind](), len(memory_store.read("a")), list[str]()
    for at in range(0, size, 1 if kind == "record" else 11):
        write[kind]()
        flip(memory_store, "a", at)
        try:
            same = read[kind]() == whole
        except InputError as error:
            messages.append(str(error))
            assert not memory_store.exists("a")
        else:
            assert same, at
            assert kind == "groups", "only a Parquet file that is not read whole has bits that no reader uses"
    assert len(messages) > 20
    assert [text for text in messages if DAMAGED not in text] == []


def test_a_shortened_file_is_removed(memory_store: Store) -> None:
    write_table(memory_store, "a", TABLE)
    body = memory_store.read("a")
    for size in (1, 8, 20, len(body) // 2, len(body) - 1):
        memory_store.write("a", body[:size])
        with pytest.raises(InputError, match=DAMAGED):
            read_table(memory_store, "a")
        assert memory_store.list() == {}


@pytest.mark.parametrize(("bad_reads", "survives"), [(0, True), (2, True), (3, False)])
def test_a_read_that_flips_a_bit_is_made_again_twice(
    memory_store: Store, monkeypatch: pytest.MonkeyPatch, bad_reads: int, survives: bool
) -> None:
    write_record(memory_store, "a", {"x": 1})
    read, reads = MemoryFolder.read, []

    def flipped(self: MemoryFolder, path: str) -> bytes:
        reads.append(path)
        body = read(self, path)
        return body.replace(b"1", b"3") if len(reads) <= bad_reads else body

    monkeypatch.setattr(MemoryFolder, "read", flipped)
    if survives:
        assert (read_record(memory_store, "a"), len(reads)) == ({"x": 1}, bad_reads + 1)
    else:
        with pytest.raises(InputError, match=DAMAGED):
            read_record(memory_store, "a")
    assert memory_store.exists("a") == survives


def test_a_missing_file_and_an_error_of_the_caller_are_no_damage(memory_store: Store) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_record(memory_store, "gone")
    write_groups(memory_store, "a")
    with pytest.raises(ValueError, match="ours"):  # noqa: PT012
        for _ in read_groups(memory_store, "a", ["number"]):
            raise ValueError("ours")
    assert memory_store.exists("a")


def test_what_goes_with_a_damaged_file_is_removed_too(memory_store: Store) -> None:
    for path in ("a", "b", "c"):
        memory_store.write(path, json.dumps({}).encode())
    with pytest.raises(InputError, match=DAMAGED), remove_if_damaged(memory_store, "a", "b"):
        raise EOFError
    assert list(memory_store.list()) == ["c"]


def test_sums_do_not_depend_on_chunks_and_do_on_everything_else() -> None:
    sums = column_sums(TABLE)
    for size in (1, 7, 200):
        chunked = pa.concat_tables([TABLE.slice(start, size) for start in range(0, len(TABLE), size)])
        assert column_sums(chunked) == sums
    texts = [["ab", "c"], ["a", "bc"], ["abc", ""], ["ab", "d"]]
    tables = [pa.table({"x": pa.array(values, pa.large_string())}) for values in texts]
    tables += [table.cast(pa.schema([("x", pa.large_binary())])) for table in tables[:1]]
    tables += [pa.table({"x": pa.array([1, 2], kind)}) for kind in (pa.int32(), pa.uint32(), pa.int64())]
    assert len({column_sums(table)["x"] for table in tables}) == len(tables)
