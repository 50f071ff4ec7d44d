"""Two stages with the command: computed and given weights, shown by every verb, and proved against the corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from chameleon_data.jobs.engine_options import EngineOptions
from chameleon_data.pipelines.engine import Engine
from tests.support.corpus import documents, lay_out, write_recipe

Command = Callable[..., tuple[int, str, str]]


def test_every_verb_speaks_of_the_stages(
    tmp_path: Path, command: Command, local_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineOptions, "start", lambda *_: nullcontext((local_engine, lambda *_: None)))
    corpus = {name: [text[:700] for text in texts[:60]] for name, texts in documents().items()}
    (tmp_path / "later.json").write_text(json.dumps({"legal": 0.1, "book": 0.00001, "code": 0.89999}))
    later = {"share": 0.25, "weights": {"from": "later.json"}, "drop_below": 0.001}
    mix = {"budget": 80_000, "max_epochs": 2, "stages": [{"share": 0.75}, later]}
    sources = lay_out(tmp_path / "corpus", corpus, ["jsonl"], 1)
    recipe = str(write_recipe(tmp_path / "recipe.yaml", sources, mix=mix, shards={"size": "8KB"}))

    def run(*arguments: str) -> str:
        code, answer, said = command(*arguments)
        assert code == 0, said
        return answer

    planned = run("plan", recipe)
    assert ("stage 1" in planned, "stage 2" in planned, "absent" in planned) == (True, True, True)
    told = "stage 2: absent from this stage, as their weight is below its 'drop_below' of 0.001: book"
    assert told in " ".join(planned.split())
    plan = json.loads(run("plan", recipe, "--json"))
    run("build", recipe)
    target = str(tmp_path / "out")
    shown = json.loads(run("show", f"{target}@v1", "--json"))
    assert shown["plan_digest"] == plan["plan_digest"]
    for described, stage in zip(plan["stages"], shown["stages"], strict=True):
        assert (described["budget"], described["shards"]) == (stage["budget"], stage["shards"])
        counts = {name: (d["target_tokens"], d["tokens"]) for name, d in stage["domains"].items()}
        assert {name: (d["target_tokens"], d["tokens"]) for name, d in described["domains"].items()} == counts
    assert sum(stage["shards"] for stage in shown["stages"]) == shown["shard_count"]
    assert "stage 2" in run("show", f"{target}@v1")
    assert "every check holds" in run("verify", f"{target}@v1", "--corpus")
    run("report", f"{target}@v1")
    (page,) = (tmp_path / "out" / "reports").rglob("*.html")
    html = page.read_text(encoding="utf-8")
    assert "Shares over the course of the training" in html
    assert html.count("stage 2") >= 1
