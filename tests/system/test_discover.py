"""Domains that are found in the texts, from the recipe to a proved version, on both engines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chameleon_data.corpus.clusterings import Clustering, find_clustering
from chameleon_data.errors import InputError
from chameleon_data.pipelines import assign
from chameleon_data.pipelines import engine as engines
from chameleon_data.pipelines.build import build_recipe, discover_recipe, weigh_recipe
from chameleon_data.pipelines.engine import Engine
from chameleon_data.pipelines.verify import check_against_corpus
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.verify import verify_version
from chameleon_data.views.report.domains import read_report_rows
from chameleon_data.views.report.page import render_report
from chameleon_data.views.trainer_files import make_blend
from chameleon_data.weights.embedder import Embedder
from tests.support.deaths import Killed, die_at
from tests.support.inline_builds import CREATED, INLINE
from tests.support.static_models import save_static_model
from tests.support.vector_corpora import recipe

TOPICS = {
    "sea": "ship harbour storm sail anchor",
    "code": "class method return import lambda",
    "law": "court judge statute appeal tort",
}
DISCOVER = {"discover": {"clusters": 3, "samples": 400}}
EMBED = {"column": "vector", "samples": 50}


def write_source(folder: Path, name: str, counts: dict[str, int], seed: int, files: int = 1) -> None:
    """Documents of planted topics, poured together, each with a vector near its topic's."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(list(counts), list(counts.values())))
    texts = [" ".join(rng.choice(TOPICS[label].split(), 30)) + f" {name} {i}" for i, label in enumerate(labels)]
    middles = dict(zip(TOPICS, np.eye(8), strict=False))
    vectors = [middles[label] + 0.05 * rng.normal(size=8) for label in labels]
    (folder / name).mkdir(parents=True)
    for file, rows in enumerate(np.array_split(np.arange(len(labels)), files)):
        column = pa.array([vectors[i] for i in rows], pa.list_(pa.float64()))
        pq.write_table(pa.table({"text": [texts[i] for i in rows], "vector": column}), folder / name / f"{file}.parquet")


def write_corpus(folder: Path, files: int = 1) -> None:
    write_source(folder / "in", "a", {"sea": 90, "code": 60}, 0, files)
    write_source(folder / "in", "b", {"law": 120, "code": 30}, 1, files)


def discover(path: Path, engine: Engine = INLINE) -> Clustering:
    return discover_recipe(load_recipe(path), engine, lambda *_: None)


