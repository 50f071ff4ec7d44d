"""Weights of domains, with their error bars, from statistics of the samples.

    statistics → affinity K → leverage s = diag(K (K + r I)⁻¹) → w ∝ centre · exp of 1/ŝ (inverse) or ŝ (direct), over T

`affinity.py`, `leverage.py`, `tilt.py` and `uncertainty.py` hold the steps; `bounds.py` says which weights are allowed.
Another mixture of the same corpus embeds nothing, since all this is a function of the statistics. Cost on two cores, p = 384,
with error bars: 10 domains 11 ms, 385 .5 s, 10,000 5 s, 100,000 of two samples 46 s and 3.5 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

import numpy as np
import numpy.typing as npt
import scipy

from chameleon_data.arrays import F64
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Divergence, Leverage
from chameleon_data.weights.affinity import affinity, can_debias, debias_fraction
from chameleon_data.weights.as_table import format_html, format_text
from chameleon_data.weights.domain_statistics import JACKKNIFE_GROUPS, DomainStatistics, Moments, jackknife, keep_groups, moments
from chameleon_data.weights.estimate import Estimate, estimate_mixture, refuse_overflow
from chameleon_data.weights.kernels.landmarks import Landmarks
from chameleon_data.weights.leverage import FAR_ABOVE, perplexity
from chameleon_data.weights.match import (
    FEWEST_TARGET_SAMPLES,
    gradient_width,
    match_at,
    rho_by_folds,
    rho_within,
    squared_distance,
    target_coordinates,
)
from chameleon_data.weights.merge import Units
from chameleon_data.weights.sample_leverage import SampleLeverage
from chameleon_data.weights.tilt import Tilt, choose_exponents, divergence_nats
from chameleon_data.weights.uncertainty import jackknife_intervals

LARGEST_CLIPPED = 0.01
"""Share of the trace that may be clipped without a warning."""
CONCENTRATED = 0.9
"""Weight of one domain that is warned of."""
LITTLE_NEARER = 0.9
"""Share of the centre's squared distance from the target above which the weights are hardly nearer."""
LARGEST_MATRIX = 2_000
"""Domains up to which the k × k affinity is handed out."""


@dataclass(frozen=True, repr=False)
class DomainWeights:
    """A mixture and where it came from. Mappings hold every domain, in byte order of name. It prints as a table."""

    weights: dict[str, float]
    """Summing to one, not rounded."""
    scores: dict[str, float | None]
    """ŝ, mean one (reference preset: s, sum one). None: nothing was measured."""
    intervals: dict[str, tuple[float, float] | None]
    """90 % interval of each weight, over other samples of the same domains."""
    rank_stability: dict[str, float | None]
    """Share of the jackknife replicates in which the domain keeps its rank among the weights."""
    affinity: F64 | None
    """(k, k) debiased, centred, projected. None: more than 2,000 domains, or none was computed."""
    ridge: float | None
    """λ = r / k; with leverage of samples, r."""
    temperature: float | None
    """T on ŝ (reference preset: on s; towards a target: ρ of `match.py`). None: the centre was not tilted."""
    kl: float | None
    """KL(w ‖ centre) in nats. None: the weights do not come of a centre."""
    effective_domains: float
    """Perplexity of the weights: the number of equal domains as spread out as these."""
    clipped_mass: float
    """Negative eigenvalues that the projection removed, over the sum of those it kept."""
    variance_of_mean: dict[str, float | None]
    """Expected squared distance of a domain's mean embedding from its true mean. None: a single sample."""
    warnings: tuple[str, ...]
    """Sentences for a person."""
    nystrom: NystromUse | None = None
    """None: the kernel needed no landmarks."""
    centre: dict[str, float] | None = None
    """What was tilted, priors included. None: not known here, or the weights do not come of a centre."""
    units: Units | None = None
    """What was scored, where domains are scored as one: the names in the fields above are then units'. None: domains were."""
    match: Match | None = None
    """None: the weights do not aim at samples of a target."""
    statistics: DomainStatistics | None = None
    """What the scores were computed from, by domain. None: samples were scored, or nothing was."""

    def __repr__(self) -> str:
        return format_text(*self._as_table())

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return format_html(*self._as_table())

    def _as_table(self) -> tuple[list[tuple[str, ...]], list[str]]:
        """Rows of texts, the heading first; and sentences."""
        rows: list[tuple[str, ...]] = [("domain", "weight", "90 % interval", "score", "keeps its rank")]
        for name, weight in self.weights.items():
            ends, score, stable = self.intervals[name], self.scores[name], self.rank_stability[name]
            interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
            known = "" if score is None else f"{score:.3f}", "" if stable is None else f"{stable:.0%}"
            rows.append((name, f"{weight:.4f}", interval, *known))
        spread = f"spread out as {self.effective_domains:.2f} equal domains"
        return rows, [spread, *(f"warning: {sentence}" for sentence in self.warnings)]


