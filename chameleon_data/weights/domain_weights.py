"""`domain_weights`: from embedded samples to a mixture, by any kernel and level.

    linear, cosine                    exact: statistics of x or x / ‖x‖
    rbf, polynomial, laplacian        through landmarks, with the error that this makes measured

`level: domain` scores domains by their means (`weigh.weigh`), `level: sample` scores samples (`sample_leverage.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy
from pydantic import ValidationError

from chameleon_data.arrays import F64, Floats
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Leverage, RecordedLandmarks, Weights, say_fault
from chameleon_data.weights.affinity import affinity, can_debias, debias_fraction
from chameleon_data.weights.centre import CentreRule
from chameleon_data.weights.domain_statistics import DomainStatistics, FeatureArrays, check_features, domain_statistics, moments
from chameleon_data.weights.explain.near_duplicates import MOST_DOMAINS_BY_PAIR, nearest_pairs, warn_of_near_duplicates
from chameleon_data.weights.kernels.kernel import EXACT, Kernel, auto_bandwidth, unit_rows
from chameleon_data.weights.kernels.landmark_error import LARGEST_PAIRS, fit_landmarks, has_drifted, leverage_bounds
from chameleon_data.weights.kernels.landmarks import Landmarks, draw_balanced_pool
from chameleon_data.weights.kernels.nystrom import ChunkMap, LandmarkStatistics, feature_map, nystrom_statistics
from chameleon_data.weights.merge import find_alike, merge_domains
from chameleon_data.weights.sample_leverage import SampleLeverage, sample_leverage
from chameleon_data.weights.tilt import Objective, choose_exponents, make_tilt
from chameleon_data.weights.weigh import (
    DomainWeights,
    NystromUse,
    estimate_from_moments,
    spread_over_domains,
    weigh,
    weigh_samples,
    weigh_towards,
)

TARGET_NAME = "like"
"""Stands for a domain's name where samples of a target are read, embedded or refused."""
BANDWIDTH_POOL = 1_024
"""Samples whose pairs set an automatic bandwidth."""


@dataclass(frozen=True)
class TargetSamples:
    """Embedded samples of a target."""

    vectors: npt.NDArray[Any]
    """(n, p)"""
    groups: npt.NDArray[np.int64] | None
    """(n) jackknife groups. None: by their order."""

    def statistics(self, phi: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None) -> DomainStatistics:
        """Their statistics, as those of one domain; `phi` maps a block to its features."""
        groups = None if self.groups is None else {TARGET_NAME: self.groups}
        return domain_statistics({TARGET_NAME: self.vectors}, groups, phi)

    def through(self, landmarks: Landmarks) -> DomainStatistics:
        """Their statistics as the landmarks see them."""
        groups = None if self.groups is None else {TARGET_NAME: self.groups}
        return nystrom_statistics({TARGET_NAME: self.vectors}, landmarks, groups).statistics


