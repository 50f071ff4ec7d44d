"""Names of the array types that functions take and return, the offsets of an Arrow string array as numpy sees them, and Arrow
without pandas.

Importing this module loads numpy alone.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[Any]
"""float32 or float64; a function returns the type that it was given."""
Mask = npt.NDArray[np.bool_]


def string_offsets(values: pa.LargeStringArray | pa.LargeBinaryArray) -> I64:
    """(values + 1) bytes of the array's third buffer at which each value begins; the last one is where the last value ends."""
    if not len(values):
        return np.zeros(1, np.int64)
    return np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]


def byte_lengths(values: pa.LargeStringArray | pa.LargeBinaryArray) -> I64:
    """(values) bytes of UTF-8 of each value; 0 for null."""
    return np.diff(string_offsets(values))


class _NoPandas(MetaPathFinder):
    """Finds no pandas."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ImportError("pyarrow is not to import pandas")


def keep_pandas_out() -> None:
    """Let pyarrow look for pandas now, and find none.

    It imports pandas when it makes its first array, to know pandas' types: 0.25 s and 30 MB in every process. Nothing here gives
    it such a value. Whoever imports pandas later can: Arrow converts from and to it as ever.
    """
    import pyarrow as pa

    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, finder := _NoPandas())
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