@dataclass(frozen=True)
class Match:
    """How near the weights come to the samples of a target, in squared units of the embeddings (or kernel), free of bias."""

    samples: int
    """Samples of the target."""
    from_centre: float
    """Squared distance of the target's mean from that of the centre."""
    from_weights: float
    """Squared distance of the target's mean from that of the weights. A few below zero are noise."""


@dataclass(frozen=True)
class NystromUse:
    """The landmarks that stood for a kernel, and what that cost in accuracy."""

    landmarks: Landmarks
    """`domain_weights(..., landmarks=these)` uses them for other domains."""
    error: float | None
    """Largest error of a weight against the exact kernel, measured on held-out samples; no bound. None: not measurable."""
    residuals: dict[str, float]
    """Domain -> share of its samples, in squared norm, that the landmarks do not see."""
    bounds: dict[str, tuple[float, float]] | None = None
    """Domain -> bounds of its leverage by the exact kernel, at the same r, not debiased and not divided by the mean. They are
    proved, but for rounding in float32 (`leverage_bounds`). None: samples are scored, or there are too many pairs of them."""


def weigh(statistics: DomainStatistics, leverage: Leverage, tilt: Tilt) -> DomainWeights:
    """Weights from the leverage of domains. Floors and caps come after, in `bound_weights`.

    Raises InputError for two centred domains, and where the preset or the statistics give no answer.
    """
    names = statistics.names
    k = len(names)
    reference = leverage.preset == "reference"
    if reference and (leverage.debias not in ("auto", 0) or not leverage.centre):
        raise InputError(
            "the reference preset is the published formula, centred and not debiased; use the default one for others"
        )
    if reference and k == 1:
        raise InputError("the published formula gives NaN for a single domain; the default preset gives it all the weight")
    whole = moments(statistics)
    if k == 1:
        return weights_without_scores({names[0]: 1.0}, _optional(names, whole.variance_of_mean), ())
    if k == 2 and leverage.centre:
        raise InputError(
            f"two domains always come out equal: centring makes {names[0]!r} and {names[1]!r} mirror images, whatever they hold; "
            "set 'leverage.centre: false' (default preset) or give the weights yourself"
        )
    fraction = 0.0 if reference else debias_fraction(leverage.debias, whole)
    best = estimate_from_moments(whole, leverage, tilt, fraction)
    refuse_overflow(best, names, leverage)
    lone = _in_one_group(statistics)
    replicates = [
        estimate_from_moments(rest, leverage, tilt, fraction).log_weights
        for rest in (jackknife(statistics) if not lone.all() else ())
    ]
    low, high, stability = jackknife_intervals(best.log_weights, replicates)
    shares = np.exp(best.log_weights)
    return DomainWeights(
        weights=dict(zip(names, shares.tolist(), strict=True)),
        scores=dict(zip(names, best.scores.tolist(), strict=True)),
        intervals=_intervals(names, low, high, lone),
        rank_stability=_optional(names, np.where(lone, np.nan, stability)),
        affinity=best.affinity.matrix() if k <= LARGEST_MATRIX else None,
        ridge=best.r / k,
        temperature=_finite(best.temperature),
        kl=_kl_of_tilt(shares, tilt),
        effective_domains=perplexity(shares),
        clipped_mass=best.affinity.clipped_mass,
        variance_of_mean=_optional(names, whole.variance_of_mean),
        warnings=tuple(_warnings(statistics, whole, best, debias_wanted=not reference and leverage.debias == "auto")),
        statistics=statistics,
    )