def domain_weights(
    embeddings: FeatureArrays,
    *,
    groups: Mapping[str, npt.ArrayLike] | None = None,
    objective: Objective = "pretrain",
    target: Literal["auto", "unseen", "trained"] = "auto",
    like: npt.ArrayLike | None = None,
    centre_shares: Mapping[str, float] | None = None,
    preset: Literal["default", "reference"] = "default",
    level: Literal["domain", "sample"] = "domain",
    kernel: Literal["linear", "cosine", "rbf", "polynomial", "laplacian"] = "linear",
    bandwidth: float | Literal["auto"] = "auto",
    degree: Literal[2, 3] = 2,
    landmarks: int | Literal["auto"] | Landmarks = 256,
    tolerance: float = 0.005,
    ridge: float | Literal["auto"] | Mapping[str, float] = "auto",
    temperature: float | Literal["auto"] | Mapping[str, float] = "auto",
    debias: float | Literal["auto"] = "auto",
    centre: bool = True,
    merge: Literal["none", "auto"] = "none",
    seed: int = 0,
) -> DomainWeights:
    """Weights of domains from (n_i, p) arrays of embedded samples, one a domain.

    `groups`: domain -> (n_i) integers 0 to 19, the jackknife group of each sample (see `domain_statistics`). `like`: (n, p)
    samples of a target, at least 50, towards which the domains are weighed in the place of leverage. `centre_shares`: domain ->
    share of the mixture that is tilted; None: equal shares. `seed` decides which samples choose landmarks. Landmarks of
    an earlier result bring their bandwidth and degree, and a warning where they no longer fit. The other arguments are those of a
    recipe's `leverage` and `weights`. Raises InputError, a ValueError, where there is no answer.
    """
    recorded, count = (None, landmarks) if isinstance(landmarks, int | float | str) else (landmarks, len(landmarks.points))
    try:
        leverage = Leverage.model_validate({
            "preset": preset, "level": level, "kernel": kernel, "bandwidth": bandwidth, "degree": degree,
            "landmarks": count, "tolerance": tolerance, "ridge": ridge, "debias": debias, "centre": centre, "merge": merge,
        })  # fmt: skip
        weights = Weights.model_validate({"objective": objective, "target": target, "temperature": temperature})
    except ValidationError as error:
        faults = error.errors(include_url=False)  # a value that may be of several types has one for each
        what = ", or ".join(dict.fromkeys(say_fault(fault["type"], fault["msg"]) for fault in faults))
        loc = faults[0]["loc"]
        raise InputError(f"{loc[0]}: {what} (given: {faults[0]['input']!r})" if loc else what) from error
    rule = CentreRule(dict.fromkeys(embeddings, 1.0), given=_check_centre(centre_shares, embeddings))
    aim = None if like is None else TargetSamples(np.asarray(like), None)
    found = weigh_features(embeddings, groups, leverage, weights, rule, seed, recorded, like=aim)
    merged = found.units.merged if found.units else ()
    result = spread_over_domains(found)
    return replace(result, warnings=(*result.warnings, *_warn_of_near_duplicates(embeddings, groups, merged)))


def _warn_of_near_duplicates(
    embeddings: FeatureArrays, groups: Mapping[str, npt.ArrayLike] | None, merged: Sequence[Collection[str]]
) -> tuple[str, ...]:
    """Pairs are found by the embeddings as they are, whatever the kernel. Of too many domains no pair is looked at."""
    if not 1 < len(embeddings) <= MOST_DOMAINS_BY_PAIR:
        return ()
    statistics = domain_statistics(embeddings, groups)
    return warn_of_near_duplicates(nearest_pairs(statistics.names, moments(statistics)), merged)


