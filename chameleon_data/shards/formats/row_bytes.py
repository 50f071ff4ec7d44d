"""A file of rows as one join of byte strings, and back: formats that go row by row, written and read by columns.

Each row is the same few byte strings in the same order. So a file is one Arrow `binary_join_element_wise` over as many arrays,
which copies every byte once. Reading is the file under one array of boundaries, from which a column is a strided `take`.
Rows of 2 kB join at 4.5 GB/s on one core. Why: docs/decisions/036-rows-joined-by-columns.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chameleon_data.arrays import I64, string_offsets

BYTES_TYPE = pa.large_binary()
U32 = np.dtype("<u4")


def byte_strings(offsets: I64, data: pa.Buffer) -> pa.Array:
    """(rows,) byte strings that lie one after the other in `data`, between `offsets` (rows + 1)."""
    return pa.Array.from_buffers(BYTES_TYPE, len(offsets) - 1, [None, pa.py_buffer(offsets.astype(np.int64, copy=False)), data])


def fixed_size_strings(values: npt.NDArray[Any]) -> pa.Array:
    """(rows,) byte strings of one size: the rows of a matrix or the values of a vector, little-endian."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    size = values.nbytes // max(1, len(values))
    return byte_strings(size * np.arange(len(values) + 1), pa.py_buffer(values.reshape(-1)))


def list_strings(lists: pa.Array) -> pa.Array:
    """(rows,) byte strings of lists of numbers, little-endian."""
    numbers = lists.flatten().to_numpy()
    numbers = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    offsets = np.append(0, np.cumsum(pc.list_value_length(lists).to_numpy().astype(np.int64)))
    return byte_strings(numbers.itemsize * offsets, pa.py_buffer(numbers))


def zero_padding(sizes: I64) -> pa.Array:
    """(rows,) so many zero bytes."""
    offsets = np.append(0, np.cumsum(sizes))
    return byte_strings(offsets, pa.py_buffer(np.zeros(offsets[-1], np.uint8)))


def join_rows(strings: list[pa.Array]) -> pa.Buffer:
    """Row by row, the byte strings of each row."""
    joined = pc.binary_join_element_wise(*strings, pa.scalar(b"", BYTES_TYPE))
    return joined.buffers()[2].slice(0, int(string_offsets(joined)[-1]))


def join_sized_rows(sizes: I64, values: list[pa.Array], head: bytes = b"", tail: bytes = b"") -> pa.Buffer:
    """`head`, then row by row `sizes` (rows, sizes of a row; stored as uint32) and `values`, then `tail`.

    At least one row. The head goes before the first row's sizes and the tail behind the last row's values, so that the join gives
    the finished file without a second copy.
    """
    count, width = len(sizes), U32.itemsize * sizes.shape[1]
    begins = np.append(0, len(head) + width * np.arange(1, count + 1))
    ends = np.append(np.zeros(count, np.int64), len(tail))
    first = byte_strings(begins, pa.py_buffer(head + sizes.astype(U32).tobytes()))
    return join_rows([first, *values, *([byte_strings(ends, pa.py_buffer(tail))] if tail else [])])


def read_offsets(data: pa.Buffer, at: int, count: int) -> I64:
    """(count + 1,) the uint32 offsets that stand at byte `at`. ValueError where they are not there."""
    if at + U32.itemsize * (count + 1) > data.size:
        raise ValueError(f"{count:,} rows do not fit in {data.size:,} bytes")
    return np.frombuffer(data, U32, count + 1, at).astype(np.int64)


def read_sizes(body: pa.Buffer, offsets: I64, columns: int, fixed: int = 0) -> I64:
    """(rows, columns) the sizes that each row begins with. ValueError where a row is not as long as they and `fixed` say."""
    least = U32.itemsize * columns + fixed
    if offsets[-1] > body.size or np.any(np.diff(offsets) < least):
        raise ValueError("the row offsets do not rise to the end of the rows")
    places = offsets[:-1, None] + np.arange(U32.itemsize * columns)
    sizes: I64 = np.frombuffer(body, np.uint8)[places].view(U32).astype(np.int64)
    wrong = np.flatnonzero(sizes.sum(axis=1) + least != np.diff(offsets))
    if len(wrong):
        raise ValueError(f"the sizes of row {wrong[0]:,} do not add up to its length")
    return sizes


def separate_rows(body: pa.Buffer, begin: int, widths: I64) -> list[pa.Array]:
    """The inverse of `join_rows`: byte strings from byte `begin` on, as one array for each column of `widths` (rows, columns).

    The caller has checked that no width is negative and that they add up to no more than is there.
    """
    strings = byte_strings(np.append(begin, begin + np.cumsum(widths)), body)
    return [strings.take(pa.array(np.arange(number, widths.size, widths.shape[1]))) for number in range(widths.shape[1])]


def decode_column(strings: pa.Array, field: pa.Field, stored: str) -> pa.Array:
    """A column of `separate_rows` as its type: text, or numbers (or lists of them) that are stored as the numpy type `stored`.

    ValueError where text is not UTF-8, or a list is no whole number of numbers; OverflowError where a number does not fit.
    """
    kind = field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            return strings.cast(kind)
        except pa.ArrowInvalid:
            raise ValueError(f"{field.name} is not valid UTF-8") from None
    if pa.types.is_list(kind):
        offsets, broken = np.divmod(string_offsets(strings), np.dtype(stored).itemsize)
        if broken.any():
            raise ValueError(f"{field.name} ends within a number")
        values = pa.array(np.frombuffer(strings.buffers()[2] or b"", stored, int(offsets[-1])), kind.value_type)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    sequence = pa.types.is_fixed_size_list(kind)
    length, dtype = (kind.list_size, kind.value_type) if sequence else (1, kind)
    numbers = np.frombuffer(strings.buffers()[2] or b"", stored, len(strings) * length)  # what `take` gives begins at zero
    values = numbers.astype(dtype.to_pandas_dtype())
    if not np.array_equal(values, numbers):
        raise OverflowError(f"a number that is not a {dtype}")
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind) if sequence else pa.array(values)
