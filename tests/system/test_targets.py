"""Weights that aim at something: the centre that is tilted, through the whole of `weights`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from chameleon_data import domain_weights
from chameleon_data.errors import InputError
from chameleon_data.jobs import tables
from chameleon_data.pipelines.build import build_recipe, plan_recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from tests.support.embeddings import unit_clusters
from tests.support.inline_builds import INLINE
from tests.support.report_example import render_example
from tests.support.shown_plans import show_plan
from tests.support.vector_corpora import corpus, recipe, weigh

EMBED = {"column": "vector", "samples": 100}


def test_the_centre_is_what_its_name_says_and_is_recorded(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    corpus(tmp_path / "in", "a", documents=240)
    (tmp_path / "mix.json").write_text(json.dumps({"a": 1, "b": 2, "c": 3, "d": 4}))
    built = build_recipe(load_recipe(recipe(tmp_path, EMBED)), INLINE, lambda *_: None, "now").manifest
    tokens = {name: d.available_tokens for name, d in built.domains.items()}
    powers = {name: count**0.5 for name, count in tokens.items()}
    wanted = {
        "uniform": dict.fromkeys("abcd", 0.25),
        "natural": {name: count / sum(tokens.values()) for name, count in tokens.items()},
        "natural^0.5": {name: power / sum(powers.values()) for name, power in powers.items()},
        "mix.json": {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4},
        "out@v1": {name: d.weight for name, d in built.domains.items()},
    }
    for name, shares in wanted.items():
        for kl in (0, 0.02):
            weights = {"centre": name, "temperature": {"kl": kl}, "prior": {"b": 3.0}}
            about = weigh(recipe(tmp_path, EMBED, weights=weights)).mixture.description
            base = {n: share * (3.0 if n == "b" else 1.0) for n, share in shares.items()}
            centre = {n: share / sum(base.values()) for n, share in base.items()}
            assert about.centre.shares == pytest.approx(centre)
            assert about.kl == pytest.approx(kl, abs=1e-9)
            assert sum(w * np.log(w / centre[n]) for n, w in about.unbounded.items()) == pytest.approx(kl, abs=1e-9)
        assert Path(about.centre.name).name == name
    assert about.centre.given.version == 1
    assert built.weights.centre.shares == dict.fromkeys("abcd", 0.25)
    again = weigh(recipe(tmp_path, EMBED, weights={"centre": "mix.json", "temperature": {"kl": 0.02}, "prior": {"b": 3.0}}))
    assert "nothing embedded" in again.reused["weigh"]
    (tmp_path / "mix.json").write_text(json.dumps({"a": 4, "b": 2, "c": 3, "d": 1}))
    other = weigh(recipe(tmp_path, EMBED, weights={"centre": "mix.json", "temperature": {"kl": 0.02}, "prior": {"b": 3.0}}))
    assert other.mixture.description.centre.given.sha256 != again.mixture.description.centre.given.sha256
    assert "nothing embedded" not in other.reused.get("weigh", "")


def test_bounds_come_after_the_tilt_and_the_divergence_after_them_is_recorded(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    found = weigh(recipe(tmp_path, EMBED, weights={"temperature": {"kl": 0.01}, "cap": {"a": 0.1}}))
    about, weights = found.mixture.description, {n: float(w) for n, w in found.mixture.decimals.items()}
    assert about.kl == pytest.approx(0.01, abs=1e-9)
    assert about.kl_after_bounds == pytest.approx(sum(w * np.log(4 * w) for w in weights.values()), abs=1e-4)
    assert about.kl_after_bounds > 2 * about.kl
    mix(tmp_path)
    given = weigh(recipe(tmp_path, EMBED, weights={"from": "mix.json", "prior": {"b": 3.0}}))
    assert given.mixture.description.unbounded == pytest.approx({"a": 1 / 14, "b": 6 / 14, "c": 3 / 14, "d": 4 / 14})
    assert given.mixture.description.centre is given.mixture.description.kl is None


def mix(folder: Path) -> None:
    (folder / "mix.json").write_text(json.dumps({"a": 1, "b": 2, "c": 3, "d": 4}))


def test_a_centre_that_is_not_there_is_told_with_its_key(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    with pytest.raises(InputError, match=r"^weights\.centre: .*gone\.json cannot be read"):
        weigh(recipe(tmp_path, EMBED, weights={"centre": "gone.json"}))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_weights_aim_at_a_target_whose_files_are_read_as_a_corpus_is(tmp_path: Path, kernel: str) -> None:
    corpus(tmp_path / "in")
    corpus(tmp_path / "task", "abc", documents=80)
    leverage = {"kernel": kernel, **({"landmarks": 64} if kernel == "rbf" else {})}
    path = recipe(tmp_path, EMBED, leverage=leverage, weights={"target": {"like": "task/c"}, "floor": 0.02})
    found = weigh(path)
    about = found.mixture.description
    assert about.target == "like"
    assert about.match.samples == 80
    assert about.unbounded["c"] > 0.8
    assert about.match.from_weights < 0.2 * about.match.from_centre
    assert about.scores == dict.fromkeys("abcd")
    assert set(found.survey.tallies) == set("abcd")
    assert "nothing embedded" in weigh(path).reused["weigh"]
    built = build_recipe(load_recipe(path), INLINE, lambda *_: None, "now").manifest
    assert built.weights.target == "like"
    assert render_example(built, 1, None, None, store=Store(built.recipe.out)).count("Samples of the target") == 1
    corpus(tmp_path / "task", "abc", documents=90)
    other = weigh(path)
    assert other.mixture.description.match.samples == 90, "a target that changed is read again"


def test_a_target_that_cannot_be_aimed_at_is_told_with_its_key(tmp_path: Path) -> None:
    corpus(tmp_path / "in")
    with pytest.raises(InputError, match=r"^weights\.target: sources\.like: .*gone.*no such file"):
        weigh(recipe(tmp_path, EMBED, weights={"target": {"like": "gone.parquet"}}))
    corpus(tmp_path / "task", "c", documents=20)
    with pytest.raises(InputError, match=r"^weights\.target\.like: 20 samples"):
        weigh(recipe(tmp_path, EMBED, weights={"target": {"like": "task/c"}}))
    with pytest.raises(InputError, match=r"weights\.target: .*no column 'body' for the text"):
        weigh(recipe(tmp_path, EMBED, weights={"target": {"like": "task/c", "text": "body"}}))


def test_weights_by_another_embedder_stand_beside_and_their_movement_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus(tmp_path / "in")
    path = recipe(tmp_path, EMBED | {"also": ["tfidf"]})
    found = weigh(path)
    about = found.mixture.description
    (other,) = about.other_embedders
    assert other.name == "tfidf"
    assert sum(other.weights.values()) == pytest.approx(1)
    assert about.movement == pytest.approx({n: abs(w - other.weights[n]) for n, w in about.unbounded.items()})
    assert max(about.movement.values()) > 0.01
    assert any(w.startswith("between embedders a weight moves by up to") for w in about.warnings)
    tables.print_weights(found)
    shown = capsys.readouterr().out
    assert "by embedder" in shown
    built = build_recipe(load_recipe(path), INLINE, lambda *_: None, "now").manifest
    assert built.weights.movement == about.movement
    for show in (
        lambda: tables.print_mixture(built),
        lambda: show_plan(plan_recipe(load_recipe(path), INLINE, lambda *_: None)),
    ):
        show()
        assert "by embedder" in capsys.readouterr().out
    page = render_example(built, 1, None, None, store=Store(built.recipe.out))
    assert "By embedder" in page
    assert f"a weight moves by up to {100 * max(about.movement.values()):.1f} %" in page
    alone = weigh(recipe(tmp_path, EMBED)).mixture.description
    assert alone.unbounded == about.unbounded
    assert alone.movement is None
    aimed = weigh(recipe(tmp_path, EMBED | {"also": ["tfidf"]}, weights={"target": {"like": "in/c"}})).mixture.description
    assert aimed.other_embedders[0].weights["c"] > 0.5
    assert aimed.unbounded["c"] > 0.5


def test_domains_that_are_one_are_scored_as_one_through_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus(tmp_path / "in", "abcd", documents=400)
    (tmp_path / "in" / "e").mkdir()
    (tmp_path / "in" / "d" / "part-1.parquet").rename(tmp_path / "in" / "e" / "part-0.parquet")
    path = recipe(tmp_path, {"column": "vector", "samples": 400}, "abcde", leverage={"merge": "auto"})
    about = weigh(path).mixture.description
    assert about.merged == (("d", "e"),)
    assert not any("'d' and 'e'" in warning for warning in about.near_duplicates)
    tokens = {c.name: c.tokens for c in weigh(path).selection.counts}
    assert about.unbounded["d"] / about.unbounded["e"] == pytest.approx(tokens["d"] / tokens["e"])
    assert about.centre.shares["a"] == pytest.approx(0.25)
    assert about.neighbours["d"] == about.neighbours["e"]
    assert set(about.sensitivity[0].weights) == set("abcde")
    built = build_recipe(load_recipe(path), INLINE, lambda *_: None, "now").manifest
    assert "Scored as one" in render_example(built, 1, None, None, store=Store(built.recipe.out))
    tables.print_notes(built.weights, {})
    assert "scored as one, and the weight split by tokens: d, e" in capsys.readouterr().out
    plain = weigh(recipe(tmp_path, {"column": "vector", "samples": 400}, "abcde")).mixture.description
    assert any("'d' and 'e' look like one domain" in warning for warning in plain.near_duplicates)
    assert "leverage.merge: auto" in plain.near_duplicates[0]
    assert plain.unbounded["d"] + plain.unbounded["e"] > 1.3 * (about.unbounded["d"] + about.unbounded["e"])


def test_a_centre_fits_more_domains_than_those_on_which_landmarks_are_judged() -> None:
    embeddings = unit_clusters(70, 12)
    shares = {name: i + 1.0 for i, name in enumerate(sorted(embeddings))}
    found = domain_weights(embeddings, kernel="rbf", landmarks=72, centre_shares=shares)
    assert found.nystrom.error < 0.01
    assert found.kl < 0.02
