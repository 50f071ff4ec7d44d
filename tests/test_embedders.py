"""Other embedders through the whole of `weights`: vectors that the corpus brings, and what is cached."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data import domain_weights
from chameleon_data.embed import Embedder
from chameleon_data.errors import InputError
from chameleon_data.recipe import load_recipe
from pipelines.build import build_recipe, weigh_recipe
from pipelines.weigh import Weighed
from tests.corpus import documents

D = 12


@pytest.fixture(scope="module", autouse=True)
def ray_cluster() -> Iterator[None]:
    from pipelines.cluster import cluster

    with cluster(workers=2):
        yield


def corpus(
    folder: Path, names: str = "abcd", documents: int = 60, missing: int = 0, sizes: tuple[int, ...] = (D,), far: str = ""
) -> None:
    """Domains as Parquet files of distinct texts, each with a vector near its domain's own."""
    for i, name in enumerate(names):
        generator = np.random.default_rng([7, i])
        middle = (30 if name in far else 3) * generator.normal(size=max(sizes))
        vectors: list[Any] = [middle[:size] + generator.normal(size=size) for size in (list(sizes) * documents)[:documents]]
        vectors[:missing] = [None] * missing
        texts = [f"text {j} of {name}: {'x' * (j % 7)}" for j in range(documents)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        half = documents // 2
        for part, rows in enumerate((slice(None, half), slice(half, None))):
            table = pa.table({"text": texts[rows], "vector": pa.array(vectors[rows], pa.list_(pa.float64()))})
            pq.write_table(table, folder / name / f"part-{part}.parquet", row_group_size=9)


def recipe(folder: Path, embed: dict[str, Any], names: Iterable[str] = "abcd", **sections: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({
        "name": "t", "out": str(folder / "out"), "sources": {n: str(folder / "in" / n) for n in names}, "embed": embed,
        **sections,
    }))  # fmt: skip
    return path


def weigh(path: Path) -> Weighed:
    return weigh_recipe(load_recipe(path), lambda *_: None)


def test_weights_from_a_column_are_those_of_its_vectors(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    found = weigh(recipe(tmp_path, {"column": "vector", "samples": 1000}))
    vectors = {name: np.stack(pq.read_table(tmp_path / "in" / name)["vector"].to_numpy()) for name in "abcd"}
    wanted = domain_weights({name: v.astype(np.float32) for name, v in vectors.items()})
    target = found.mixture.description["target"]
    np.testing.assert_allclose([target[n] for n in "abcd"], [wanted.weights[n] for n in "abcd"], rtol=1e-6)
    assert found.reused["embed"] == "embedded nothing: the vectors came with the corpus"
    assert found.mixture.description["embedder"]["column"] == "vector"
    built = build_recipe(load_recipe(recipe(tmp_path, {"column": "vector", "samples": 1000})), lambda *_: None, "now")
    assert built.manifest["weights"]["embedder"]["column"] == "vector"


def test_documents_without_a_vector_are_written_and_counted(tmp_path: Path) -> None:
    corpus(tmp_path / "in", missing=5)
    found = weigh(recipe(tmp_path, {"column": "vector"}))
    assert {c.rows for c in found.census.counts} == {60}
    assert found.survey.sample.num_rows == 4 * 55
    warned = [w for w in found.mixture.description["warnings"] if "5 of 60 documents have no usable vector in 'vector'" in w]
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
    assert list(embedder.describe().values()) == ["some/model", "0123", "middle", 64, "f" * 64]


# As many samples as needed


def test_rounds_end_when_the_intervals_are_narrow(tmp_path: Path) -> None:
    corpus(tmp_path / "in", documents=700)
    found = weigh(recipe(tmp_path, {"column": "vector", "samples": "auto", "tolerance": 0.012, "max_samples": 512}))
    rounds = found.mixture.description["rounds"]
    assert [r["samples"] for r in rounds] in ([64, 128], [64, 128, 256])
    assert [r["narrow"] for r in rounds] == [False] * (len(rounds) - 1) + [True]
    width = {n: b - a for n, (a, b) in found.mixture.description["intervals"].items()}
    assert max(width.values()) == rounds[-1]["widest"] <= 0.012 < rounds[-2]["widest"]
    assert "within the tolerance of 0.012" in found.reused["samples"]
    assert not [w for w in found.mixture.description["warnings"] if "tolerance" in w]
    fixed = weigh(recipe(tmp_path, {"column": "vector", "samples": rounds[-1]["samples"]}))
    assert fixed.mixture.description["target"] == found.mixture.description["target"]
    assert fixed.mixture.description["intervals"] == found.mixture.description["intervals"]


@pytest.mark.parametrize(("documents", "most", "why"), [(700, 128, "is reached"), (100, 512, "no domain has more documents")])
def test_rounds_that_do_not_suffice_say_so(tmp_path: Path, documents: int, most: int, why: str) -> None:
    corpus(tmp_path / "in", documents=documents)
    found = weigh(recipe(tmp_path, {"column": "vector", "samples": "auto", "tolerance": 1e-6, "max_samples": most}))
    assert [r["samples"] for r in found.mixture.description["rounds"]] == [64, 128]
    (warned,) = [w for w in found.mixture.description["warnings"] if "tolerance" in w]
    assert why in warned
    assert "above the tolerance" in warned


# Landmarks of an earlier version


def test_a_new_domain_on_recorded_landmarks(tmp_path: Path) -> None:
    corpus(tmp_path / "in", "abcde", far="e")
    leverage = {"kernel": "rbf", "landmarks": 48}
    embed = {"column": "vector", "samples": 100}
    first = build_recipe(load_recipe(recipe(tmp_path, embed, "abcd", leverage=leverage)), lambda *_: None, "now").manifest
    assert first["weights"]["nystrom"]["recorded"] is False
    again = recipe(tmp_path, embed, "abcde", leverage={"kernel": "rbf", "landmarks": {"from": f"{tmp_path}/out@v1"}})
    about = weigh(again).mixture.description
    assert (about["nystrom"]["digest"], about["nystrom"]["recorded"]) == (first["weights"]["nystrom"]["digest"], True)
    vectors = {n: np.stack(pq.read_table(tmp_path / "in" / n)["vector"].to_numpy()).astype(np.float32) for n in "abcde"}
    fitted = domain_weights({n: vectors[n] for n in "abcd"}, kernel="rbf", landmarks=48)
    assert fitted.nystrom is not None
    wanted = domain_weights(vectors, kernel="rbf", landmarks=fitted.nystrom.landmarks)
    assert fitted.nystrom.landmarks.digest == about["nystrom"]["digest"]
    np.testing.assert_allclose([about["target"][n] for n in "abcde"], list(wanted.weights.values()), rtol=1e-6)
    assert [w for w in about["warnings"] if w.startswith("e: the recorded landmarks see less than half")]
    assert about["sensitivity"]


def test_landmarks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    embed = {"column": "vector", "samples": 50}
    build_recipe(load_recipe(recipe(tmp_path, embed)), lambda *_: None, "now")
    asked = {"kernel": "rbf", "landmarks": {"from": f"{tmp_path}/out@latest"}}
    with pytest.raises(InputError, match="was weighed without landmarks"):
        weigh(recipe(tmp_path, embed, leverage=asked))
    with pytest.raises(InputError, match="leave it at 'auto'"):
        load_recipe(recipe(tmp_path, embed, leverage={"kernel": "linear", "landmarks": {"from": "out@v1"}}))
    build_recipe(load_recipe(recipe(tmp_path, embed, leverage={"kernel": "rbf"})), lambda *_: None, "now")
    with pytest.raises(InputError, match="of kernel 'rbf', not 'laplacian'"):
        weigh(recipe(tmp_path, embed, leverage={**asked, "kernel": "laplacian"}))


def test_the_pass_over_samples_is_the_same_on_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from chameleon_data import landmarks as module
    from chameleon_data.landmarks import Landmarks, nystrom_statistics
    from pipelines import weigh as pipeline

    generator = np.random.default_rng(0)
    samples = {name: generator.normal(size=(n, 8)).astype(np.float32) for name, n in (("a", 900), ("b", 70), ("c", 301))}
    points = Landmarks(module.Kernel("rbf", 2.0), generator.normal(size=(20, 8)).astype(np.float32))
    monkeypatch.setattr(module, "CHUNK", 100)
    monkeypatch.setattr(module, "NORMS", 256)
    here = nystrom_statistics(samples, points, None, pipeline.on_cluster)
    monkeypatch.setattr(pipeline, "ON_DRIVER", 0)
    there = nystrom_statistics(samples, points, None, pipeline.on_cluster)
    for column in ("domain", "group", "count", "total", "squares"):
        np.testing.assert_array_equal(getattr(there.statistics, column), getattr(here.statistics, column))
    assert there.residuals == here.residuals
    monkeypatch.setattr(module, "CHUNK", 10_000)
    whole = nystrom_statistics(samples, points)
    np.testing.assert_allclose(there.statistics.total, whole.statistics.total, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(there.statistics.squares, whole.statistics.squares, rtol=1e-5)
