"""The recipe of conversations: trained tokens are shared as the weights say, by the count of transformers alone."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from chameleon_data.corpus.model_files import find_packaged_model
from tests.support.made_conversations import CORPUS, make_corpus
from tests.support.paths import RECIPES, ROOT

FOLDER = RECIPES / "conversations"


def test_the_corpus_is_made_of_the_demo_as_its_page_says() -> None:
    assert {path.name: path.read_bytes() for path in CORPUS.iterdir()} == make_corpus()


def read_messages() -> dict[str, list[list[dict[str, str]]]]:
    """Domain -> its conversations, without this project's readers."""
    lines = {path.stem: path.read_text(encoding="utf-8").split("\n")[:-1] for path in CORPUS.iterdir()}
    rows = {name: [json.loads(line) for line in of_set] for name, of_set in lines.items()}
    roles = {"human": "user", "gpt": "assistant"}
    return {
        "medical": [row["messages"] for row in rows["medical"]],
        "cooking": [[{"role": roles[t["from"]], "content": t["value"]} for t in row["conversations"]] for row in rows["cooking"]],
        "law": [
            [
                {"role": "user", "content": f"{row['instruction']}\n\n{row['input']}"},
                {"role": "assistant", "content": row["output"]},
            ]
            for row in rows["law"]
        ],
    }


def test_trained_tokens_are_shared_by_the_weights_as_transformers_counts_them(tmp_path: Path) -> None:
    """Each stretch of each sequence is a conversation of the corpus, whole, with the mask that `apply_chat_template` gives."""
    transformers = pytest.importorskip("transformers")
    recipe = yaml.safe_load((FOLDER / "conversations.yaml").read_text())
    sources = {name: {**source, "path": str(FOLDER / source["path"])} for name, source in recipe["sources"].items()}
    tokens = {**recipe["tokens"], "template": str(FOLDER / recipe["tokens"]["template"])}
    (tmp_path / "mine.yaml").write_text(
        json.dumps(
            {
                **recipe,
                "out": str(tmp_path / "out"),
                "sources": sources,
                "tokens": tokens,
                "embed": {**recipe["embed"], "samples": 16},
            }
        )
    )
    command = [sys.executable, "-m", "chameleon_data.jobs.start"]
    done = subprocess.run(
        [*command, "build", str(tmp_path / "mine.yaml"), "--json"], capture_output=True, text=True, cwd=ROOT, timeout=250
    )
    assert done.returncode == 0, done.stderr
    built: dict[str, Any] = json.loads(done.stdout)
    assert built["weights"]["origin"] == "computed"
    assert built["weights"]["objective"] == "finetune"

    folder = find_packaged_model("all-MiniLM-L6-v2")
    assert folder
    template = (FOLDER / "template.jinja").read_text()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), chat_template=template)
    known: dict[str, dict[tuple[int, ...], list[int]]] = {}
    for name, conversations in read_messages().items():
        found = [
            tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
            for messages in conversations
        ]
        known[name] = {tuple(each["input_ids"]): each["assistant_masks"] for each in found}
    sums, end = dict.fromkeys(known, 0), tokenizer.convert_tokens_to_ids("[SEP]")
    for path in sorted((tmp_path / "out" / built["build"] / "parquet").glob("*.parquet")):
        for row in pq.ParquetFile(path).read().to_pylist():
            for begin, stop in pairwise([*row["doc_starts"], 2048]):
                ids, mask = row["input_ids"][begin:stop], row["loss_mask"][begin:stop]
                size = next(n for n in range(len(ids), 0, -1) if ids[n - 1] != end)
                assert mask[:size] == known[row["domain"]][tuple(ids[:size])]
                assert not any(mask[size:])
                sums[row["domain"]] += sum(mask)
    for name, domain in built["domains"].items():
        largest = max(sum(mask) for mask in known[name].values())
        assert abs(sums[name] - domain["weight"] * 60_000) <= largest
        assert sums[name] == domain["tokens"]
