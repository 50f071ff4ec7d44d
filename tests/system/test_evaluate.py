"""Evaluations of whole versions: the same command gives the same records, goes on after a kill, and says what it lacks."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose

from chameleon_data import evaluate
from chameleon_data.errors import InputError
from chameleon_data.evaluation.comparison import Comparison, read_comparisons
from chameleon_data.evaluation.pool import hold_out
from chameleon_data.evaluation.read_documents import read_split
from chameleon_data.pipelines.engine import Task
from chameleon_data.pipelines.evaluate import _read_pool
from chameleon_data.recipe import Evaluate
from chameleon_data.store.store import Store
from chameleon_data.versions.gc import remove_garbage
from chameleon_data.versions.versions import list_versions, read_manifest
from tests.support import streaming_reader
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.inline_builds import INLINE, InlineEngine, build, load_recipe

TINY = {"width": 16, "layers": 1, "context": 16, "vocabulary": 256}
DECODER = {"judge": "decoder", "model": TINY, "tokens": 2_000, "seeds": 2, "branch": {"at": 0.5}}


def make_version(folder: Path, **sections: Any) -> str:
    """The `out` of a version of three domains, a third of whose documents are held out."""
    sources = lay_out(folder / "corpus", documents(), ["jsonl"], 1)
    mix = {"budget": 300_000, "max_epochs": 8, "validation": 0.3}
    recipe = load_recipe(write_recipe(folder / "recipe.yaml", sources, out=str(folder / "out"), **{"mix": mix, **sections}))
    return build(recipe).recipe.out


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_version(tmp_path_factory.mktemp("evaluated"))


def settings(**changes: Any) -> dict[str, Any]:
    return {**DECODER, **changes}


def evaluations(out: str) -> dict[str, bytes]:
    """Path -> bytes of all that evaluations left for good."""
    store = Store(out)
    return {path: store.read(path) for path in store.list("_chameleon/evaluations")}


def test_the_ngram_judge_answers_with_no_section_at_all(out: str, command: Any) -> None:
    code, text, said = command("evaluate", out, "--json")
    assert code == 0, said
    found = json.loads(text)
    assert [m["name"] for m in found["mixtures"]][:3] == ["weights", "uniform", "natural"]
    assert {m["name"] for m in found["mixtures"] if m["chosen"]} == {
        "best of 20 starts", "best of own models", "best left out in turn"
    }  # fmt: skip
    means = {m["name"]: m["means"]["trained"] for m in found["mixtures"]}
    assert means["best of 20 starts"] == min(means.values())
    assert sorted(found["unseen"]) == ["book", "code", "legal"]
    code, shown, _ = command("evaluate", out, "--judge", "ngram")
    assert code == 0
    assert "best of 20 starts" in shown
    assert "a band of ±0.005" in shown


class KilledError(Exception):
    pass


class DyingEngine(InlineEngine):
    """Dies after some tasks."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        for number in super().run(task, numbers):
            if not self.left:
                raise KilledError
            self.left -= 1
            yield number


def test_the_same_command_gives_the_same_records_after_a_kill_too(tmp_path: Path, out: str) -> None:
    again = make_version(tmp_path)
    first = evaluate(out, settings=settings(), engine=INLINE)
    for tasks in (1, 3):  # amid the shared checkpoints, then amid the trials
        with pytest.raises(KilledError):
            evaluate(again, settings=settings(), engine=DyingEngine(tasks))
    assert evaluate(again, settings=settings(), engine=INLINE).mixtures == first.mixtures
    trials = [{p: b for p, b in evaluations(folder).items() if "/trials/" in p} for folder in (out, again)]
    assert len(trials[1]) == 6
    assert all(trials[0][path] == body for path, body in trials[1].items())


def test_another_mixture_finds_the_records_of_the_others(out: str) -> None:
    counted = CountingEngine()
    evaluate(out, settings=settings(), engine=counted)
    before = counted.tasks
    found = evaluate(out, {"mine": {"book": 1, "code": 2, "legal": 3}}, settings(), engine=counted)
    assert [m.name for m in found.mixtures] == ["uniform", "mine"]
    assert counted.tasks - before == 2  # a trial for each seed
    evaluate(out, settings=settings(band=0.001), engine=counted)
    assert counted.tasks - before == 2
    plans = [path for path in evaluations(out) if "/plans/" in path]
    assert len(plans) >= 3  # a plan with another band is another plan, and the first one stays


class CountingEngine(InlineEngine):
    tasks = 0

    def run(self, task: Task, numbers: Sequence[int]) -> Iterator[int]:
        self.tasks += len(numbers)
        store, *_ = task.work.args
        sent = len(pickle.dumps(task.work)) - len(store.url)  # pytest's folder may have a long name
        assert sent < 250, "the plan, which has a share for each domain, is read from the store"
        return super().run(task, numbers)


def test_mixtures_of_one_seed_share_their_checkpoint_and_uniform_goes_on_from_it(out: str) -> None:
    """Branched at a half on uniform, uniform itself is one training, and what it would be from scratch."""
    scratch, branched = (evaluate(out, settings=settings(branch=b, seeds=1), engine=INLINE) for b in (None, {"at": 0.5}))
    assert branched.branch
    ends = [{m.name: m.means["trained"] for m in found.mixtures} for found in (scratch, branched)]
    # Phases of the order begin anew at the branch, so that it is the same mixture in another order.
    assert ends[0]["uniform"] == pytest.approx(ends[1]["uniform"], abs=0.1)
    spread = [abs(found["natural"] - found["uniform"]) for found in ends]
    assert spread[1] > 0


