"""Other embedders through the whole of `weights`: vectors that the corpus brings, and what is cached."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data import domain_weights
from chameleon_data.errors import InputError
from chameleon_data.pipelines.build import build_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.weigh import Weighed
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.weights.embedder import Embedder
from chameleon_data.weights.mixture import describe_mixture
from tests.support.corpus import documents
from tests.support.inline_builds import INLINE
from tests.support.vector_corpora import D, corpus, recipe, weigh


def test_weights_from_a_column_are_those_of_its_vectors(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    found = weigh(recipe(tmp_path, {"column": "vector", "samples": 1000}))
    vectors = {name: np.stack(pq.read_table(tmp_path / "in" / name)["vector"].to_numpy()) for name in "abcd"}
    wanted = domain_weights({name: v.astype(np.float32) for name, v in vectors.items()})
    target = found.mixture.description.unbounded
    np.testing.assert_allclose([target[n] for n in "abcd"], [wanted.weights[n] for n in "abcd"], rtol=1e-6)
    assert found.reused["embed"] == "embedded nothing: the vectors came with the corpus"
    assert found.mixture.description.embedder.column == "vector"
    built = build_recipe(load_recipe(recipe(tmp_path, {"column": "vector", "samples": 1000})), INLINE, lambda *_: None, "now")
    assert built.manifest.weights.embedder.column == "vector"


def test_documents_without_a_vector_are_written_and_counted(tmp_path: Path) -> None:
    corpus(tmp_path / "in", missing=5)
    found = weigh(recipe(tmp_path, {"column": "vector"}))
    assert {c.rows for c in found.selection.counts} == {60}
    assert found.survey.sample.num_rows == 4 * 55
    warned = [w for w in found.mixture.description.warnings if "5 of 60 documents have no usable vector in 'vector'" in w]
    assert len(warned) == 4


def test_other_vectors_are_other_weights_and_none_is_refused(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    path = recipe(tmp_path, {"column": "vector"})
    before = weigh(path).mixture.decimals
    table = pq.read_table(tmp_path / "in/a/part-0.parquet")
    vectors = pa.array([[1.0] * D] * len(table), pa.list_(pa.float64()))
    pq.write_table(table.set_column(1, "vector", vectors), tmp_path / "in/a/part-0.parquet")
    assert weigh(path).mixture.decimals != before
    corpus(tmp_path / "in", names="a", missing=60)
    with pytest.raises(InputError, match="no document of domain 'a' has a usable vector"):
        weigh(path)


def test_vectors_of_two_models_are_refused(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    corpus(tmp_path / "in", names="b", sizes=(D, 5))
    with pytest.raises(InputError, match=r"vectors of 5 and 12 numbers in domain 'b'"):
        weigh(recipe(tmp_path, {"column": "vector"}))
    corpus(tmp_path / "in", names="b", sizes=(5,))
    with pytest.raises(InputError, match="dimension"):
        weigh(recipe(tmp_path, {"column": "vector"}))


def test_a_larger_sample_and_another_document_embed_what_is_new(tmp_path: Path) -> None:
    texts = documents()
    for name in ("legal", "book", "code"):
        (tmp_path / "in" / name).mkdir(parents=True)
        lines = [json.dumps({"text": f"{i} {t[:200]}"}) + "\n" for i, t in enumerate(texts[name])]
        (tmp_path / "in" / name / "a.jsonl").write_text("".join(lines))

    def run(samples: int) -> list[str]:
        path = recipe(tmp_path, {"samples": samples, "window": 16}, ("legal", "book", "code"))
        return weigh(path).reused["embed"].removesuffix(" documents").split(", ")

    assert run(8) == ["embedded 3 of 3 domains", "24"]
    domains, new = run(12)
    assert domains == "embedded 3 of 3 domains"
    assert 0 < int(new) <= 12  # fewer where two documents show the same window
    with (tmp_path / "in/book/a.jsonl").open("a") as file:
        file.write("".join(json.dumps({"text": f"new {i} " + "long " * 5000}) + "\n" for i in range(3)))  # sure to be drawn
    domains, new = run(12)
    assert domains == "embedded 1 of 3 domains"
    assert 1 <= int(new) <= 3


def test_an_embedder_is_named_in_the_manifest() -> None:
    embedder = Embedder("some/model", "0123", "middle", 64, "f" * 64)
    assert list(asdict(embedder).values()) == ["some/model", "0123", "middle", 64, "f" * 64, "float32"]


# As many samples as needed


def test_rounds_end_when_the_intervals_are_narrow(tmp_path: Path) -> None:
    corpus(tmp_path / "in", documents=700)
    found = weigh(recipe(tmp_path, {"column": "vector", "samples": "auto", "tolerance": 0.012, "max_samples": 512}))
    rounds = found.mixture.description.rounds
    assert [r.samples for r in rounds] in ([64, 128], [64, 128, 256])
    assert [r.narrow for r in rounds] == [False] * (len(rounds) - 1) + [True]
    width = {n: b - a for n, (a, b) in found.mixture.description.intervals.items()}
    assert max(width.values()) == rounds[-1].widest <= 0.012 < rounds[-2].widest
    assert "within the tolerance of 0.012" in found.reused["samples"]
    assert not [w for w in found.mixture.description.warnings if "tolerance" in w]
    fixed = weigh(recipe(tmp_path, {"column": "vector", "samples": rounds[-1].samples}))
    assert fixed.mixture.description.unbounded == found.mixture.description.unbounded
    assert fixed.mixture.description.intervals == found.mixture.description.intervals


@pytest.mark.parametrize(("documents", "most", "why"), [(700, 128, "is reached"), (100, 512, "no domain has more documents")])
def test_rounds_that_do_not_suffice_say_so(tmp_path: Path, documents: int, most: int, why: str) -> None:
    corpus(tmp_path / "in", documents=documents)
    found = weigh(recipe(tmp_path, {"column": "vector", "samples": "auto", "tolerance": 1e-6, "max_samples": most}))
    assert [r.samples for r in found.mixture.description.rounds] == [64, 128]
    (warned,) = [w for w in found.mixture.description.warnings if "tolerance" in w]
    assert why in warned
    assert "above the tolerance" in warned


# Landmarks of an earlier version


def test_a_new_domain_on_recorded_landmarks(tmp_path: Path) -> None:
    corpus(tmp_path / "in", "abcde", far="e")
    leverage = {"kernel": "rbf", "landmarks": 48}
    embed = {"column": "vector", "samples": 100}
    first = build_recipe(load_recipe(recipe(tmp_path, embed, "abcd", leverage=leverage)), INLINE, lambda *_: None, "now").manifest
    assert first.weights.nystrom.recorded is False
    again = recipe(tmp_path, embed, "abcde", leverage={"kernel": "rbf", "landmarks": {"from": f"{tmp_path}/out@v1"}})
    about = weigh(again).mixture.description
    assert (about.nystrom.digest, about.nystrom.recorded) == (first.weights.nystrom.digest, True)
    vectors = {n: np.stack(pq.read_table(tmp_path / "in" / n)["vector"].to_numpy()).astype(np.float32) for n in "abcde"}
    fitted = domain_weights({n: vectors[n] for n in "abcd"}, kernel="rbf", landmarks=48)
    assert fitted.nystrom is not None
    wanted = domain_weights(vectors, kernel="rbf", landmarks=fitted.nystrom.landmarks)
    assert fitted.nystrom.landmarks.digest == about.nystrom.digest
    np.testing.assert_allclose([about.unbounded[n] for n in "abcde"], list(wanted.weights.values()), rtol=1e-6)
    assert [w for w in about.warnings if w.startswith("e: the recorded landmarks see less than half")]
    assert about.sensitivity


def test_landmarks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    embed = {"column": "vector", "samples": 50}
    build_recipe(load_recipe(recipe(tmp_path, embed)), INLINE, lambda *_: None, "now")
    asked = {"kernel": "rbf", "landmarks": {"from": f"{tmp_path}/out@latest"}}
    with pytest.raises(InputError, match="was weighed without landmarks"):
        weigh(recipe(tmp_path, embed, leverage=asked))
    with pytest.raises(InputError, match="leave it at 'auto'"):
        load_recipe(recipe(tmp_path, embed, leverage={"kernel": "linear", "landmarks": {"from": "out@v1"}}))
    build_recipe(load_recipe(recipe(tmp_path, embed, leverage={"kernel": "rbf"})), INLINE, lambda *_: None, "now")
    with pytest.raises(InputError, match="of kernel 'rbf', not 'laplacian'"):
        weigh(recipe(tmp_path, embed, leverage={**asked, "kernel": "laplacian"}))


def test_the_pass_over_samples_is_the_same_on_every_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data.pipelines import weigh as pipeline
    from chameleon_data.weights.kernels import nystrom
    from chameleon_data.weights.kernels.kernel import Kernel
    from chameleon_data.weights.kernels.landmarks import Landmarks
    from chameleon_data.weights.kernels.nystrom import nystrom_statistics

    generator = np.random.default_rng(0)
    samples = {name: generator.normal(size=(n, 8)).astype(np.float32) for name, n in (("a", 900), ("b", 70), ("c", 301))}
    points = Landmarks(Kernel("rbf", 2.0), generator.normal(size=(20, 8)).astype(np.float32))
    monkeypatch.setattr(nystrom, "SAMPLES_PER_CHUNK", 100)
    monkeypatch.setattr(nystrom, "SQUARED_NORMS", 256)
    here = nystrom_statistics(samples, points, None, partial(pipeline.map_chunks, INLINE))
    monkeypatch.setattr(pipeline, "ON_DRIVER", 0)
    there = nystrom_statistics(samples, points, None, partial(pipeline.map_chunks, engine))
    for column in ("domain", "group", "count", "total", "squares"):
        np.testing.assert_array_equal(getattr(there.statistics, column), getattr(here.statistics, column))
    assert there.residuals == here.residuals
    monkeypatch.setattr(nystrom, "SAMPLES_PER_CHUNK", 10_000)
    whole = nystrom_statistics(samples, points)
    np.testing.assert_allclose(there.statistics.total, whole.statistics.total, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(there.statistics.squares, whole.statistics.squares, rtol=1e-5)


# Domains come, change and go


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_domain_that_is_added_removed_or_replaced_gives_the_weights_of_a_fresh_run(tmp_path: Path, kernel: str) -> None:
    """To the last bit, on the same landmarks; what the others hold is neither embedded nor put through the kernel again."""
    corpus(tmp_path / "in", "abcdef")
    embed = {"column": "vector", "samples": 100}
    leverage: dict[str, Any] = {"kernel": kernel, "landmarks": 48} if kernel == "rbf" else {}
    build_recipe(load_recipe(recipe(tmp_path, embed, "abcde", leverage=leverage)), INLINE, lambda *_: None, "now")
    if kernel == "rbf":
        leverage = {"kernel": "rbf", "landmarks": {"from": f"{tmp_path}/out@v1"}}

    def both(names: str) -> tuple[Weighed, dict[str, str]]:
        """The run that knows of the earlier ones, and another from the start: its store has the landmarks alone."""
        later = weigh(recipe(tmp_path, embed, names, leverage=leverage))
        shutil.copytree(tmp_path / "out", tmp_path / "fresh", ignore=shutil.ignore_patterns("cache"))
        (tmp_path / "again").mkdir()
        fresh = recipe(tmp_path / "again", embed, leverage=leverage)
        asked = json.loads(fresh.read_text()) | json.loads((tmp_path / "recipe.yaml").read_text())
        fresh.write_text(json.dumps(asked | {"out": str(tmp_path / "fresh")}))
        first = weigh(fresh)
        assert "statistics" not in first.reused
        for key in ("unbounded", "scores", "intervals", "affinity", "sensitivity"):
            assert getattr(later.mixture.description, key) == getattr(first.mixture.description, key), key
        for folder in ("fresh", "again"):
            shutil.rmtree(tmp_path / folder)
        return later, {name: value for name, value in later.reused.items() if name == "statistics"}

    kept = "{} of {} domains kept their statistics on the recorded landmarks"
    for names, expected in (("abcdef", (5, 6)), ("abdef", (5, 5)), ("abce", (4, 4))):
        assert both(names)[1] == ({"statistics": kept.format(*expected)} if kernel == "rbf" else {})
    table = pq.read_table(tmp_path / "in/b/part-0.parquet")
    texts = pa.array([f"other {t}" for t in table["text"].to_pylist()])
    pq.write_table(table.set_column(0, "text", texts), tmp_path / "in/b/part-0.parquet")
    assert both("abce")[1] == ({"statistics": kept.format(3, 4)} if kernel == "rbf" else {})


def test_embedding_says_what_was_new_of_eleven(engine: Engine, tmp_path: Path) -> None:
    """The first ten by actors, the rest in this process."""
    names = [f"n{i:02d}" for i in range(11)]
    texts = [t for some in documents().values() for t in some if len(t) > 100]
    for i, name in enumerate(names):
        (tmp_path / "in" / name).mkdir(parents=True)
        lines = [json.dumps({"text": f"{name} {t[:60]}"}) + "\n" for t in texts[4 * i : 4 * i + 4]]
        (tmp_path / "in" / name / "a.jsonl").write_text("".join(lines))

    def said(some: list[str], engine: Engine = INLINE) -> str:
        return weigh(recipe(tmp_path, {"samples": 3, "window": 16}, some), engine).reused["embed"]

    assert said(names[:10], engine) == "embedded 10 of 10 domains, 30 documents"
    assert said(names) == "embedded 1 of 11 domains, 3 documents"
    assert said(names[1:]) == "embedded 0 of 10 domains, 0 documents"


def test_of_many_domains_nothing_is_recorded_for_each_pair_or_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data.weights import make_mixture
    from tests.support.report_example import render_example

    corpus(tmp_path / "in", "abcd")
    monkeypatch.setattr(make_mixture, "RECORDED_DOMAINS", 3)
    made = build_recipe(load_recipe(recipe(tmp_path, {"column": "vector"})), INLINE, lambda *_: None, "now").manifest
    assert made.weights.affinity is None
    assert [setting.weights for setting in made.weights.sensitivity] == [None] * 25
    page = render_example(made, None, None, None, store=Store(made.recipe.out))
    assert "4 domains are too many for a matrix of every pair" in page
    assert "refused" not in page.lower()


# What the published code answers with NaN or a constant, from the recipe on

VECTORS: dict[str, tuple[str, Any, str | None]] = {
    "one domain": ("a", None, None),
    "two domains": ("ab", None, "two domains always come out equal"),
    "identical domains": ("abc", lambda i, x: np.ones((len(x), D)), "all 3 domains have the same mean"),
    "rank one": ("abcd", lambda i, x: np.outer(x[:, 0] + 5 * i, np.ones(D)), None),
    "NaN": ("abc", lambda i, x: np.where(np.arange(len(x))[:, None] == 3, np.nan, x) if i == 1 else x, "1 of 60 documents"),
    "infinite": ("abc", lambda i, x: np.where(np.arange(len(x))[:, None] == 3, np.inf, x) if i == 1 else x, "1 of 60 documents"),
    "only NaN": ("abc", lambda i, x: np.full_like(x, np.nan) if i == 1 else x, "no document of domain 'b' has a usable vector"),
    "zero": ("abc", lambda i, x: np.zeros_like(x) if i == 1 else x, "'b'.*zero"),
    "one sample": ("abcd", lambda i, x: x[:1] if i == 1 else x, None),
    "one sample each": ("abcd", lambda i, x: x[:1], None),
    "99 to 1": ("abcd", lambda i, x: np.tile(x, (7, 1))[:396] + np.arange(396)[:, None] * 1e-3 if i else x[:4], None),
    "another dimension": ("abc", lambda i, x: x[:, :5] if i == 1 else x, "dimension"),
}


@pytest.mark.parametrize("case", VECTORS)
def test_an_answer_or_a_reason(tmp_path: Path, case: str) -> None:
    names, changed, reason = VECTORS[case]
    for i, name in enumerate(names):
        x = 3 * np.random.default_rng([7, i]).normal(size=D) + np.random.default_rng([8, i]).normal(size=(60, D))
        x = x if changed is None else changed(i, x)
        (tmp_path / "in" / name).mkdir(parents=True)
        texts = [f"text {j} of {name}" for j in range(len(x))]
        table = pa.table({"text": texts, "vector": pa.array(list(x), pa.list_(pa.float64()))})
        pq.write_table(table, tmp_path / "in" / name / "a.parquet")
    path = recipe(tmp_path, {"column": "vector", "samples": 400}, names)
    if reason and "documents" not in reason:
        with pytest.raises(InputError, match=reason):
            weigh(path)
        return
    found = weigh(path).mixture
    weights = np.array([float(found.decimals[name]) for name in names])
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert (weights > 0).all()
    assert np.ptp(weights) > 1e-4 or case == "one domain"
    json.dumps(describe_mixture(found.description), allow_nan=False)
    assert reason is None or any(reason in warning for warning in found.description.warnings)
