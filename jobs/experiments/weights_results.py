"""Results of the experiments on weights: a table on the screen, and rows as JSON beside docs/results.md."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from chameleon_data.jobs.screen import format_value, make_table, out

DEMO = "jobs/recipes/demo/demo.yaml"
"""The recipe whose corpora and model everybody has."""
DIMENSIONS = 64
"""Dimensions of synthetic embeddings."""
RESULTS_FOLDER = Path("docs/results")
"""Relative to the repository, from whose root the experiments are run."""


def keep_results(name: str, command: str, question: str, rows: Sequence[Mapping[str, object]], started: float) -> None:
    """Print the rows, and write them to docs/results/NAME.json with the seconds since `started` (`time.monotonic`).

    `command` names the module that made them.
    """
    table = make_table(*rows[0])
    for row in rows:
        table.add_row(*(format_value(value) for value in row.values()))
    out.print(table)
    seconds = round(time.monotonic() - started, 1)
    record = {
        "question": question,
        "command": f"python -m chameleon_data.jobs.experiments.{command}",
        "seconds": seconds,
        "rows": rows,
    }
    RESULTS_FOLDER.mkdir(parents=True, exist_ok=True)
    (RESULTS_FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    out.print(f"{RESULTS_FOLDER / name}.json, {seconds} s")