def static_model(folder: Path) -> Path:
    """A model of static vectors, those of a topic's words near each other."""
    words = [word for own in TOPICS.values() for word in own.split()]
    middles = np.repeat(np.eye(8)[: len(TOPICS)], len(words) // len(TOPICS), axis=0)
    vectors = np.vstack([middles + 0.2 * np.random.default_rng(0).normal(size=middles.shape), np.zeros(8)])
    return save_static_model(folder, words, vectors.astype(np.float32))


def topic_of(name: str) -> str:
    """The planted topic whose words a domain is named by."""
    words = name.rpartition("/")[2].split("-")
    (found,) = {topic for topic, own in TOPICS.items() if set(words) <= set(own.split())}
    return found


def test_topics_become_domains_and_a_version_of_them_is_proved(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    path = recipe(tmp_path, EMBED, "ab", domains=DISCOVER, mix={"validation": 0.1})
    built = build_recipe(load_recipe(path), INLINE, lambda *_: None, CREATED)
    manifest = built.manifest
    assert {topic_of(name): d.rows_read for name, d in manifest.domains.items()} == {"sea": 90, "code": 90, "law": 120}
    assert manifest.recipe.domains is not None
    assert manifest.recipe.domains.clustering == 1
    store = Store(str(tmp_path / "out"))
    assert check_against_corpus(INLINE, store, manifest, lambda *_: None) == []
    assert verify_version(store, manifest).problems == ()
    clustering = find_clustering(store, manifest.recipe.domains)
    page = render_report(manifest, read_report_rows(store, manifest), 1, CREATED, None, (), clustering)
    assert "Clustering 1: 3 domains" in page
    assert all(cluster.examples[0][:40] in page for cluster in clustering.clusters)
    with pytest.raises(InputError, match="no file of the sources names them; train on the shards"):
        make_blend("t", manifest.recipe, [], 1, [])
    for file in (tmp_path / "out").glob("builds/*/parquet/*.parquet"):
        for row in pq.ParquetFile(file).read(["text", "domain"]).to_pylist():
            assert set(row["text"].split()[:30]) <= set(TOPICS[topic_of(row["domain"])].split())


def test_the_same_clusters_on_both_engines_and_from_other_files(engine: Engine, tmp_path: Path) -> None:
    write_corpus(tmp_path / "one")
    write_corpus(tmp_path / "many", files=7)
    here = discover(recipe(tmp_path / "one", EMBED, "ab", domains=DISCOVER))
    there = discover(recipe(tmp_path / "many", EMBED, "ab", domains=DISCOVER), engine)
    assert there == here
    assert here.agreement == 1.0
    assert [c.documents for c in here.clusters] == [120, 90, 90]
    assert all(len(c.examples) == 3 and c.nearest != c.name for c in here.clusters)


def test_a_source_that_is_added_gets_the_same_topics_and_other_settings_a_new_clustering(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    first = discover(recipe(tmp_path, EMBED, "ab", domains=DISCOVER))
    write_source(tmp_path / "in", "c", {"sea": 10, "law": 45}, 2)
    path = recipe(tmp_path, EMBED, "abc", domains=DISCOVER)
    assert discover(path) == first
    found = weigh_recipe(load_recipe(path), INLINE, lambda *_: None)
    assert {topic_of(c.name): c.rows for c in found.selection.counts} == {"sea": 100, "code": 90, "law": 165}
    second = discover(recipe(tmp_path, EMBED, "abc", domains={"discover": {"clusters": 2, "samples": 400}}))
    assert (second.number, len(second.clusters)) == (2, 2)
    assert second.drift is not None
    assert 0.1 < second.drift < 0.9
    assert discover(recipe(tmp_path, EMBED, "abc", domains={**DISCOVER, "clustering": 1})) == first
    with pytest.raises(InputError, match=r"has no clustering 7; .*name one of 1, 2"):
        discover(recipe(tmp_path, EMBED, "abc", domains={**DISCOVER, "clustering": 7}))


def test_a_fraction_of_each_sources_documents_is_clustered(tmp_path: Path) -> None:
    """The numbers of documents are those that `samples` would have named for each source by itself."""
    write_source(tmp_path / "in", "a", {"sea": 300, "code": 200}, 0)
    write_source(tmp_path / "in", "b", {"law": 120, "code": 30}, 1)
    found = discover(recipe(tmp_path, EMBED, "ab", domains={"discover": {"clusters": 3, "fraction": 0.3}}))
    assert found.documents == 150 + 64, "a share, or 64 where that is less"
    by_topic = {topic_of(c.name): c.documents for c in found.clusters}
    assert set(by_topic) == set(TOPICS)
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "in").symlink_to(tmp_path / "in")
    alone = discover(recipe(tmp_path / "apart", EMBED, "b", domains={"discover": {"clusters": 2, "samples": 64}}))
    assert by_topic["law"] == next(c.documents for c in alone.clusters if topic_of(c.name) == "law")
    refined = discover(recipe(tmp_path, EMBED, "ab", domains={"refine": {"clusters": 2, "fraction": 1}}))
    assert {(c.name[:1], topic_of(c.name)): c.documents for c in refined.clusters} == {
        ("a", "sea"): 300, ("a", "code"): 200, ("b", "law"): 120, ("b", "code"): 30,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"domains\.refine: .*'samples' and 'fraction' both say how many"):
        load_recipe(recipe(tmp_path, EMBED, "ab", domains={"refine": {"samples": 100, "fraction": 0.5}}))


def test_sources_are_refined_and_hold_their_share(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    path = recipe(tmp_path, EMBED, "ab", domains={"refine": {"clusters": 2, "samples": 400, "hold": {"a": 0.3}}})
    found = weigh_recipe(load_recipe(path), INLINE, lambda *_: None)
    rows = {(c.name[:2], topic_of(c.name)): c.rows for c in found.selection.counts}
    assert rows == {("a/", "sea"): 90, ("a/", "code"): 60, ("b/", "law"): 120, ("b/", "code"): 30}
    of_a = sum(float(w) for name, w in found.mixture.decimals.items() if name.startswith("a/"))
    assert of_a == pytest.approx(0.3, abs=1e-6)
    write_source(tmp_path / "in", "c", {"sea": 40}, 2)
    pinned = recipe(tmp_path, EMBED, "abc", domains={"refine": {"clusters": 2}, "clustering": 1})
    with pytest.raises(InputError, match="clustering 1 knows no source 'c'"):
        weigh_recipe(load_recipe(pinned), INLINE, lambda *_: None)


def test_the_command_shows_the_clusters(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    write_corpus(tmp_path)
    path = recipe(tmp_path, EMBED, "ab", domains=DISCOVER)
    code, answer, said = command("domains", str(path), "--json", "--workers", "1")
    assert code == 0, said
    found = json.loads(answer)
    assert sum(c["share"] for c in found["clusters"]) == pytest.approx(1)
    code, answer, _ = command("domains", str(path), "--workers", "1")
    assert code == 0
    for cluster in found["clusters"]:
        assert cluster["name"] in answer
    assert "clustering 1: 3 domains from 300 embedded documents" in answer


@pytest.mark.parametrize(
    ("domains", "source", "said"),
    [
        ({"discover": {"clusters": 3}, "refine": {"clusters": 3}}, {}, "give one of 'discover' and 'refine'"),
        ({}, {}, "give one of 'discover' and 'refine'"),
        (DISCOVER, {"domain": "kind"}, "names a domain column"),
        ({"refine": {"hold": {"z": 0.1}}}, {}, "'z' is no source"),
        ({"discover": {"cluster": 3}}, {}, "did you mean 'clusters'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, domains: Any, source: Any, said: str) -> None:
    path = recipe(tmp_path, EMBED, "a", domains=domains)
    value = json.loads(path.read_text())
    value["sources"] = {"a": {"path": str(tmp_path), **source}}
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=said):
        load_recipe(path)


def test_a_recipe_without_domains_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="discovers no domains; give it"):
        discover(recipe(tmp_path, EMBED, "a"))


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "in", "a", {"sea": 20}, 0)
    with pytest.raises(InputError, match="the sources have 20 different documents, and a cluster needs 16"):
        discover(recipe(tmp_path, EMBED, "a", domains=DISCOVER))


def test_every_document_gets_the_topic_of_its_own_vector(engine: Engine, tmp_path: Path) -> None:
    """Words would say otherwise: those of some texts are of another topic than their vectors."""
    write_corpus(tmp_path, files=3)
    strangers = pa.table({"text": [f"{TOPICS['law']} {i}" for i in range(9)], "vector": [np.eye(8)[0].tolist()] * 9})
    pq.write_table(strangers, tmp_path / "in/a/strangers.parquet")
    asked = {"discover": {"clusters": 3, "samples": 100, "assign": "embed"}}
    path = recipe(tmp_path, EMBED, "ab", domains=asked)
    manifest = build_recipe(load_recipe(path), engine, lambda *_: None, CREATED).manifest
    assert {topic_of(name): d.rows_read for name, d in manifest.domains.items()} == {"sea": 99, "code": 90, "law": 120}
    store = Store(str(tmp_path / "out"))
    assert check_against_corpus(engine, store, manifest, lambda *_: None) == []


def test_a_model_assigns_every_document_and_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By static vectors of the topics' words. What the first try recorded is not embedded again, and topics are the same."""
    model = static_model(tmp_path / "model")
    write_corpus(tmp_path, files=2)
    asked = {"discover": {"clusters": 3, "samples": 64, "assign": "embed"}}
    path = recipe(tmp_path, {"model": str(model), "samples": 50}, "ab", domains=asked)
    embedded: list[int] = []
    encode = Embedder.encode_groups

    def counted(self: Embedder, groups: Any, device: Any) -> Any:
        embedded.append(sum(map(len, groups)))
        return encode(self, groups, device)

    monkeypatch.setattr(Embedder, "encode_groups", counted)
    monkeypatch.setattr(assign, "TOPICS_SECONDS", 0.0)
    discover(path)
    embedded.clear()
    with monkeypatch.context() as dying:
        die_at(1, True, dying, assign, ("write_table",))
        with pytest.raises(Killed):
            weigh_recipe(load_recipe(path), INLINE, lambda *_: None)
    first = sum(embedded)
    assert 0 < first < 300
    rows: Counter[str] = Counter()
    monkeypatch.setattr(engines, "_counting", [lambda name, amount, n: rows.update({name: n} if amount == "rows" else {})])
    found = weigh_recipe(load_recipe(path), INLINE, lambda *_: None)
    assert {topic_of(c.name): c.rows for c in found.selection.counts} == {"sea": 90, "code": 90, "law": 120}
    samples = 3 * 50  # of the domains, to weigh them
    assert sum(embedded) == 300 + samples
    assert rows["embed"] == samples
    assert 300 - first <= rows["assign"] <= 300, "texts of a part of which some were assigned are read again"
    embedded.clear()
    pinned = json.loads(path.read_text())
    pinned["domains"]["clustering"] = 1
    pinned["embed"]["window"] = 32
    path.write_text(json.dumps(pinned))
    with pytest.raises(InputError, match="clustering 1 was made with another embedder"):
        weigh_recipe(load_recipe(path), INLINE, lambda *_: None)
