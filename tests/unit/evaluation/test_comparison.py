"""From records to verdicts: differences are paired, Holm is over mixtures, and inside the band is a test of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from chameleon_data.evaluation.comparison import JudgedMixture, MixtureTrials, compare_trials
from chameleon_data.evaluation.mixtures import NamedMixture
from chameleon_data.evaluation.training import TrainingSpec, checkpoint_key
from chameleon_data.evaluation.trial_record import SetBits, TrialRecord, trial_key
from chameleon_data.hashing import fingerprint
from chameleon_data.recipe import ModelShape

NAMES = ("a", "b")
NATURAL = {"a": 0.9, "b": 0.1}
DOCUMENTS = 40


def record(seed: int, off: dict[str, float], sets: Sequence[str] = NAMES, without: str | None = None) -> TrialRecord:
    """Documents of 100 bytes each, at 3 bits per byte, much noise of the seed, and what is off."""
    bits = {}
    for name in sets:
        rng = np.random.default_rng([seed, len(name)])
        noise = 0.2 * rng.normal() + np.random.default_rng(7).normal(0, 0.3, DOCUMENTS)
        bits[name] = SetBits(tuple((100 * (3 + noise + off.get(name, 0.0))).tolist()), (100,) * DOCUMENTS)
    return TrialRecord(fingerprint([seed, off, without]), seed, without, dict.fromkeys(NAMES, 0.5), bits)


def trials(name: str, off: Sequence[dict[str, float]], sets: Sequence[str] = NAMES) -> MixtureTrials:
    return MixtureTrials(NamedMixture(name, dict.fromkeys(NAMES, 0.5)), tuple(record(s, o, sets) for s, o in enumerate(off)), {})


def judged(*mixtures: MixtureTrials, unseen: Sequence[str] = (), band: float = 0.005) -> dict[str, JudgedMixture]:
    return {one.name: one for one in compare_trials(mixtures, NATURAL, unseen, ("equal", "natural"), band)}


def shift(*by: float, sets: Sequence[str] = NAMES) -> list[dict[str, float]]:
    return [dict.fromkeys(sets, x) for x in by]


UNIFORM = trials("uniform", shift(0, 0, 0, 0))


def test_differences_are_paired_so_noise_of_seeds_does_not_count() -> None:
    found = judged(UNIFORM, trials("w", shift(-0.020, -0.021, -0.019, -0.020)))["w"].differences["trained"]
    assert found.mean == pytest.approx(-0.02)
    assert found.error == pytest.approx(np.std([0.020, 0.021, 0.019, 0.020], ddof=1) / 2)
    assert (found.verdict, found.over, found.needed) == ("better", "seeds", None)
    assert found.documents == pytest.approx((-0.02, -0.02), abs=1e-6)  # every document moved alike


def test_inside_the_band_is_shown_and_not_assumed() -> None:
    sure, unsure = shift(0.001, -0.001, 0.0005, 0.0002), shift(0.02, -0.02, 0.01, -0.012)
    found = judged(UNIFORM, trials("sure", sure), trials("unsure", unsure))
    assert found["sure"].differences["trained"].verdict == "no difference"
    assert found["unsure"].differences["trained"].verdict == "open"
    assert (found["unsure"].differences["trained"].needed or 0) > 4


def test_holm_takes_back_what_many_mixtures_found() -> None:
    weak = shift(0.012, 0.030, 0.010, 0.022)
    alone = judged(UNIFORM, trials("w", weak))["w"].differences["trained"]
    many = [trials(f"m{i}", shift(0.02 * (-1) ** i, 0.03, -0.02, 0.001 * i)) for i in range(9)]
    among = judged(UNIFORM, trials("w", weak), *many)["w"].differences["trained"]
    assert (alone.verdict, among.verdict) == ("worse", "open")
    assert (among.needed or 0) > 4  # more than there are, though alone these would do
    assert among.p == alone.p
    assert (among.p_holm or 0) > (alone.p_holm or 1)


def test_metrics_weigh_as_they_say() -> None:
    base = judged(UNIFORM)["uniform"].means
    found = judged(UNIFORM, trials("w", [{"a": 0.10, "b": -0.30}] * 4))["w"]
    difference = {metric: d.mean for metric, d in found.differences.items()}
    assert difference["trained"] == pytest.approx(-0.10)
    assert difference["natural"] == pytest.approx(0.9 * 0.10 - 0.1 * 0.30)
    assert found.means["worst"] == pytest.approx(np.mean([max(record(s, {"a": 0.1, "b": -0.3}).sets[n].per_byte for n in NAMES)
                                                          for s in range(4)]))  # fmt: skip
    assert found.means["trained"] - base["trained"] == pytest.approx(-0.10)


def test_unseen_sets_are_no_part_of_the_trained_mean() -> None:
    sets = (*NAMES, "new")
    uniform = trials("uniform", shift(0, 0, sets=sets), sets)
    found = judged(uniform, trials("w", [{"new": 0.5}] * 2, sets), unseen=("new",))["w"].differences
    assert found["trained"].mean == pytest.approx(0)
    assert found["unseen"].mean == pytest.approx(0.5)


def test_domains_that_are_left_out_in_turn_are_the_units_of_the_test() -> None:
    def left_out(name: str, off: dict[str, float]) -> MixtureTrials:
        whole = tuple(record(s, {}) for s in range(2))
        without = {d: tuple(record(s, {d: x}, [d], d) for s in range(2)) for d, x in off.items()}
        return MixtureTrials(NamedMixture(name, dict.fromkeys(NAMES, 0.5)), whole, without)

    off = {"a": -0.02, "b": -0.03}
    one = judged(left_out("uniform", dict.fromkeys(NAMES, 0.0)), left_out("w", off), unseen=NAMES)["w"]
    found = one.differences["unseen"]
    assert (found.over, found.mean) == ("domains", pytest.approx(-0.025))
    assert found.error == pytest.approx(0.005)
    assert {"without a", "without b"} <= set(one.per_byte)


def test_a_single_seed_is_judged_by_its_documents() -> None:
    uniform = trials("uniform", shift(0))
    found = judged(uniform, trials("w", shift(-0.1)))["w"].differences["trained"]
    assert (found.over, found.p, found.verdict) == ("documents", None, "better")
    assert judged(uniform, trials("w", shift(0.0)))["w"].differences["trained"].verdict == "no difference"


def test_trials_of_another_kind_of_device_are_other_trials() -> None:
    """A CPU multiplies in float32 and a GPU in bfloat16, so a run that goes on elsewhere makes its trials anew."""
    cpu = TrainingSpec("decoder", ModelShape(), 1_000, 0.5, {"a": 1.0}, "cpu")
    gpu = replace(cpu, device="cuda")
    assert trial_key("pool", cpu.describe(), {"a": 1.0}, 0, None) != trial_key("pool", gpu.describe(), {"a": 1.0}, 0, None)
    assert checkpoint_key("pool", cpu, 0, None) != checkpoint_key("pool", gpu, 0, None)
    assert TrainingSpec.of(json.loads(json.dumps(gpu.describe()))) == gpu