def weigh_towards(target: DomainStatistics, statistics: DomainStatistics, leverage: Leverage, tilt: Tilt) -> DomainWeights:
    """Weights whose mixture lies nearest to the one domain of `target`, as `match.py` says; the tilt's direction does not count.

    The error bars are over other samples of the target and of the domains, at the same ρ. Raises InputError for fewer than 50
    samples of the target.
    """
    names, whole, aim = statistics.names, moments(statistics), moments(target)
    samples = int(aim.count[0])
    if samples < FEWEST_TARGET_SAMPLES:
        raise InputError(
            f"weights.target.like: {samples} samples; their mean is too unsure to aim at, give at least {FEWEST_TARGET_SAMPLES}"
        )
    if len(names) == 1:
        return weights_without_scores({names[0]: 1.0}, _optional(names, whole.variance_of_mean), ())
    fraction = debias_fraction(leverage.debias, whole)
    centre: F64 = scipy.special.log_softmax(np.zeros(len(names)) if tilt.log_centre is None else tilt.log_centre)
    coordinates = target_coordinates(whole, aim, fraction)
    if gradient_width(coordinates, centre) == 0 or (isinstance(tilt.temperature, Divergence) and tilt.temperature.kl == 0):
        rho = inf
    elif isinstance(tilt.temperature, Divergence):
        rho = rho_within(coordinates, centre, tilt.temperature.kl)
    else:
        rho = rho_by_folds(statistics, target, fraction, centre) if tilt.temperature == "auto" else tilt.temperature

    def matched(domains: Moments, aim: Moments) -> F64:
        return centre if rho == inf else match_at(target_coordinates(domains, aim, fraction), centre, rho)

    log_weights, lone = matched(whole, aim), _in_one_group(statistics)
    without = [np.arange(JACKKNIFE_GROUPS) != group for group in np.unique(np.concatenate([statistics.group, target.group]))]
    replicates = [matched(keep_groups(statistics, kept), keep_groups(target, kept)) for kept in without]
    low, high, stability = jackknife_intervals(log_weights, replicates)
    shares = np.exp(log_weights)
    match = Match(samples, squared_distance(np.exp(centre), whole, aim), squared_distance(shares, whole, aim))
    return DomainWeights(
        weights=dict(zip(names, shares.tolist(), strict=True)),
        scores=dict.fromkeys(names),
        intervals=_intervals(names, low, high, np.zeros(len(names), np.bool_)),
        rank_stability=_optional(names, stability),
        affinity=None,
        ridge=None,
        temperature=_finite(rho),
        kl=_kl_of_tilt(shares, tilt),
        effective_domains=perplexity(shares),
        clipped_mass=0.0,
        variance_of_mean=_optional(names, whole.variance_of_mean),
        warnings=(*_warn_of_match(match), *_warn_of_lone(names, lone), *_warn_of_concentration(names, shares)),
        match=match,
    )


def weigh_samples(scored: SampleLeverage, tilt: Tilt) -> DomainWeights:
    """Weights from the leverage of samples. The error bars take the covariance of all samples as known."""
    names = scored.names
    scores, exponents, temperature = choose_exponents(scored.scores, tilt, of_samples=True)
    log_weights: F64 = scipy.special.log_softmax(exponents)
    lone: npt.NDArray[np.bool_] = np.count_nonzero(scored.count, axis=1) == 1
    replicates = (
        [scipy.special.log_softmax(choose_exponents(s, tilt, of_samples=True)[1]) for s in scored.jackknife()]
        if not lone.all()
        else []
    )
    low, high, stability = jackknife_intervals(log_weights, replicates)
    shares = np.exp(log_weights)
    return DomainWeights(
        weights=dict(zip(names, shares.tolist(), strict=True)),
        scores=dict(zip(names, scores.tolist(), strict=True)),
        intervals=_intervals(names, low, high, lone),
        rank_stability=_optional(names, np.where(lone, np.nan, stability)),
        affinity=None,
        ridge=scored.r,
        temperature=_finite(temperature),
        kl=_kl_of_tilt(shares, tilt),
        effective_domains=perplexity(shares),
        clipped_mass=0.0,
        variance_of_mean=_optional(names, scored.variance_of_mean),
        warnings=(),
    )


def spread_over_domains(result: DomainWeights) -> DomainWeights:
    """The result by domain: those that were scored as one have the score of their unit, and their parts of its weight."""
    units = result.units
    if units is None:
        return result
    unit_of = units.unit_of()
    order = {unit: i for i, unit in enumerate(units.members)}
    rows = [order[unit] for unit in unit_of.values()]
    nystrom = result.nystrom
    if nystrom is not None and nystrom.bounds is not None:
        nystrom = replace(nystrom, bounds={domain: nystrom.bounds[unit] for domain, unit in unit_of.items()})
    parts = {domain: units.members[unit][domain] for domain, unit in unit_of.items()}
    ends = {domain: result.intervals[unit] for domain, unit in unit_of.items()}
    return replace(
        result,
        weights=units.split(result.weights),
        centre=None if result.centre is None else units.split(result.centre),
        scores={domain: result.scores[unit] for domain, unit in unit_of.items()},
        intervals={domain: pair and (pair[0] * parts[domain], pair[1] * parts[domain]) for domain, pair in ends.items()},
        rank_stability={domain: result.rank_stability[unit] for domain, unit in unit_of.items()},
        affinity=None if result.affinity is None else result.affinity[np.ix_(rows, rows)],
        variance_of_mean={domain: result.variance_of_mean[unit] for domain, unit in unit_of.items()},
        nystrom=nystrom,
        units=None,
    )


