"""Kept columns as values, kinds and bytes: canonical, joined in any order, and split again."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.bodies import Bodies
from chameleon_data.corpus.kept_columns import (
    ARROW_TYPES,
    ColumnTally,
    Json,
    decode_columns,
    encode_columns,
    encode_table_columns,
    join_columns,
    join_kinds,
    kind_of,
    mix_columns,
    plain_value,
    split_columns,
)

VALUES = {
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "json": st.builds(lambda value: Json(json.dumps(value)), st.lists(st.integers())),
}


@given(st.data(), st.integers(1, 9))
def test_what_is_stored_has_the_bytes_of_what_was_read(data: st.DataObject, count: int) -> None:
    """The hash of a row is of what was read, and is proved from what is stored."""
    read = {kind: data.draw(st.lists(st.none() | values, min_size=count, max_size=count)) for kind, values in VALUES.items()}
    encoded = encode_columns(read, count)
    columns = decode_columns(encoded, dict(zip(sorted(read), sorted(read), strict=True)))
    table = pa.table(columns, names=sorted(read))
    assert [field.type for field in table.schema] == [ARROW_TYPES[kind] for kind in sorted(read)]
    assert encode_table_columns(table, sorted(read)).equals(encoded)
    for kind, values in read.items():
        assert [None if v is None else v + 0 if kind == "float" else v for v in values] == table[kind].to_pylist()


def test_equal_columns_are_equal_bytes() -> None:
    columns = encode_columns({"b": [2, 2.0, None], "a": ["x", "x", None]}, 3)
    assert columns.to_pylist() == [b'{"a":"x","b":2}', b'{"a":"x","b":2}', b""]
    assert encode_columns({}, 2).to_pylist() == [b"", b""]


def test_the_columns_change_the_low_32_bits_and_nothing_where_there_are_none() -> None:
    hi = np.array([2**63 + 5, 2**63 + 5, 2**63 + 5], np.uint64)
    mixed = mix_columns(hi, pa.array([b'{"a":1}', b'{"a":2}', b""], pa.large_binary()))
    assert len(set(mixed.tolist())) == 3
    assert mixed[2] == hi[2]
    assert (mixed >> np.uint64(32) == hi >> np.uint64(32)).all()


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.binary()), max_size=9))
def test_a_body_is_split_where_it_was_joined(rows: list[tuple[str, bytes]]) -> None:
    texts, columns = pa.array([t for t, _ in rows], pa.large_string()), pa.array([c for _, c in rows], pa.large_binary())
    bodies = Bodies.of(join_columns(texts, columns))
    text, column = split_columns(bodies.take(np.arange(len(rows))[::-1]))
    assert text.gather().to_pylist() == [t.encode() for t, _ in rows[::-1]]
    assert column.gather().to_pylist() == [c for _, c in rows[::-1]]


@pytest.mark.parametrize(
    ("value", "plain", "kind"),
    [
        (1, 1, "integer"), (2**53 + 1, 2**53 + 1, "wide integer"), (2**63, "9223372036854775808", "json"), (1.0, 1.0, "float"),
        (True, True, "boolean"), ("x", "x", "string"), ({"b": [1], "a": None}, '{"a":null,"b":[1]}', "json"), ([], "[]", "json"),
        (float("inf"), None, None), (None, None, None),
    ],
)  # fmt: skip
def test_a_value_has_one_kind(value, plain, kind) -> None:
    found = plain_value(value)
    assert found == plain
    assert found is None or kind_of(found) == kind


@pytest.mark.parametrize(
    ("kinds", "joined"),
    [
        ([], "string"), (["integer"], "integer"), (["integer", "float"], "float"), (["wide integer", "integer"], "integer"),
        (["wide integer", "float"], None), (["string", "integer"], None), (["json", "string"], None), (["boolean"], "boolean"),
    ],
)  # fmt: skip
def test_kinds_join_to_the_least_type_that_holds_all(kinds, joined) -> None:
    assert join_kinds(kinds) == join_kinds(reversed(kinds)) == joined


def test_tallies_add_up_and_name_the_first_file() -> None:
    tally = ColumnTally.of([1, None, 2], "a") + ColumnTally.of(["x", 3], "b")
    assert tally == ColumnTally({"integer": "a", "string": "b"}, 1)
