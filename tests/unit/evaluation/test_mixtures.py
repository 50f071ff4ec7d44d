"""Mixtures by name, from what a version records."""

from __future__ import annotations

import numpy as np
import pytest

from chameleon_data.errors import InputError
from chameleon_data.evaluation.mixtures import check_mixtures, make_mixtures
from chameleon_data.recipe import Evaluate
from tests.support.manifests import example_manifest

DOMAINS = {
    "a": {"weight": 0.5, "available_tokens": 100, "score": 0.5},
    "b": {"weight": 0.3, "available_tokens": 400, "score": 1.0},
    "c": {"weight": 0.2, "available_tokens": 500, "score": 1.5},
}
MANIFEST = example_manifest(domains=DOMAINS)


def made(*asked: object, manifest: object = MANIFEST) -> dict[str, list[float]]:
    section = Evaluate.model_validate({"mixtures": list(asked)})
    found = make_mixtures(manifest, section.mixtures, lambda origin: {"c": 1, "b": 1, "a": 2})  # type: ignore[arg-type]
    assert all(list(m.shares) == ["a", "b", "c"] and sum(m.shares.values()) == pytest.approx(1) for m in found)
    return {m.name: list(m.shares.values()) for m in found}


def test_uniform_is_always_there() -> None:
    assert list(made("weights")) == ["uniform", "weights"]
    assert list(made("natural", "uniform")) == ["natural", "uniform"]


def test_names_mean_what_they_say() -> None:
    found = made("weights", "natural", "natural^0.5", "/some/file.json")
    assert found["weights"] == pytest.approx([0.5, 0.3, 0.2])
    assert found["natural"] == pytest.approx([0.1, 0.4, 0.5])
    assert found["natural^0.5"] == pytest.approx(np.sqrt([1, 4, 5]) / np.sqrt([1, 4, 5]).sum())
    assert found["file.json"] == pytest.approx([0.5, 0.25, 0.25])


def test_files_of_one_name_keep_their_folders() -> None:
    assert list(made("/a/w.json", "/b/w.json", "/c/x.json")) == ["uniform", "/a/w.json", "/b/w.json", "x.json"]


def test_tilts_are_the_formula_of_the_weights() -> None:
    scores, centre = np.array([0.5, 1.0, 1.5]), np.array([0.1, 0.4, 0.5])
    found = made(
        {"name": "i", "centre": "natural", "tilt": "inverse", "temperature": 2.0},
        {"name": "d", "tilt": "direct", "temperature": 2.0},
    )
    inverse, direct = centre * np.exp(1 / (scores * 2)), np.exp(scores / 2)
    assert found["i"] == pytest.approx(inverse / inverse.sum())
    assert found["d"] == pytest.approx(direct / direct.sum())
    plain = made("inverse", "direct")
    assert plain["inverse"][0] > plain["inverse"][2]
    assert plain["direct"][0] < plain["direct"][2]


def test_a_version_without_scores_has_no_tilt() -> None:
    given = example_manifest(domains={name: {**d, "score": None} for name, d in DOMAINS.items()})
    assert list(made("weights", manifest=given)) == ["uniform", "weights"]
    with pytest.raises(InputError, match="'direct' is made of leverage scores, and this version has none"):
        made("direct", manifest=given)


def test_given_mixtures_are_checked_and_scaled() -> None:
    uniform, own = check_mixtures(["a", "b"], {"own": {"b": 3, "a": 1}})
    assert (uniform.name, own.shares) == ("uniform", {"a": 0.25, "b": 0.75})
    with pytest.raises(InputError, match="mixture 'own': b, z in it or in the version, not in both"):
        check_mixtures(["a", "b"], {"own": {"a": 1, "z": 1}})
    with pytest.raises(InputError, match="shares must be finite"):
        check_mixtures(["a", "b"], {"own": {"a": -1, "b": 1}})
