"""Columns of Parquet and Arrow: types of strings, other types, extension types, vectors, row numbers."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source
from tests.support.reader_files import LIMIT, read_rows


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
            read_rows(path)
        return
    if kind == ".parquet":
        pq.write_table(table, path, row_group_size=3)
    elif kind == ".feather":
        pyarrow.feather.write_feather(table, str(path), compression="zstd")
    else:
        with (pa.ipc.new_stream if kind == ".arrow" else pa.ipc.new_file)(path, table.schema) as out:
            out.write_table(table)
    rows, bad = read_rows(path, limit=100, id="other")
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
    for file in (path, tmp_path / "x.arrow"):
        assert read_rows(file, text="nothing")[1] == [(i, "own", "null text") for i in range(3)]
        assert read_rows(file, domain="nothing")[1] == [(i, "own", "no domain") for i in range(3)]
        for keys, says in (
            ({"text": "number"}, r"the column 'number' is of int64, which is not text"),
            ({"text": "list"}, r"is of list<element: string>, which is not text|is of list<item: string>, which is not text"),
            ({"text": "meta"}, r"is of struct<.*>, which is not text"),
            ({"domain": "list"}, r"is of list<.*>; for the domain store strings, integers, dates or UUIDs"),
            ({"id": "meta"}, r"is of struct<.*>; for the id store strings"),
        ):
            with pytest.raises(InputError, match=says):
                read_rows(file, **keys)
        nested = read_rows(file, text="meta.text", domain="meta.set")
        assert nested == ([(0, "s", "a", None)], [(1, "own", "null text"), (2, "own", "null text")])
        assert [row[2] for row in read_rows(file, text="meta.n")[0]] == ["literal"] * 3
        assert read_rows(file, domain="number") == ([(0, "1", "x", None), (2, "3", "z", None)], [(1, "own", "no domain")])
        assert read_rows(file, id="number") == ([(0, "own", "x", "1"), (2, "own", "z", "3")], [(1, "own", "no id")])
        for keys in ({"text": "body"}, {"text": "meta.body"}, {"domain": "set"}, {"id": "text.id"}):
            with pytest.raises(
                InputError, match=r"no column '.*' for the \w+; there are number, nothing, list, meta, meta\.n, text"
            ):
                read_rows(file, **keys)


def test_extension_types_are_refused_unread(tmp_path: Path) -> None:
    ran = []

    class Foreign(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.string(), "chameleon.test")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: pa.DataType, data: bytes) -> Foreign:
            return cls()

        def __arrow_ext_class__(self) -> type:
            class Values(pa.ExtensionArray):
                def __init__(self) -> None:
                    ran.append(1)

            return Values

    table = pa.table({"text": pa.ExtensionArray.from_storage(Foreign(), pa.array(["a"])), "plain": ["b"]})
    pq.write_table(table, tmp_path / "x.parquet")
    pyarrow.feather.write_feather(table, str(tmp_path / "x.feather"))
    for name in ("x.parquet", "x.feather"):
        with pytest.raises(InputError, match="extension type"):  # not registered here: known by its name alone
            read_rows(tmp_path / name)
        assert [row[2] for row in read_rows(tmp_path / name, text="plain")[0]] == ["b"]
    pa.register_extension_type(Foreign())
    try:
        for name, key in itertools.product(("x.parquet", "x.feather"), ("text", "plain")):
            with pytest.raises(InputError, match="extension type"):
                read_rows(tmp_path / name, text=key)
    finally:
        pa.unregister_extension_type("chameleon.test")
    assert not ran


def test_row_numbers_are_of_the_file(tmp_path: Path) -> None:
    texts = [None if i % 7 == 3 else f"text {i}" for i in range(5000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", row_group_size=1300)
    pyarrow.feather.write_feather(pa.table({"text": texts}), str(tmp_path / "x.feather"), chunksize=1700)
    for name in ("x.parquet", "x.feather"):
        rows, bad = read_rows(tmp_path / name, block_bytes=20_000)
        assert rows == [(i, "own", text, None) for i, text in enumerate(texts) if text]
        assert bad == [(i, "own", "null text") for i, text in enumerate(texts) if text is None]


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
    found = [b for f in list_fragments("own", source).fragments for b in read_blocks(f, source, LIMIT, vectors="meta.vector")]
    assert [v for b in found for v in b.vectors.to_pylist()] == [*vectors[:4], None, None, None, None]
    assert [t for b in found for t in b.text.to_pylist()] == texts[:8]
    assert {b.vectors.type for b in found} == {pa.large_list(pa.float32())}
    assert all(b.vectors is None for f in list_fragments("own", source).fragments for b in read_blocks(f, source, LIMIT))


@pytest.mark.parametrize(
    ("column", "says"),
    [(pa.array([[1, 2]]), "wants lists of float"), (pa.array(["x"]), "wants lists of float"), (None, "no column 'vector'")],
    ids=["integers", "strings", "missing"],
)
def test_what_is_no_column_of_vectors_is_refused(tmp_path: Path, column: pa.Array | None, says: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], **({} if column is None else {"vector": column})}), path)
    source = Source(path=(str(path),))
    (fragment,) = list_fragments("own", source).fragments
    with pytest.raises(InputError, match=says):
        list(read_blocks(fragment, source, LIMIT, vectors="vector"))
    (tmp_path / "b.jsonl").write_text('{"text": "a", "vector": [1.0]}\n')
    source = Source(path=(str(tmp_path / "b.jsonl"),))
    (fragment,) = list_fragments("own", source).fragments
    with pytest.raises(InputError, match=r"only Parquet and Arrow"):
        list(read_blocks(fragment, source, LIMIT, vectors="vector"))


KEYS: list[tuple[pa.Array, list[str] | str]] = [  # a column, and its values as text or why it is refused
    (pa.array([7, -1], pa.int8()), ["7", "-1"]),
    (pa.array([2**64 - 1, 0], pa.uint64()), ["18446744073709551615", "0"]),
    (pa.array([date(2020, 1, 2), date(1969, 12, 31)]), ["2020-01-02", "1969-12-31"]),
    (pa.array([date(2020, 1, 2), date(1969, 12, 31)], pa.date64()), ["2020-01-02", "1969-12-31"]),
    (pa.array([5, 6]).dictionary_encode(), ["5", "6"]),
    (pa.array([UUID(int=1).bytes, UUID(int=2).bytes], pa.binary(16)), [str(UUID(int=1)), str(UUID(int=2))]),
    (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID(int=1).bytes] * 2, pa.binary(16))), [str(UUID(int=1))] * 2),
    (pa.array([b"ab", b"cd"], pa.binary(2)), ["ab", "cd"]),
    (pa.array([1.0, 2.0]), "double"),
    (pa.array([True, False]), "bool"),
    (pa.array([0, 1], pa.timestamp("us")), r"timestamp\[us\]"),
    (pa.array([Decimal("1.5")] * 2), r"decimal128\(2, 1\)"),
]


@pytest.mark.parametrize("kind", [".parquet", ".feather", ".arrow"])
@pytest.mark.parametrize(("column", "expected"), KEYS, ids=[str(column.type) for column, _ in KEYS])
@pytest.mark.parametrize("role", ["id", "domain"])
def test_types_of_domains_and_ids(tmp_path: Path, kind: str, column: pa.Array, expected: list[str] | str, role: str) -> None:
    """As text, the same in every format; a type that can be written in several ways is refused by its name."""
    table = pa.table({"text": ["a", "b"], "key": column})
    path = tmp_path / f"x{kind}"
    if kind == ".parquet":
        pq.write_table(table, path)
    else:
        with (pa.ipc.new_file if kind == ".feather" else pa.ipc.new_stream)(path, table.schema) as out:
            out.write_table(table)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=rf"x\{kind}: the column 'key' is of {expected}; for the {role} store strings"):
            read_rows(path, **{role: "key"})
        return
    rows, bad = read_rows(path, **{role: "key"})
    assert ([row[3 if role == "id" else 1] for row in rows], bad) == (expected, [])


@pytest.mark.parametrize("kind", [".ipc", ".arrow", ".parquet"])
def test_categories_as_polars_writes_them(tmp_path: Path, kind: str) -> None:
    """Dictionaries of string views, which Arrow itself cannot decode."""
    names = ["web", None, "a name of more than twelve bytes", "web"]
    texts = ["a", "b", "c", "text of more than twelve bytes"]
    frame = pl.DataFrame({"text": texts, "set": names, "all": names}).with_columns(
        pl.col("set").cast(pl.Categorical), pl.col("all").cast(pl.Enum(["web", "unused", "a name of more than twelve bytes"]))
    )
    path = tmp_path / f"x{kind}"
    {".ipc": frame.write_ipc, ".arrow": frame.write_ipc_stream, ".parquet": frame.write_parquet}[kind](path)
    expected = [(i, name, texts[i], None) for i, name in enumerate(names) if name]
    assert read_rows(path, domain="set") == read_rows(path, domain="all") == (expected, [(1, "own", "no domain")])
    assert [row[2] for row in read_rows(path, text="set")[0]] == [name for name in names if name]
    frame.slice(1, 1).write_ipc(tmp_path / "null.ipc")
    assert read_rows(tmp_path / "null.ipc", domain="all") == ([], [(1 - 1, "own", "no domain")])
