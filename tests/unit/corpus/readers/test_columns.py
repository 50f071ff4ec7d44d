"""Columns of Parquet and Arrow: types of strings, other types, extension types, vectors, row numbers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

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
    not_string = "text is not a string"
    for file in (path, tmp_path / "x.arrow"):
        assert read_rows(file, text="number")[1] == [(0, "own", not_string), (1, "own", "null text"), (2, "own", not_string)]
        assert read_rows(file, text="nothing")[1] == [(i, "own", "null text") for i in range(3)]
        assert read_rows(file, text="list")[1] == [(0, "own", not_string), (1, "own", not_string), (2, "own", "null text")]
        assert read_rows(file, text="meta")[1] == [(0, "own", not_string), (1, "own", not_string), (2, "own", "null text")]
        nested = read_rows(file, text="meta.text", domain="meta.set")
        assert nested == ([(0, "s", "a", None)], [(1, "own", "null text"), (2, "own", "null text")])
        assert [row[2] for row in read_rows(file, text="meta.n")[0]] == ["literal"] * 3
        assert read_rows(file, domain="number")[1] == [(i, "own", "no domain") for i in range(3)]
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
    found = [b for f in list_fragments("own", source) for b in read_blocks(f, source, LIMIT, vectors="meta.vector")]
    assert [v for b in found for v in b.vectors.to_pylist()] == [*vectors[:4], None, None, None, None]
    assert [t for b in found for t in b.text.to_pylist()] == texts[:8]
    assert {b.vectors.type for b in found} == {pa.large_list(pa.float32())}
    assert all(b.vectors is None for f in list_fragments("own", source) for b in read_blocks(f, source, LIMIT))


@pytest.mark.parametrize(
    ("column", "says"),
    [(pa.array([[1, 2]]), "wants lists of float"), (pa.array(["x"]), "wants lists of float"), (None, "no column 'vector'")],
    ids=["integers", "strings", "missing"],
)
def test_what_is_no_column_of_vectors_is_refused(tmp_path: Path, column: pa.Array | None, says: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], **({} if column is None else {"vector": column})}), path)
    source = Source(path=(str(path),))
    (fragment,) = list_fragments("own", source)
    with pytest.raises(InputError, match=says):
        list(read_blocks(fragment, source, LIMIT, vectors="vector"))
    (tmp_path / "b.jsonl").write_text('{"text": "a", "vector": [1.0]}\n')
    source = Source(path=(str(tmp_path / "b.jsonl"),))
    (fragment,) = list_fragments("own", source)
    with pytest.raises(InputError, match=r"only Parquet and Arrow"):
        list(read_blocks(fragment, source, LIMIT, vectors="vector"))
