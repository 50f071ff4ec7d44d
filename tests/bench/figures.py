"""A measured number beside what it is compared with and what it should be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    name: str
    """What was measured."""
    value: float
    unit: str
    """Of `value`, and of `aim`."""
    aim: float | None = None
    """What it should reach, or stay under where lower is better."""
    peer: str = ""
    """What it was compared with, in the same run."""
    lower_is_better: bool = False

    @property
    def met(self) -> bool | None:
        if self.aim is None:
            return None
        return self.value <= self.aim if self.lower_is_better else self.value >= self.aim


def show(figures: Iterable[Figure]) -> None:
    """Print one table."""
    table = Table("figure", "measured", "aim", "", "beside", title="chameleon-data bench")
    table.columns[1].justify = table.columns[2].justify = "right"
    for figure in figures:
        sign = "≤" if figure.lower_is_better else "≥"
        aim = "" if figure.aim is None else f"{sign} {figure.aim:,g} {figure.unit}"
        mark = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met]
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
        table.add_row(figure.name, f"{value} {figure.unit}", aim, mark, figure.peer)
    Console(width=130).print(table)


def median_seconds(action: Callable[[], Any], repeats: int = 5) -> float:
    """Median wall time of an action, after one run that is not counted."""
    action()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
