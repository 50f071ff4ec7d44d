"""The trainers' page: its snippets with two workers on two ranks read each row once, in the order on disk where they say so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.rows import INPUT_IDS
from tests.support import official_readers, trainer_page
from tests.support.paths import ROOT
from tests.support.shard_rows import sequence_rows
from tests.support.trainer_page import BATCH, BEGIN, Batches

ROWS, LENGTH = 96, 8
BOUNDS = [0, 17, 30, 49, 64, 80, ROWS]
"""Where shards begin: within batches too."""
RANKS = 2
EACH_ROW_ONCE = ["datasets, by files"]
IN_ORDER = ["datasets", "datasets, streaming", "Plain PyTorch", "litdata", "Megatron", "MosaicML Streaming"]
WHERE_INSTALLED = ["Hugging Face Trainer", "Lightning"]
"""These come last: they begin a process group of their own."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Batches] | None]]:
    """What each of two ranks, which run at once, saw of each section."""
    folder = tmp_path_factory.mktemp("trainers")
    rows = sequence_rows(ROWS, LENGTH)
    ids = [[number, *row[1:]] for number, row in enumerate(rows[INPUT_IDS].to_pylist())]
    rows = rows.set_column(0, rows.schema.field(0), pa.array(ids, rows.schema.field(0).type))
    for format in {"parquet", *trainer_page.FORMATS.values()}:
        tables = [rows.slice(begin, end - begin) for begin, end in pairwise(BOUNDS)]
        official_readers.store(folder / format, format, tables, TRAIN, 3)
    return run_ranks(folder, [*IN_ORDER, *EACH_ROW_ONCE, *WHERE_INSTALLED])


def run_ranks(folder: Path, sections: Sequence[str]) -> list[dict[str, list[Batches] | None]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "HF_DATASETS_CACHE": str(folder / "hf"), "TMPDIR": str(folder),
        "ACCELERATE_USE_CPU": "true", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.trainer_page", str(folder), *sections],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(RANKS)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=280) for process in processes]
    assert [process.returncode for process in processes] == [0] * RANKS, outputs
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def seen(ranks: list[dict[str, list[Batches] | None]], section: str) -> list[list[Batches]]:
    """(begins, ranks) the batches."""
    of_ranks = [rank[section] for rank in ranks]
    if None in of_ranks:
        pytest.skip(f"the packages of {section} are not installed")
    return [list(of_begin) for of_begin in zip(*[of for of in of_ranks if of is not None], strict=True)]


@pytest.mark.parametrize("section", [*IN_ORDER, *WHERE_INSTALLED])
def test_each_step_of_all_ranks_is_the_next_rows_on_disk(ranks: list[dict[str, list[Batches] | None]], section: str) -> None:
    for begin, of_ranks in zip((0, BEGIN), seen(ranks, section), strict=False):
        steps = [sorted(number for batch in step for number in batch) for step in zip(*of_ranks, strict=True)]
        size = BATCH * RANKS
        assert steps == [list(range(at, at + size)) for at in range(begin, ROWS, size)]


@pytest.mark.parametrize("section", EACH_ROW_ONCE)
def test_each_row_comes_once(ranks: list[dict[str, list[Batches] | None]], section: str) -> None:
    (of_ranks,) = seen(ranks, section)
    assert sorted(number for batches in of_ranks for batch in batches for number in batch) == list(range(ROWS))


def test_every_snippet_is_run() -> None:
    helpers = {"Rows of a batch", "Rows by number"}
    assert trainer_page.read_snippets().keys() - helpers == {*IN_ORDER, *EACH_ROW_ONCE, *WHERE_INSTALLED}


def test_documents_of_a_batch_and_losses_by_domain() -> None:
    names: dict[str, object] = {}
    exec(trainer_page.read_snippets()["Rows of a batch"], names)
    rows = [
        {"input_ids": [5, 6, 7, 8], "domain_id": 2, "doc_starts": [0, 3]},
        {"input_ids": [9, 9, 9, 9], "domain_id": 0, "doc_starts": []},
        {"input_ids": [1, 1, 1, 1], "domain_id": 2, "doc_starts": [1]},
    ]
    batch = names["collate"](rows)
    assert names["document_bounds"](batch).tolist() == [0, 3, 4, 8, 9, 12]
    losses = torch.tensor([1.0, 10.0, 100.0])
    assert names["add_losses"](torch.zeros(3), batch, losses).tolist() == [10.0, 0.0, 101.0]
