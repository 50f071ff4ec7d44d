"""Layouts, and what came of cutting them, as files that tasks read: a Parquet file of one row, with a list for each array.

Cost: the layout of 10,000 domains with 1,024 buckets each is some 100 MB, and takes a task .5 s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.plan.cuts import Expected, SlotCuts
from chameleon_data.plan.layout import CutCopies, Layout, Segments, Slots
from chameleon_data.plan.plan import Plan
from chameleon_data.plan.streams import Stream
from chameleon_data.store.adapters import type_adapter
from chameleon_data.store.checksummed import read_table, write_table
from chameleon_data.store.store import Store

Arrays = dict[str, npt.NDArray[Any]]
_PLAN = "plan"
_SUMS = ("delivered", "delivered_tokens", "tokens")
"""Arrays of a stream."""


def write_layout(store: Store, path: str, layout: Layout) -> None:
    slots = {name: getattr(layout.slots, name) for name in _names(Slots) if name not in ("segments", "copies")}
    streams = {name: np.stack([getattr(stream, name) for stream in layout.streams]).reshape(-1) for name in _SUMS}
    once = np.array([stream.first_epoch_rows for stream in layout.streams], np.int64)
    arrays = {"begins": layout.begins, **slots, **streams, "first_epoch_rows": once}
    arrays |= _prefixed("segments", layout.slots.segments) | _prefixed("copies", layout.slots.copies)
    _write(store, path, arrays, {_PLAN: json.dumps(asdict(layout.plan))})


def read_layout(store: Store, path: str) -> Layout:
    arrays, texts = _read(store, path)
    plan: Plan = type_adapter(Plan).validate_python(json.loads(texts[_PLAN]))
    own = {name: arrays[name] for name in _names(Slots) if name not in ("segments", "copies")}
    slots = Slots(**own, segments=Segments(**_of(arrays, "segments")), copies=CutCopies(**_of(arrays, "copies")))
    shape = (len(plan.domains), len(arrays["begins"]) - 1)
    rows, of_rows, tokens = (arrays[name].reshape(shape) for name in _SUMS)
    once = arrays["first_epoch_rows"].tolist()
    streams = tuple(
        Stream(domain, plan.packing, *sums) for domain, *sums in zip(plan.domains, rows, of_rows, tokens, once, strict=True)
    )
    return Layout(plan, arrays["begins"], streams, slots)


def write_cuts(store: Store, path: str, cuts: SlotCuts) -> None:
    arrays = _prefixed("segments", cuts.segments) | _prefixed("copies", cuts.copies) | _prefixed("expected", cuts.expected)
    _write(store, path, {**arrays, "first_epoch_rows": cuts.first_epoch_rows}, {})


def read_cuts(store: Store, path: str) -> SlotCuts:
    arrays, _ = _read(store, path)
    segments, copies = Segments(**_of(arrays, "segments")), CutCopies(**_of(arrays, "copies"))
    return SlotCuts(segments, copies, Expected(**_of(arrays, "expected")), arrays["first_epoch_rows"])


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _prefixed(prefix: str, value: Segments | CutCopies | Expected) -> Arrays:
    return {f"{prefix}.{name}": getattr(value, name) for name in _names(value)}


def _of(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(f"{prefix}."): values for name, values in arrays.items() if name.startswith(f"{prefix}.")}


def _write(store: Store, path: str, arrays: Arrays, texts: Mapping[str, str]) -> None:
    columns = {name: pa.array([values]) for name, values in arrays.items()}
    write_table(store, path, pa.table({**columns, **{name: pa.array([text], pa.large_string()) for name, text in texts.items()}}))


def _read(store: Store, path: str) -> tuple[Arrays, dict[str, str]]:
    table = read_table(store, path)
    arrays, texts = Arrays(), dict[str, str]()
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_large_string(column.type):
            texts[name] = column[0].as_py()
        else:
            arrays[name] = np.array(column.values)
    return arrays, texts
