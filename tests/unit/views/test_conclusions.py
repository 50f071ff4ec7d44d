"""The sentences with which a report begins are true to the manifest, and promise no more than training showed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from chameleon_data.recipe import Leverage
from chameleon_data.versions.diff import ManifestChanges
from chameleon_data.versions.manifest import DomainRecord, Manifest
from chameleon_data.views.report.conclusions import Before, conclude
from chameleon_data.views.report.domains import domain_frame
from chameleon_data.views.report.tables import bounds_table
from chameleon_data.weights.bounds import MovedWeight
from tests.support.manifests import example_manifest


def manifest_of(shares: dict[str, tuple[float, int]], **changes: Any) -> Manifest:
    """Domains by weight and tokens of the corpus; a hundred tokens are written, in documents of one."""
    domains = {
        name: {
            "weight": weight, "target_tokens": round(100 * weight), "tokens": round(100 * weight), "rows": round(100 * weight),
            "available_tokens": there, "available_rows": there, "epochs": 100 * weight / there, "largest_document": 1,
            "rows_read": there, "rows_written_once": min(there, round(100 * weight)),
            "rows_not_selected": max(0, there - round(100 * weight)),
        }
        for name, (weight, there) in shares.items()
    }  # fmt: skip
    return example_manifest(domains=domains, budget=100, weights={"unbounded": {n: w for n, (w, _) in shares.items()}, **changes})


def say(manifest: Manifest, before: Before | None = None, evaluated: tuple[str, ...] = ()) -> list[str]:
    """The sentences, without the marks around names and with plain spaces."""
    found = conclude(manifest, domain_frame(manifest), before, evaluated)
    return [one.text.translate({0x2068: None, 0x2069: None, 0xA0: " "}) for one in found]


COMPUTED = {"origin": "computed", "target": "unseen", "moved": []}
UNEVEN = {"github": (0.58, 50), "papers": (0.12, 3), "web": (0.3, 47)}


def test_shares_are_those_of_the_corpus() -> None:
    said = say(manifest_of(UNEVEN, **COMPUTED))
    assert said[0] == "github gets the largest share of the bytes, 58.0 %. That is 1.16 times its natural share, 50.0 %."
    assert (
        said[1] == "Against natural shares, papers is raised most, to 4.00 times its own, and web is lowered most, to 0.64 times."
    )
    assert say(manifest_of({"a": (0.5, 50), "b": (0.5, 50)}, **COMPUTED))[1].startswith("Every domain gets its natural share")
    assert say(manifest_of({"only": (1.0, 50)}))[0] == "All bytes come from one domain, only."


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"a": (0.52, 50), "b": (0.48, 50)}, "Every domain gets its natural share"),
        ({"a": (0.53, 50), "b": (0.47, 50)}, "Against natural shares, a is raised most, to 1.06 times its own, and b is lowered"),
        ({"a": (0.99, 98), "b": (0.01, 2)}, "Against natural shares, a is raised most, to 1.01 times its own, and b is lowered"),
    ],
    ids=["within a twentieth", "above", "one far below and none far above"],
)
def test_a_share_is_natural_within_a_twentieth_of_it(shares: dict[str, tuple[float, int]], said: str) -> None:
    assert say(manifest_of(shares, **COMPUTED))[1].startswith(said)


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        ("epochs", "web is held at 4 epochs: "),
        ("cap", "web is held at its cap: "),
        ("floor", "web is raised to its floor: "),
        ("group cap", "web is as a group held at its cap: "),
        ("group floor", "web is as a group raised to its floor: "),
    ],
)
def test_each_kind_of_bound_has_its_words(bound: str, told: str) -> None:
    said = say(manifest_of(UNEVEN, **{**COMPUTED, "moved": [vars(MovedWeight("web", bound, 0.4, 0.3, 0.1))]}))
    assert said[2] == f"{told}it gets 30.0 %, where the weights alone would give 40.0 %."


def test_one_bound_beyond_those_that_are_told_is_counted() -> None:
    moved = [vars(MovedWeight(name, "cap", 0.4, 0.3, 0.1)) for name in ("web", "papers", "github", "web")]
    assert say(manifest_of(UNEVEN, **{**COMPUTED, "moved": moved}))[5] == "1 more bound moved a weight."
    assert not any("more bound" in s for s in say(manifest_of(UNEVEN, **{**COMPUTED, "moved": moved[:3]})))


def test_bounds_say_what_they_took() -> None:
    moved = [vars(MovedWeight("papers", "epochs", 0.2, 0.12, 0.5)), vars(MovedWeight("web", "cap", 0.4, 0.3, 0.1))]
    said = say(manifest_of(UNEVEN, **{**COMPUTED, "moved": moved}))
    assert said[2] == "papers is held at 4 epochs: it gets 12.0 %, where the weights alone would give 20.0 %."
    assert said[3] == "web is held at its cap: it gets 30.0 %, where the weights alone would give 40.0 %."
    many = say(manifest_of(UNEVEN, **{**COMPUTED, "moved": [*moved, *moved, *moved]}))
    assert many[5] == "3 more bounds moved a weight."


def test_of_several_stages_each_bound_is_that_of_its_stage() -> None:
    one = manifest_of(UNEVEN, **{**COMPUTED, "moved": [vars(MovedWeight("papers", "epochs", 0.2, 0.12, 0.5))]})
    (first,) = one.stages
    later = replace(one.weights, moved=(MovedWeight("web", "cap", 0.4, 0.1, 0.1),))
    staged = replace(one, stages=(first, replace(first, weights=later)))
    said, table = say(staged), bounds_table(staged, 3)
    assert table is not None
    assert [row[:3] for row in table.rows] == [["papers", "1", "limit of epochs"], ["web", "2", "cap"]]
    assert said[2] == "In stage 1 papers is held at 4 epochs: it gets 12.0 %, where the weights alone would give 20.0 %."
    assert said[3] == "In stage 2 web is held at its cap: it gets 10.0 %, where the weights alone would give 40.0 %."
    assert said[4].startswith("The weights change in the course of the training, which no training run has measured")


def test_use_of_the_corpus_is_that_of_the_books() -> None:
    said = say(manifest_of(UNEVEN, **COMPUTED))
    assert (
        "83 % of the documents that may be trained on are in it (83 of 100); the others are beyond their domain's share." in said
    )
    assert "papers and github are read more than once, at most 4.00 times." in said
    assert any(s.startswith("All 50 documents") for s in say(manifest_of({"only": (1.0, 50)})))
    assert "only is read more than once, 2.00 times." in say(manifest_of({"only": (1.0, 50)}))
    assert not any("more than once" in s for s in say(manifest_of({"a": (0.5, 50), "b": (0.5, 50)}))), "once is not more"


def test_nothing_is_promised_that_training_did_not_show() -> None:
    """The words are those of docs/results.md: no difference for the default, which lies inside the band."""
    measured = manifest_of(UNEVEN, **COMPUTED)
    expected = (
        "Against equal shares, expect no difference on trained domains (+0.0015 ± 0.0005 bits per byte) and no difference on "
        "domains not trained on (−0.0030 ± 0.0006 bits per byte), as small decoders showed (Inverse leverage)."
    )
    assert expected in say(measured)
    moved = replace(measured, weights=replace(measured.weights, moved=(MovedWeight("web", "cap", 0.4, 0.3, 0.1),)))
    assert f"{expected} Bounds and priors came after, and were not part of it." in say(moved)
    hotter = measured.recipe.weights.model_copy(update={"temperature": 3.0})
    other = replace(measured, recipe=measured.recipe.model_copy(update={"weights": hotter}))
    samples, curved = (
        replace(measured, recipe=measured.recipe.model_copy(update={"leverage": Leverage(**keys)}))
        for keys in ({"level": "sample"}, {"kernel": "rbf"})
    )
    prior = measured.recipe.weights.model_copy(update={"prior": {"web": 2.0}})
    with_prior = replace(measured, recipe=measured.recipe.model_copy(update={"weights": prior}))
    assert f"{expected} Bounds and priors came after, and were not part of it." in say(with_prior)
    for unmeasured in (other, samples, curved):
        assert any(s.startswith("No training run has measured") for s in say(unmeasured))
        assert not any("expect" in s for s in say(unmeasured))
    assert any(s.startswith("The weights were given") for s in say(manifest_of(UNEVEN, origin="/data/mix.json")))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"objective": "finetune", "target": "unseen"},
            "worse on trained domains (+0.0041 ± 0.0007 bits per byte), as small decoders showed (Inverse leverage, finetuning).",
        ),
        (
            {"centre": "natural"},
            "worse on trained domains (+0.0288 ± 0.0012 bits per byte) and a little better on domains "
            "not trained on (−0.0242 ± 0.0009 bits per byte), as small decoders showed (Natural shares alone).",
        ),
    ],
    ids=["one of the two was measured", "worse and better"],
)
def test_what_is_expected_is_what_training_showed(weights: dict[str, str], said: str) -> None:
    measured = manifest_of(UNEVEN, **COMPUTED)
    weights_section = measured.recipe.weights.model_copy(update=weights)
    found = say(replace(measured, recipe=measured.recipe.model_copy(update={"weights": weights_section})))
    assert f"Against equal shares, expect {said}" in found


def test_of_a_single_domain_nothing_is_expected() -> None:
    assert not any("expect" in s or "training run" in s for s in say(manifest_of({"only": (1.0, 50)}, **COMPUTED)))


def test_an_evaluation_of_this_text_stands_in_the_place_of_others() -> None:
    said = say(manifest_of(UNEVEN, **COMPUTED), evaluated=("On held-out text: better.",))
    assert "On held-out text: better." in said
    assert not any("expect" in s for s in said)


THREE = ((1.0, 0.2, 0.1), (0.2, 1.0, 0.3), (0.1, 0.3, 1.0))
ALIKE = ((1.0, -0.2, 0.5), (-0.2, 1.0, -0.3), (0.5, -0.3, 1.0))


@pytest.mark.parametrize(
    ("affinity", "marks", "told"),
    [
        (
            ALIKE,
            ((0, 0, 1), (0, 0, 0), (1, 0, 0)),
            "github and web are closer than their distances from the other domains let expect; ",
        ),
        (
            THREE,
            ((0, 1, 1), (1, 0, 1), (1, 1, 0)),
            "papers and web are closer than their distances from the other domains let expect, as are 2 more pairs; ",
        ),
        (
            THREE,
            ((0, 0, 1), (0, 0, 1), (1, 1, 0)),
            "papers and web are closer than their distances from the other domains let expect, as is 1 more pair; ",
        ),
        (ALIKE, ((0, 0, 0), (0, 0, 0), (0, 0, 0)), None),
        (ALIKE, ((0, 0, -1), (0, 0, 0), (-1, 0, 0)), None),
        (ALIKE, ((0, 1, 0), (1, 0, 0), (0, 0, 0)), None),
        (tuple(tuple(-abs(x) for x in row) for row in ALIKE), ((0, 1, 0), (1, 0, 0), (0, 0, 0)), None),
        (None, None, None),
    ],
    ids=["beyond noise", "three pairs", "two pairs", "noise", "farther", "another pair", "opposed", "no affinity"],
)
def test_domains_that_are_alike_are_told_where_noise_does_not_explain_it(affinity, marks, told) -> None:
    manifest = manifest_of(UNEVEN, **{**COMPUTED, "names": sorted(UNEVEN), "affinity": affinity, "beyond_noise": marks})
    said = [sentence for sentence in say(manifest) if "closer than" in sentence]
    assert len(said) == (told is not None)
    assert all(sentence.startswith(told or "") for sentence in said)


def test_unusable_rows_are_counted() -> None:
    clean = manifest_of(UNEVEN, **COMPUTED)
    assert not any("no usable text" in s for s in say(clean))
    web: DomainRecord = replace(clean.domains["web"], rows_read=1_047, quarantined=1_000)
    assert "1,000 of 1,100 rows held no usable text and were set aside." in say(
        replace(clean, domains={**clean.domains, "web": web})
    )


@pytest.mark.parametrize(
    ("recipe", "weights", "said"),
    [
        (["mix.budget"], {"a": [0.2, 0.3], "b": [0.8, 0.7]}, "the recipe changed in mix; a moved most, from 20.0 % to 30.0 %."),
        ([], {"a": [0.2, 0.2]}, "the recipe is the same; no weight moved."),
        (
            ["sources.c"],
            {"a": [1.0, 0.4], "c": [None, 0.6]},
            "the recipe changed in sources; a moved most, from 100.0 % to 40.0 %.",
        ),
    ],
)
def test_what_changed_since_the_version_before(recipe, weights, said) -> None:
    domains = {name: {"weight": pair, "tokens": [1, 1], "rows": [1, 1], "epochs": [1.0, 1.0]} for name, pair in weights.items()}
    before = Before(4, ManifestChanges({key: [1, 2] for key in recipe}, domains, (), {}, {}))
    (found,) = [s for s in say(manifest_of(UNEVEN, **COMPUTED), before) if s.startswith("Since v4, the ")]
    assert said in found


def test_natural_shares_and_times_are_columns_that_agree() -> None:
    frame = domain_frame(manifest_of(UNEVEN, **COMPUTED))
    assert frame.select((pl.col("times") * pl.col("natural") - pl.col("weight")).abs().max()).item() < 1e-12
