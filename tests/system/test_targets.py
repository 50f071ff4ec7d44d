"""Weights that aim at something: the centre that is tilted, through the whole of `weights`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from chameleon_data.errors import InputError
from chameleon_data.pipelines.build import build_recipe
from chameleon_data.recipe_file import load_recipe
from tests.support.inline_builds import INLINE
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