@pytest.mark.parametrize("judge", ["encoder_decoder", "masked"])
def test_other_models_judge_too(out: str, judge: str) -> None:
    found = evaluate(out, settings=settings(judge=judge, tokens=4_000, seeds=1), engine=INLINE)
    assert all(0 < m.means["trained"] < 12 for m in found.mixtures)
    assert found.parameters


def test_each_domain_is_left_out_in_turn(out: str) -> None:
    found = evaluate(out, settings=settings(tokens=1_000, seeds=1, held_out={"unseen": "each"}), engine=INLINE)
    assert found.unseen == ("book", "code", "legal")
    assert {"without book", "without code", "without legal"} <= set(found.mixtures[0].per_byte)
    assert found.mixtures[0].differences["unseen"].over == "domains"


def test_a_model_learns(out: str) -> None:
    little, much = (evaluate(out, settings=settings(tokens=t, seeds=1, branch=None), engine=INLINE) for t in (500, 20_000))
    assert much.mixtures[0].means["trained"] < little.mixtures[0].means["trained"] - 0.5


def test_gc_keeps_what_was_measured(out: str) -> None:
    evaluate(out, settings=settings(), engine=INLINE)
    before = evaluations(out)
    remove_garbage(Store(out), caches=True)
    assert evaluations(out) == before
    assert not Store(out).list("_chameleon/cache/evaluate")


def test_unseen_files_are_read_and_judged(out: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a.txt").write_text("Another domain, that no mixture holds. " * 50)
    section = settings(judge="ngram", held_out={"unseen": {"new": str(tmp_path / "new")}})
    assert evaluate(out, settings=section, engine=INLINE).unseen == ("new",)
    clash = settings(judge="ngram", held_out={"unseen": {"book": str(tmp_path / "new")}})
    with pytest.raises(InputError, match="'book' is a domain of this version"):
        evaluate(out, settings=clash, engine=INLINE)


def test_what_cannot_be_evaluated_is_said_in_one_message(tmp_path: Path, command: Any) -> None:
    code, _, said = command("evaluate", str(tmp_path))
    assert code == 2
    assert "no dataset is there" in said
    with pytest.raises(InputError, match=r"evaluate\.model\.family: bert is a masked model, and the judge is decoder"):
        evaluate(make_version(tmp_path / "b"), settings=settings(model={**TINY, "family": "bert"}), engine=INLINE)
    jsonl = make_version(tmp_path / "c", shards={"formats": ["jsonl"]})
    with pytest.raises(InputError, match="texts are read from Parquet or MDS shards"):
        evaluate(jsonl, settings=settings(), engine=INLINE)


def test_a_version_without_a_validation_split_is_judged_by_documents_that_no_trial_sees(tmp_path: Path, command: Any) -> None:
    out = make_version(tmp_path, mix={"budget": 300_000, "max_epochs": 8})
    code, answer, _ = command("evaluate", out, "--json")
    assert (code, json.loads(answer)["held_out"]) == (0, "kept")
    assert "kept from every trial, as the version has no validation split" in command("evaluate", out)[1]
    store = Store(out)
    manifest = read_manifest(store, list_versions(store)[0])
    pool = _read_pool(store, manifest, Evaluate.model_validate(settings()))
    assert all(one.documents for one in pool.held_out.values())
    train, kept = hold_out(read_split(store, manifest, "train", dict.fromkeys(manifest.domains, 10**9)))
    assert not {t for own in train.values() for t in own} & {t for own in kept.values() for t in own}
    held = {name: pool.vocabulary.encode([t])[0].tolist() for name, own in kept.items() for t in own[:1]}
    for name, ids in held.items():
        whole = " ".join(map(str, pool.windows[name].ravel().tolist()))
        assert " ".join(map(str, ids)) not in whole


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_streaming_and_pyarrow_read_the_same_documents(tmp_path: Path) -> None:
    """Those of the first epoch, in the order of the shards, whichever package reads them."""
    streaming_reader.load_or_skip()
    both = make_version(tmp_path / "both", shards={"formats": ["parquet", "mds"], "size": "32KB"})
    alone = make_version(tmp_path / "mds", shards={"formats": ["mds"], "size": "32KB"})
    found = []
    for out in (both, alone):
        store = Store(out)
        manifest = read_manifest(store, list_versions(store)[0])
        found.append([read_split(store, manifest, split, dict.fromkeys(manifest.domains, 10_000))
                      for split in ("train", "validation")])  # fmt: skip
    assert found[0] == found[1]
    assert set(found[0][0]) == {"book", "code", "legal"}
    assert not {t for own in found[0][0].values() for t in own} & {t for own in found[0][1].values() for t in own}


def test_the_beginning_of_a_stream_does_not_depend_on_the_weights(tmp_path: Path) -> None:
    found = []
    for number, weights in enumerate(({"book": 0.6, "code": 0.2, "legal": 0.2}, {"book": 0.2, "code": 0.4, "legal": 0.4})):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "w.json").write_text(json.dumps(weights))
        store = Store(make_version(folder, weights={"from": str(folder / "w.json")}))
        manifest = read_manifest(store, list_versions(store)[0])
        found.append(read_split(store, manifest, "train", dict.fromkeys(weights, 15_000)))
    assert found[0] == found[1]
    assert_allclose([sum(map(len, own)) > 14_000 for own in found[0].values()], True)


def test_a_comparison_is_read_back(out: str) -> None:
    made = evaluate(out, settings=settings(judge="ngram"), engine=INLINE)
    assert made in read_comparisons(Store(out), 1)
    assert isinstance(made, Comparison)
    assert read_comparisons(Store(out), 2) == []
