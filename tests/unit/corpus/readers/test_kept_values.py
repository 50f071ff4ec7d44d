"""What becomes of each odd value of a kept column: the same bytes from every format, or the same reason."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.recipe import Source

NOT_TEXT = "a column is not UTF-8"
OF_JSON = [
    ("1.5", "1.5"), ("-0.0", "0"), ("100.0", "100"), ("1e-320", "1e-320"), ("true", "true"),
    ("9223372036854775807", "9223372036854775807"), ("18446744073709551615", '"18446744073709551615"'),
    ("123456789012345678901234567890", "1.2345678901234568e+29"), ('"x\\u0000\\ny"', '"x\\u0000\\ny"'), ('""', '""'),
    ('{"b": [1, {"c": null}], "a": "\\ud83d\\ude00"}', json.dumps('{"a":"\U0001f600","b":[1,{"c":null}]}', ensure_ascii=False)),
    ("null", None), ("NaN", None), ("-Infinity", None), ("[NaN]", '"[null]"'),
    ("1e400", None), ("-1E+400", None), ("9" * 400, None), ("[1e400, 1]", '"[null,1]"'),
    ('"\\ud800"', NOT_TEXT), ('"\\ude00\\ud83d"', NOT_TEXT), ('["a", {"b": "\\udfff"}]', NOT_TEXT), ('{"\\ud800": 1}', NOT_TEXT),
]  # fmt: skip
"""A value of JSON, and what is kept of it as JSON; None: nothing."""
TYPED = [
    (pa.array([2**64 - 1], pa.uint64()), '"18446744073709551615"'), (pa.array([2**53 + 1]), "9007199254740993"),
    (pa.array([float("nan")]), None), (pa.array([float("-inf")], pa.float32()), None), (pa.array([1.5], pa.float16()), "1.5"),
    (pa.array([Decimal("1.10")], pa.decimal128(38, 2)), '"1.10"'), (pa.nulls(1), None),
    (pa.array([datetime(2020, 1, 1, tzinfo=UTC)], pa.timestamp("us", "Asia/Kolkata")), '"2020-01-01 05:30:00.000000+0530"'),
    (pa.array([date(1, 1, 1)]), '"0001-01-01"'), (pa.array(["a"]).dictionary_encode(), '"a"'),
    (pa.array([b"ok"]), '"ok"'), (pa.array([b"\xff"]), NOT_TEXT), (pa.array([b"\xff\xff"], pa.binary(2)), NOT_TEXT),
    (pa.array([{"x": 2**64 - 1, "y": float("nan"), "z": b"ok"}],
              pa.struct({"x": pa.uint64(), "y": pa.float64(), "z": pa.binary()})),
     json.dumps('{"x":18446744073709551615,"y":null,"z":"ok"}')),
    (pa.array([{"z": [b"\xed\xa0\x80"]}]), NOT_TEXT), (pa.array([[2**53 + 1, None]]), '"[9007199254740993,null]"'),
    (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), json.dumps('[["a",1]]')),
]  # fmt: skip


def read(path: Path) -> tuple[str | None, str]:
    """What is kept of the column k of the only row, and the reason where it is quarantined."""
    source = Source(path=(str(path),), keep=("k",))
    (fragment,) = list_fragments("own", source).fragments
    (block,) = read_blocks(fragment, source, 2**20)
    if block.bad:
        assert len(block.text) == 0
        return None, block.bad[0].reason
    assert block.columns is not None
    return block.columns.to_pylist()[0].decode().removeprefix('{"k":').removesuffix("}") or None, ""


def expect(kept: str | None) -> tuple[str | None, str]:
    return (None, NOT_TEXT) if kept == NOT_TEXT else (kept, "")


@pytest.mark.parametrize(("value", "kept"), OF_JSON)
@pytest.mark.parametrize("whole", ["%s\n", "[%s]"], ids=["lines", "array"])
def test_a_value_of_json(tmp_path: Path, value: str, kept: str | None, whole: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(whole % f'{{"text": "some text", "k": {value}}}')
    assert read(file) == expect(kept)


@pytest.mark.parametrize(
    ("value", "kept"), [("\ud800".encode(errors="surrogatepass"), NOT_TEXT), (b"NaN", '"NaN"'), (b"\xc3\xa4", '"ä"')]
)
def test_a_value_of_csv(tmp_path: Path, value: bytes, kept: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"text,k\nsome text," + value + b"\n")
    assert read(file) == expect(kept)


@pytest.mark.parametrize(("column", "kept"), TYPED)
def test_a_value_with_a_type(tmp_path: Path, column: pa.Array, kept: str | None) -> None:
    table = pa.table({"text": ["some text"], "k": column})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.parquet") == read(tmp_path / "a.arrow") == expect(kept)