def weights_without_scores(
    weights: dict[str, float], variance: dict[str, float | None], warnings: tuple[str, ...]
) -> DomainWeights:
    """A mixture that no leverage stands behind: of a file, or of a single domain."""
    nothing: dict[str, None] = dict.fromkeys(weights)
    return DomainWeights(
        weights=weights, scores={**nothing}, intervals={**nothing}, rank_stability={**nothing}, affinity=None, ridge=None,
        temperature=None, kl=None, effective_domains=perplexity(np.array(list(weights.values()))), clipped_mass=0.0,
        variance_of_mean=variance, warnings=warnings,
    )  # fmt: skip


def estimate_from_moments(statistics: Moments, leverage: Leverage, tilt: Tilt, debias: float) -> Estimate:
    """`estimate_mixture` of the affinity of these moments; `debias` is the share f of `debias_fraction`."""
    return estimate_mixture(affinity(statistics, debias=debias, centre=leverage.centre), leverage, tilt)


def _finite(temperature: float) -> float | None:
    return None if temperature == inf else temperature


def _kl_of_tilt(shares: F64, tilt: Tilt) -> float:
    centre = np.full(len(shares), 1 / len(shares)) if tilt.log_centre is None else scipy.special.softmax(tilt.log_centre)
    return divergence_nats(shares, centre)


def _in_one_group(statistics: DomainStatistics) -> npt.NDArray[np.bool_]:
    """(k) whether all samples of a domain lie in one jackknife group."""
    lone: npt.NDArray[np.bool_] = np.bincount(statistics.domain) == 1
    return lone


def _intervals(names: Sequence[str], low: F64, high: F64, lone: npt.NDArray[np.bool_]) -> dict[str, tuple[float, float] | None]:
    ends = zip(low.tolist(), high.tolist(), strict=True)
    return {name: None if alone else pair for name, alone, pair in zip(names, lone.tolist(), ends, strict=True)}


def _optional(names: Sequence[str], values: F64) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in zip(names, values.tolist(), strict=True)}


def _warnings(statistics: DomainStatistics, whole: Moments, best: Estimate, *, debias_wanted: bool) -> Iterator[str]:
    names = statistics.names
    k, p = whole.mean.shape
    if best.affinity.clipped_mass > LARGEST_CLIPPED:
        yield (
            f"debiasing left negative eigenvalues worth {best.affinity.clipped_mass:.1%} of the trace, which were clipped: "
            "these weights are unsure; embed more samples of each domain"
        )
    if debias_wanted and not can_debias(k, p):
        yield (
            f"with {k:,} domains in {p:,} dimensions the diagonal cannot be debiased; domains with few or varied samples look "
            "more distinct than they are, by their 'variance_of_mean'"
        )
    yield from _warn_of_lone(names, _in_one_group(statistics))
    excess = best.r / float(best.affinity.eigenvalues[0])
    if excess > FAR_ABOVE:
        yield (
            f"the ridge ({best.r / k:g} times {k:,} domains) is {excess:.0f} times the largest eigenvalue of the affinity, so "
            "the scores follow each domain's distance from the centre alone; 'ridge: auto' follows the data"
        )
    yield from _warn_of_concentration(names, np.exp(best.log_weights))


def _warn_of_lone(names: Sequence[str], lone: npt.NDArray[np.bool_]) -> Iterator[str]:
    if lone.any():
        shown = list_some([names[i] for i in np.flatnonzero(lone).tolist()])
        yield (
            f"{shown}: all samples in one jackknife group, so no interval, and "
            "other intervals leave that noise out; embed more samples of them"
        )


def _warn_of_concentration(names: Sequence[str], shares: F64) -> Iterator[str]:
    largest = int(shares.argmax())
    if shares[largest] > CONCENTRATED:
        yield f"{names[largest]!r} takes {shares[largest]:.3f} of the mixture; fewer nats, such as 'kl: 0.1', spread it"


def _warn_of_match(match: Match) -> Iterator[str]:
    if match.from_weights > LITTLE_NEARER * match.from_centre:
        yield (
            "the target's samples are hardly nearer to this mixture than to the centre; what they are about is in no domain, or "
            "the tilt is small"
        )
