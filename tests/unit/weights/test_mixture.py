"""The recorded mixture: what is written is what is read, and its plain JSON keeps its keys."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.weights.bounds import MovedWeight
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder
from chameleon_data.weights.explain.near_duplicates import Pair
from chameleon_data.weights.explain.neighbours import Neighbour
from chameleon_data.weights.explain.sensitivity import Setting
from chameleon_data.weights.kernels.kernel import Kernel
from chameleon_data.weights.make_mixture import take_rest
from chameleon_data.weights.mixture import (
    LandmarksUsed,
    MisfiledDocument,
    Mixture,
    MixtureDescription,
    SamplingRound,
    WeightsFile,
    WeightsVersion,
    describe_mixture,
    read_mixture,
    write_mixture,
)
from tests.support.manifests import example_mixture

GIVEN = MixtureDescription(
    origin="w.json (plain)",
    objective="pretrain",
    preset="default",
    kernel="linear",
    level="domain",
    names=("a", "b"),
    unbounded={"a": 0.1, "b": 0.9},
    moved=(MovedWeight("b", "cap", 0.9, 0.8, None),),
    effective_domains=1.38,
    scores={"a": None, "b": None},
    intervals={"a": None, "b": None},
    rank_stability={"a": None, "b": None},
    variance_of_mean={"a": None, "b": None},
    affinity=None,
    ridge=None,
    temperature=None,
    clipped_mass=0.0,
    nystrom=None,
    warnings=(),
    given=WeightsFile("w.json", "0" * 64),
)
COMPUTED = replace(
    GIVEN,
    origin="computed",
    given=None,
    kernel="rbf",
    scores={"a": 0.5, "b": 1.5},
    intervals={"a": (0.1, 1 / 3), "b": None},
    affinity=((1.0, -1.0), (-1.0, 1.0)),
    ridge=0.1,
    temperature=5 / 7,
    nystrom=LandmarksUsed(Kernel("rbf", 0.7), "f" * 64, 12, None, {"a": 0.1, "b": 0.2}, {"a": (0.1, 0.2)}, True),
    warnings=("one", "two"),
    embedder=Embedder("some/model", None, "middle", 64, "e" * 64),
    rounds=(SamplingRound(64, 0.03, "b", False, "64 samples"),),
    pairs=(Pair("a", "b", 0.01, 0.9),),
    near_duplicates=("'a' and 'b' look like one domain",),
    neighbours={"a": (Neighbour("b", 0.2, -1.0),), "b": ()},
    sensitivity=(Setting(0.1, 1.0, {"a": 0.5, "b": 0.5}, 2.0, 0.4), Setting(1.0, 1.0, None, None, None, "refused")),
    misfiled=(MisfiledDocument("a", 3, "b", 0.2, "0" * 32, "its text"),),
    mixtures={"uniform": {"a": 0.5, "b": 0.5}},
)
CASES = {
    "given": GIVEN,
    "of a version": replace(GIVEN, given=WeightsVersion("s3://b/out", 3, "1" * 64)),
    "computed": COMPUTED,
    "of a column": replace(COMPUTED, embedder=ColumnEmbedder("vector", "2" * 64)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_is_read(tmp_path: Path, case: str) -> None:
    mixture = Mixture({"a": "0.2000", "b": "0.8000"}, CASES[case], {"a": [(0.1, 0.2)], "b": []})
    store = Store(str(tmp_path))
    write_mixture(store, "m.json", mixture)
    assert read_mixture(store, "m.json") == mixture


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_mixture(store, "m.json", Mixture({"a": "1.0000"}, GIVEN, {}, format=99))
    with pytest.raises(InputError, match="recorded by another release"):
        read_mixture(store, "m.json")


@pytest.mark.parametrize("case", CASES)
def test_the_description_is_plain_json_with_a_key_for_each_field(case: str) -> None:
    plain = describe_mixture(CASES[case])
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == {field.name for field in fields(MixtureDescription)}


def test_the_plain_description_shows_its_parts_by_name() -> None:
    plain = describe_mixture(COMPUTED)
    assert plain["intervals"] == {"a": [0.1, 1 / 3], "b": None}
    assert plain["nystrom"]["kernel"] == {"name": "rbf", "bandwidth": 0.7, "degree": 2}
    assert plain["embedder"] == {
        "model": "some/model",
        "revision": None,
        "layer": "middle",
        "window": 64,
        "fingerprint": "e" * 64,
        "dtype": "float32",
    }
    assert plain["misfiled"] == [
        {"domain": "a", "row": 3, "nearest": "b", "margin": 0.2, "document": "0" * 32, "text": "its text"}
    ]
    assert describe_mixture(CASES["of a column"])["embedder"] == {"column": "vector", "fingerprint": "2" * 64}


def test_the_first_stage_gets_what_later_ones_leave_of_each_total() -> None:
    """Of 100 tokens: 20 of a second stage, then a ramp of two parts of 10 from there to a third."""
    whole, second, third = (example_mixture(w) for w in ({"a": "0.5", "b": "0.5"}, {"a": "0.8", "b": "0.2"}, {"b": "1"}))
    found = take_rest(whole, 60, [((20,), second), ((10, 10), third)]).decimals
    taken = 20 * 0.8 + 10 * 0.5 * 0.8
    assert float(found["a"]) == pytest.approx((50 - taken) / 60, abs=1e-5)
    assert float(found["b"]) == pytest.approx((50 - (40 - taken)) / 60, abs=1e-5)
