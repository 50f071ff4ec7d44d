"""The mixtures that documents of a task aim: the shares in mixtures/like-*.json, which `like` and `finetuning` compare."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.pipelines.build import weigh_recipe
from chameleon_data.pipelines.engine import Engine, Progress
from chameleon_data.recipe import Recipe, Source, Weights
from chameleon_data.store.store import Store

AIMING_TASKS = ("legal", "medical", "technical")
EXAMPLES_OF_A_TASK = 128
"""Documents of each task, the last ones of its files."""
NATS = 0.3
"""How far from uniform the milder mixtures lie."""
DECIMALS = 6
"""Decimals of a share as the files have it."""


def aim_mixtures(
    engine: Engine, corpora: Path, pretraining: Recipe, finetuning: Recipe, progress: Progress
) -> dict[str, dict[str, float]]:
    """Name of a mixture's file -> domain -> share, before any bound.

    Each task aims a mixture of the domains of `pretraining`; all tasks together aim one of those of `finetuning`.
    """
    examples = Store(str(Path(pretraining.out).parent / "examples"))
    for task in AIMING_TASKS:
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in _last_texts(f"{corpora}/{task}/*", pretraining)]
        examples.write(f"{task}.jsonl", "\n".join([*lines, ""]).encode())
    found: dict[str, dict[str, float]] = {}
    for recipe, name in [*((pretraining, task) for task in AIMING_TASKS), (finetuning, "*")]:
        for nats in (None, NATS):
            weights: dict[str, object] = {
                "objective": recipe.weights.objective,
                "target": {"like": f"{examples.url}/{name}.jsonl"},
            }
            if nats is not None:
                weights["temperature"] = {"kl": nats}
            aimed = recipe.model_copy(update={"weights": Weights.model_validate(weights)})
            shares = weigh_recipe(aimed, engine, progress).mixture.description.unbounded
            label = "tasks" if name == "*" else name
            found[f"like-{label}" if nats is None else f"like-{nats:g}-{label}"] = {
                domain: round(share, DECIMALS) for domain, share in shares.items()
            }
    return found


def _last_texts(path: str, recipe: Recipe) -> Iterator[str]:
    last = deque[str](maxlen=EXAMPLES_OF_A_TASK)
    source = Source(path=(path,))
    for fragment in list_fragments("task", source).fragments:
        for block in read_blocks(fragment, source, recipe.input.max_document):
            last.extend(block.text.to_pylist())
    yield from last
