"""Which rows a source takes: an SQL condition on its columns, judged for each row by itself.

polars evaluates the condition, on rows whose values are of the same kinds at a time. So what becomes of a row depends on its own
values and not on its neighbours, where JSON gives one column numbers and texts. A condition that is not true leaves the row out,
as SQL has it: also where it is null. One that cannot be evaluated for the row's kinds is a fault of the row.

Cost: 3 million rows a second on one core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_data.corpus.kept_columns import kind_of
from chameleon_data.corpus.readers.rows import NOT_TEXT
from chameleon_data.recipe import check_condition, parse_decimals_as_floats

TAKEN, LEFT_OUT, NOT_JUDGED = 1, 0, -1
NULL = "null"


def judge_rows(condition: str, columns: Mapping[str, Sequence[Any]]) -> npt.NDArray[np.int8]:
    """(rows,) TAKEN, LEFT_OUT or NOT_JUDGED. `columns` holds the values of each column that the condition names."""
    import polars as pl

    names = check_condition(condition)
    expression = pl.sql_expr(parse_decimals_as_floats(condition)).alias("taken")
    kinds = [[NULL if value is None else kind_of(value) for value in columns[name]] for name in names]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, of_row in enumerate(zip(*kinds, strict=True)):
        if not any(columns[name][row] is NOT_TEXT for name in names):
            groups.setdefault(of_row, []).append(row)
    verdict = np.full(len(columns[names[0]]), NOT_JUDGED, np.int8)
    types = {
        "string": pl.String, "json": pl.String, "boolean": pl.Boolean, "float": pl.Float64, "integer": pl.Int64,
        "wide integer": pl.Int64,
    }  # fmt: skip
    for of_group, rows in groups.items():
        values = {name: [columns[name][row] for row in rows] for name in names}
        # A null has no type of its own, and functions of texts refuse one without.
        for null in (pl.Null, pl.String, pl.Int64, pl.Boolean):
            schema: Any = {name: types.get(kind, null) for name, kind in zip(names, of_group, strict=True)}
            try:
                taken = pl.DataFrame(values, schema).select(expression)["taken"]
            except pl.exceptions.PolarsError:
                taken = None
            if taken is not None and taken.dtype in (pl.Boolean, pl.Null) and len(taken) == len(rows):
                verdict[rows] = taken.fill_null(False).to_numpy() if taken.dtype == pl.Boolean else LEFT_OUT
                break
            if NULL not in of_group:
                break
    return verdict
