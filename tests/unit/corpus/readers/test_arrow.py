"""Arrow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from chameleon_data.errors import InputError
from tests.support.reader_files import read_rows


def test_offsets_that_point_outside_are_refused(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 5, 3, 9], np.int32))
    hostile = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcdefghi")])
    with pa.ipc.new_file(tmp_path / "x.arrow", pa.schema([("text", pa.string())])) as out:
        out.write_batch(pa.record_batch([hostile], ["text"]))
    with pytest.raises(InputError, match="fetch it again"):
        read_rows(tmp_path / "x.arrow")


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("x.arrow", b"FEA1....FEA1", "Feather version 1"),
        ("x.arrow", b'{"text": "a"}\n', "ends with .arrow, but it holds JSON lines"),
        ("x.ipc", b"", "truncated"),
    ],
)
def test_files_that_are_not_arrow(tmp_path: Path, name: str, body: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InputError, match=says):
        read_rows(tmp_path / name)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (5, 0), (0, 0), (5, 1), (3000, 0), (3000, 3000)])
def test_files_that_were_joined_are_refused(tmp_path: Path, first: int, second: int) -> None:
    """The footer of the last knows nothing of the first, whose rows would be lost, or come in the place of others."""
    joined = b""
    for rows in (first, second):
        sink, table = pa.BufferOutputStream(), pa.table({"text": pa.array([f"row {i}" for i in range(rows)], pa.string())})
        with pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        joined += sink.getvalue().to_pybytes()
    (tmp_path / "x.arrow").write_bytes(joined)
    with pytest.raises(InputError, match="joined by `cat`; give each its own file"):
        read_rows(tmp_path / "x.arrow")
