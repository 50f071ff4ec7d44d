"""One rank of the trainers' page: its snippets, run as they stand, and the rows that each batch holds.

    RANK=0 WORLD_SIZE=2 … python -m tests.support.trainer_page FOLDER SECTION …

FOLDER holds a folder for each format, whose packed rows begin with their own number. Prints JSON, section -> the numbers of the
rows in each batch, from the first row and from row BEGIN; None where a package is missing.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.support import streaming_reader
from tests.support.pages import read_blocks
from tests.support.paths import ROOT

BATCH, BEGIN = 4, 24
FORMATS = {"MosaicML Streaming": "mds", "litdata": "litdata", "Megatron": "megatron"}
"""Section -> format of its rows, where that is not Parquet."""
STEPS = 12
Batches = list[list[int]]


def read_snippets() -> dict[str, str]:
    """Section of the page -> its Python."""
    code: dict[str, str] = {}
    for block in read_blocks(ROOT / "docs/trainers.md"):
        if block.language == "python":
            code[block.section] = code.get(block.section, "") + block.code
    return code


def run(section: str, folder: Path, begin: int) -> Batches:
    """The numbers of the rows of each batch that the section's loader or trainer takes."""
    snippets = read_snippets()
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    seen: Batches = []
    names: dict[str, Any] = {
        "folder": str(folder / FORMATS.get(section, "parquet")), "cache": str(folder / f"cache-{section}-{begin}"),
        "out": str(folder / f"out-{rank}"), "batch": BATCH, "workers": 2, "rank": rank, "ranks": ranks, "begin": begin,
        "steps": STEPS, **_models(section, seen),
    }  # fmt: skip
    for name in ("Rows of a batch", "Rows by number", section):
        exec(compile(snippets[name], f"trainers.md, {name}", "exec"), names)
    if section == "MosaicML Streaming" and begin:
        state = _stop(names["loader"], begin // (BATCH * ranks))
        names["cache"] += "-again"  # as in another process
        exec(snippets[section], names)
        names["loader"].load_state_dict(state)
    return seen or [_numbers(batch) for batch in names["loader"]]


def _stop(loader: Any, steps: int) -> dict[str, Any]:
    """The loader's own state after so many batches."""
    states = (loader.state_dict() for _ in loader)
    return next(itertools.islice(states, steps - 1, None))


def _numbers(batch: dict[str, Any]) -> list[int]:
    numbers: list[int] = batch["input_ids"][:, 0].tolist()
    return numbers


def _models(section: str, seen: Batches) -> dict[str, Any]:
    """A model of one parameter, which writes down what it gets."""
    import torch

    if section == "Hugging Face Trainer":

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
                seen.append(_numbers(batch))
                return {"loss": self.weight.sum()}

        return {"model": Model()}
    if section == "Lightning":
        import pytorch_lightning

        class Module(pytorch_lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
                seen.append(_numbers(batch))
                return self.weight.sum()

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), 0.1)

        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        return {"model": Module(), "options": {"accelerator": "cpu", "devices": int(os.environ["WORLD_SIZE"]), **quiet}}
    return {}


def main(folder: Path, sections: list[str]) -> dict[str, list[Batches] | None]:
    found: dict[str, list[Batches] | None] = {}
    for section in sections:
        try:
            if section == "MosaicML Streaming":
                streaming_reader.load()
            code = read_snippets()[section]
            begins = (0, BEGIN) if "begin" in code or section == "MosaicML Streaming" else (0,)
            found[section] = [run(section, folder, begin) for begin in begins]
        except ImportError:
            found[section] = None
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    sys.stdout.write(f"\n{json.dumps(main(Path(sys.argv[1]), sys.argv[2:]))}\n")
