"""Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.errors import InputError
from tests.support.reader_files import read_rows


def test_flipped_bits_in_parquet_with_checksums(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(50)]}), path, write_page_checksum=True, compression="none")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"text 30")
    whole[at] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match="fetch it again"):
        read_rows(path)