def _check_centre(shares: Mapping[str, float] | None, embeddings: FeatureArrays) -> dict[str, float] | None:
    if shares is None:
        return None
    if odd := sorted(shares.keys() ^ embeddings.keys()):
        raise InputError(f"centre_shares: {list_some(odd)} in it or in the embeddings, not in both")
    values = np.array([shares[name] for name in sorted(shares)], np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise InputError("centre_shares: shares must be finite, nowhere negative and somewhere positive")
    return dict(zip(sorted(shares), (values / values.sum()).tolist(), strict=True))


def weigh_features(
    features: FeatureArrays,
    groups: Mapping[str, npt.ArrayLike] | None,
    leverage: Leverage,
    weights: Weights,
    centre: CentreRule,
    seed: int,
    recorded: Landmarks | None = None,
    run_chunks: ChunkMap = map,
    known: Mapping[str, LandmarkStatistics] | None = None,
    like: TargetSamples | None = None,
) -> DomainWeights:
    """`domain_weights` from a recipe's sections, by what was scored (`spread_over_domains` gives it by domain).

    `recorded` landmarks are used in the place of new ones; `known` holds what these made of domains before. `run_chunks` computes
    the pass over the samples that landmarks take. With `like` the weights are those of `weigh_towards`.
    """
    if like is not None and (leverage.preset, leverage.level) != ("default", "domain"):
        raise InputError("weights.target.like: matches the means of domains; leave 'preset' and 'level' at their defaults")
    if recorded is not None and recorded.kernel.name != leverage.kernel:
        raise InputError(f"the landmarks are of kernel {recorded.kernel.name!r}, not {leverage.kernel!r}; choose new ones")
    by_samples = leverage.level == "sample"
    if len(features) <= 1 or (leverage.kernel == "linear" and not by_samples):
        aim = None if like is None else like.statistics()
        return _weigh_statistics(domain_statistics(features, groups), leverage, weights, centre, aim)
    samples = {name: x for name, (x, _) in check_features(features, groups).items()}
    p = next(iter(samples.values())).shape[1]
    if recorded is not None and recorded.points.shape[1] != p:
        raise InputError(f"the landmarks have {recorded.points.shape[1]} dimensions, the embeddings {p}; choose new ones")
    if leverage.kernel not in EXACT:
        return _weigh_through_landmarks(samples, groups, leverage, weights, centre, seed, recorded, run_chunks, known, like)
    if by_samples:
        mapped = feature_map(Kernel(leverage.kernel), None)
        scored = sample_leverage(samples, groups, mapped, ridge=leverage.ridge, centre=leverage.centre)
        return _weigh_sample_leverage(scored, weights, centre)
    aim = None if like is None else like.statistics(unit_rows)
    return _weigh_statistics(domain_statistics(samples, groups, unit_rows), leverage, weights, centre, aim)


def _weigh_statistics(
    statistics: DomainStatistics, leverage: Leverage, weights: Weights, centre: CentreRule, aim: DomainStatistics | None
) -> DomainWeights:
    """Score the domains, or units of those that are one, or weigh them towards `aim`."""
    units, shares = centre.units(find_alike(statistics) if leverage.merge == "auto" else None)
    scored, tilt = merge_domains(statistics, units), make_tilt(weights, shares)
    result = weigh(scored, leverage, tilt) if aim is None else weigh_towards(aim, scored, leverage, tilt)
    return replace(result, centre=shares, units=units if units.merged else None, statistics=result.statistics and statistics)


def _weigh_sample_leverage(scored: SampleLeverage, weights: Weights, centre: CentreRule) -> DomainWeights:
    shares = centre.units()[1]
    return replace(weigh_samples(scored, make_tilt(weights, shares)), centre=shares)


def _weigh_through_landmarks(
    samples: Mapping[str, Floats],
    groups: Mapping[str, npt.ArrayLike] | None,
    leverage: Leverage,
    weights: Weights,
    centre: CentreRule,
    seed: int,
    recorded: Landmarks | None,
    run_chunks: ChunkMap,
    known: Mapping[str, LandmarkStatistics] | None,
    like: TargetSamples | None,
) -> DomainWeights:
    kernel = recorded.kernel if recorded is not None else _choose_kernel(samples, leverage, seed)
    count = "auto" if isinstance(leverage.landmarks, RecordedLandmarks) else leverage.landmarks
    mixture = _mixture_of(samples, leverage, weights, centre.units()[1], like)
    fit = fit_landmarks(samples, kernel, mixture, count=count, tolerance=leverage.tolerance, seed=seed, recorded=recorded)
    seen = nystrom_statistics(samples, fit.landmarks, groups, run_chunks, known if recorded is not None else None)
    bounds = None
    if leverage.level == "sample":
        result = _weigh_sample_leverage(_score_samples(samples, groups, fit.landmarks, leverage), weights, centre)
    else:
        aim = None if like is None else like.through(fit.landmarks)
        result = _weigh_statistics(seen.statistics, leverage, weights, centre, aim)
        if result.ridge is not None and sum(len(x) ** 2 for x in samples.values()) <= LARGEST_PAIRS:
            bounds = _bound_leverage(samples, seen.statistics, result, fit.landmarks, leverage)
    used = NystromUse(fit.landmarks, fit.error, seen.residuals, bounds)
    drifted = [name for name in seen.residuals if recorded is not None and has_drifted(seen.residuals, name)]
    return replace(result, nystrom=used, warnings=(*result.warnings, *_warn_of_landmarks(used, leverage, drifted)))


def _bound_leverage(
    samples: Mapping[str, Floats], statistics: DomainStatistics, result: DomainWeights, landmarks: Landmarks, leverage: Leverage
) -> dict[str, tuple[float, float]]:
    """Bounds of the leverage of what was scored."""
    if result.units is not None:
        statistics = merge_domains(statistics, result.units)
        samples = {unit: np.concatenate([samples[name] for name in parts]) for unit, parts in result.units.members.items()}
    plain = affinity(moments(statistics), centre=leverage.centre)
    low, high = leverage_bounds(samples, landmarks, plain, (result.ridge or 0.0) * len(samples))
    return dict(zip(samples, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _choose_kernel(samples: Mapping[str, Floats], leverage: Leverage, seed: int) -> Kernel:
    bandwidth = leverage.bandwidth
    if bandwidth == "auto":
        bandwidth = auto_bandwidth(leverage.kernel, draw_balanced_pool(samples, BANDWIDTH_POOL, seed, "bandwidth"))
    return Kernel(leverage.kernel, float(bandwidth), leverage.degree)


def _score_samples(
    samples: FeatureArrays, groups: Mapping[str, npt.ArrayLike] | None, landmarks: Landmarks, leverage: Leverage
) -> SampleLeverage:
    mapped = feature_map(landmarks.kernel, landmarks)
    return sample_leverage(samples, groups, mapped, ridge=leverage.ridge, centre=leverage.centre)


def _mixture_of(
    samples: Mapping[str, Floats],
    leverage: Leverage,
    weights: Weights,
    centre: Mapping[str, float],
    like: TargetSamples | None,
) -> Callable[[FeatureArrays, Landmarks], F64]:
    """The function from a part of the samples and landmarks to (k) weights, by which landmarks are compared."""
    fewest = min(len(x) for x in samples.values())

    def mixture(part: FeatureArrays, landmarks: Landmarks) -> F64:
        tilt = make_tilt(weights, {name: centre[name] for name in part})
        if leverage.level == "sample":
            return np.asarray(
                scipy.special.softmax(
                    choose_exponents(_score_samples(part, None, landmarks, leverage).scores, tilt, of_samples=True)[1]
                )
            )
        if like is not None:
            seen = nystrom_statistics(part, landmarks).statistics
            return np.array(list(weigh_towards(like.through(landmarks), seen, leverage, tilt).weights.values()))
        of_part = moments(nystrom_statistics(part, landmarks).statistics)
        as_all = replace(of_part, count=np.full(len(of_part.count), fewest))  # debiased as all samples are
        can = can_debias(len(samples), len(landmarks.points))
        fraction = debias_fraction(leverage.debias, as_all) if can else 0.0
        shares: F64 = np.exp(estimate_from_moments(of_part, leverage, tilt, fraction).log_weights)
        return shares

    return mixture


def _warn_of_landmarks(used: NystromUse, leverage: Leverage, drifted: list[str]) -> Iterator[str]:
    if used.error is None:
        yield "the error of the weights through landmarks could not be measured: held-out samples alone give no weights"
    elif used.error > leverage.tolerance:
        advice = "a wider bandwidth or a larger tolerance" if leverage.landmarks == "auto" else "more of them, or 'auto'"
        yield (
            f"with {len(used.landmarks.points)} landmarks a weight is off by {used.error:.2g}, as measured on held-out samples: "
            f"above the tolerance of {leverage.tolerance:g}; try {advice}"
        )
    if drifted:
        yield f"{list_some(drifted)}: the recorded landmarks see less than half as much of it as of the others; choose new ones"
