"""Delivered rows: the documents that one shard is made from, from runs and from kept rows alike, in no order yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.corpus.bodies import Bodies
from chameleon_data.shards.runs import RUN_SCHEMA

DELIVERED_COLUMNS = {field.name: field.type.to_pandas_dtype() for field in RUN_SCHEMA if field.name != "body"}
"""Name -> type; RUN_SCHEMA says what each is."""


@dataclass(frozen=True)
class Delivered:
    """Documents of one shard."""

    columns: dict[str, npt.NDArray[Any]]
    """Name of a column of DELIVERED_COLUMNS -> (rows,)."""
    bodies: Bodies
    """(rows,) where each text lies, or the token ids."""

    @classmethod
    def of_runs(cls, rows: pa.Table) -> Delivered:
        """A table of RUN_SCHEMA."""
        bodies = Bodies.concatenate([Bodies.of(chunk) for chunk in rows["body"].chunks])
        return cls({name: rows[name].to_numpy() for name in DELIVERED_COLUMNS}, bodies)

    @classmethod
    def concatenate(cls, several: Sequence[Delivered]) -> Delivered:
        """All of them, one after the other."""
        none = {name: np.zeros(0, kind) for name, kind in DELIVERED_COLUMNS.items()}
        columns = {name: np.concatenate([none[name], *(one.columns[name] for one in several)]) for name in none}
        return cls(columns, Bodies.concatenate([one.bodies for one in several]))

    def take(self, rows: npt.NDArray[np.int64]) -> Delivered:
        """Some rows; no body is copied."""
        return Delivered({name: column[rows] for name, column in self.columns.items()}, self.bodies.take(rows))
