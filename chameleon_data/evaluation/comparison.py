"""From the records of all trials to what is said of each mixture: means, paired differences from uniform, and a verdict.

A metric is bits per byte. `trained` is the mean over the domains, `natural` the same by their natural shares, `worst` the hardest
domain's, `unseen` the mean over domains that the mixture did not train on. Perplexity is never averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from pydantic import with_config

from chameleon_data.arrays import F64
from chameleon_data.evaluation.intervals import LEVEL, compare_pairs, resample_documents
from chameleon_data.evaluation.mixtures import UNIFORM, NamedMixture
from chameleon_data.evaluation.trial_record import TrialRecord
from chameleon_data.hashing import key64
from chameleon_data.store.paths import EVALUATIONS, comparison_prefix
from chameleon_data.versions.records import STRICT, load_record
from chameleon_data.weights.many_tests import holm

if TYPE_CHECKING:
    from chameleon_data.store.store import Store

COMPARISON_FORMAT = 2
REPLICATES = 1_000
"""Bootstrap replicates over held-out documents."""
Metric = Literal["trained", "natural", "worst", "unseen"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""In the order in which people read them."""
Verdict = Literal["better", "worse", "no difference", "open"]


@with_config(STRICT)
@dataclass(frozen=True)
class MetricDifference:
    """A mixture's bits per byte less those of uniform; below zero is better."""

    mean: float
    over: Literal["seeds", "domains", "documents"]
    """What the test is over."""
    error: float | None
    """Standard error. None: a single seed."""
    interval: tuple[float, float] | None
    """95 %, over `over`."""
    documents: tuple[float, float] | None
    """95 % by a bootstrap over held-out documents, seeds as they are."""
    p: float | None
    """Two-sided. None: the test is the bootstrap's interval."""
    p_holm: float | None
    """The same, adjusted for the number of mixtures."""
    verdict: Verdict
    """better, worse: by p_holm (or the bootstrap) below .05. no difference: surely inside the band. open: neither."""
    needed: int | None
    """Seeds (or domains) that would settle it with power .8, if mean and spread stay. None: it cannot be said."""


@with_config(STRICT)
@dataclass(frozen=True)
class JudgedMixture:
    """What the judge says of one mixture."""

    name: str
    shares: dict[str, float]
    """Domain -> share."""
    per_byte: dict[str, float]
    """Held-out set -> bits per byte, mean over seeds. A domain that was left out in turn stands as `without DOMAIN`."""
    means: dict[str, float]
    """Metric -> bits per byte."""
    differences: dict[str, MetricDifference]
    """Metric -> difference from uniform; empty for uniform."""
    chosen: bool = False
    """Whether it was chosen by the same held-out text, so that it is a bound and no result."""


@with_config(STRICT)
@dataclass(frozen=True)
class Comparison:
    """The result of an evaluation."""

    version: int
    name: str
    """The dataset's name."""
    judge: str
    tokens: int
    """Tokens that each trial trained on; n-gram: that were counted of each domain at most."""
    parameters: int | None
    """Numbers of the model that are trained. None: n-gram."""
    seeds: int
    """Fixed before the first trial, like the band."""
    band: float
    branch: str | None
    """What the trials share, in words. None: each trial is from scratch."""
    plan: str
    """Digest of the plan, which was recorded before the first trial."""
    pool: str
    """Digest of the pool."""
    bytes_per_token: float
    mixtures: tuple[JudgedMixture, ...]
    unseen: tuple[str, ...]
    """Sets that no mixture holds; with `each`, the domains that were left out in turn."""
    held_out: Literal["validation", "kept"]
    """Whose documents judge: those of the version's validation split, or documents of it that were kept from every trial."""
    format: int = COMPARISON_FORMAT


def metrics_of(comparison: Comparison) -> list[Metric]:
    """The metrics of a comparison, the main one first. A stored record has its keys in another order."""
    return [metric for metric in METRICS if metric in comparison.mixtures[0].means]


def read_comparisons(store: Store, version: int) -> list[Comparison]:
    """The results of all evaluations of a version, in the order of their files' names."""
    prefix = comparison_prefix(version)
    paths = [path for path in store.list(EVALUATIONS) if path.startswith(prefix)]
    return [load_record(store, path, Comparison) for path in paths]


@dataclass(frozen=True)
class MixtureTrials:
    """The records of one mixture."""

    mixture: NamedMixture
    whole: tuple[TrialRecord, ...]
    """One for each seed, in order."""
    without: dict[str, tuple[TrialRecord, ...]]
    """Domain left out -> records, one for each seed; empty unless each is left out in turn."""
    chosen: bool = False


Weigh = Mapping[str, float]
"""Set -> weight in a mean."""
Scores = Callable[[TrialRecord], Mapping[str, F64]]


def compare_trials(
    trials: Sequence[MixtureTrials], natural: Mapping[str, float], unseen: Sequence[str], means: Sequence[str], band: float
) -> tuple[JudgedMixture, ...]:
    """What each mixture's records say, uniform's first. `natural`: domain -> share of the tokens. `means`: equal, natural."""
    (base,) = [one for one in trials if one.mixture.name == UNIFORM]
    metrics = _metrics(base, natural, unseen, means)
    judged = [_describe_judged(one, base, natural, unseen, metrics, band) for one in trials]
    for metric in metrics:
        tested = [n for n, one in enumerate(judged) if metric in one.differences and not one.chosen]
        found = [judged[n].differences[metric] for n in tested]
        if any(difference.p is None for difference in found):
            continue
        for n, difference, p in zip(tested, found, holm(np.array([d.p or 0.0 for d in found])).tolist(), strict=True):
            verdict = difference.verdict
            if verdict in ("better", "worse") and p >= LEVEL:
                verdict = "open"
            changed = replace(difference, p_holm=p, verdict=verdict, needed=difference.needed if verdict == "open" else None)
            judged[n] = replace(judged[n], differences={**judged[n].differences, metric: changed})
    return tuple(judged)


def _metrics(base: MixtureTrials, natural: Mapping[str, float], unseen: Sequence[str], means: Sequence[str]) -> list[Metric]:
    metrics: list[Metric] = ["trained"] if "equal" in means else []
    metrics += ["natural"] if "natural" in means else []
    metrics += ["worst"]
    return metrics + (["unseen"] if unseen else [])


def _metric_of(metric: Metric, per_byte: Mapping[str, F64], natural: Mapping[str, float], unseen: Sequence[str]) -> F64:
    """(...) a metric, from set -> (...) bits per byte."""
    if metric == "unseen":
        return np.asarray(np.stack([per_byte[name] for name in unseen]).mean(axis=0))
    trained = np.stack([per_byte[name] for name in natural])
    if metric == "trained":
        return np.asarray(trained.mean(axis=0))
    if metric == "natural":
        weights = np.array(list(natural.values()))
        return np.asarray(np.tensordot(weights / weights.sum(), trained, axes=1))
    return np.asarray(trained.max(axis=0))


def _per_byte(record: TrialRecord) -> dict[str, F64]:
    return {name: np.asarray(s.per_byte) for name, s in record.sets.items()}


def _describe_judged(
    one: MixtureTrials,
    base: MixtureTrials,
    natural: Mapping[str, float],
    unseen: Sequence[str],
    metrics: Sequence[Metric],
    band: float,
) -> JudgedMixture:
    per_byte = {name: float(np.mean([r.sets[name].per_byte for r in one.whole])) for name in one.whole[0].sets}
    for domain, records in one.without.items():
        per_byte[f"without {domain}"] = float(np.mean([r.sets[domain].per_byte for r in records]))
    means: dict[str, float] = {}
    differences: dict[str, MetricDifference] = {}
    for metric in metrics:
        if metric == "unseen" and one.without:
            by_domain = {d: np.array([r.sets[d].per_byte for r in records]) for d, records in one.without.items()}
            base_of = {d: np.array([r.sets[d].per_byte for r in records]) for d, records in base.without.items()}
            means[metric] = float(np.mean([bits.mean() for bits in by_domain.values()]))
            pairs = np.array([(by_domain[d] - base_of[d]).mean() for d in by_domain])
            over: Literal["seeds", "domains"] = "domains"
        else:
            values = np.array([float(_metric_of(metric, _per_byte(r), natural, unseen)) for r in one.whole])
            against = np.array([float(_metric_of(metric, _per_byte(r), natural, unseen)) for r in base.whole])
            means[metric], pairs, over = float(values.mean()), values - against, "seeds"
        if one is not base:
            spread = _bootstrap(metric, one, base, natural, unseen)
            differences[metric] = _say(pairs, over, spread, band)
    return JudgedMixture(one.mixture.name, one.mixture.shares, per_byte, means, differences, one.chosen)


def _say(pairs: F64, over: Literal["seeds", "domains"], spread: tuple[float, float], band: float) -> MetricDifference:
    """The difference with its verdict, before Holm."""
    found = compare_pairs(pairs, band)
    if found.p is None or found.p_inside is None:
        inside = -band < spread[0] and spread[1] < band
        verdict: Verdict = "no difference" if inside else "better" if spread[1] < 0 else "worse" if spread[0] > 0 else "open"
        return MetricDifference(found.mean, "documents", None, None, spread, None, None, verdict, None)
    if found.p_inside < LEVEL:
        verdict = "no difference"
    elif found.p < LEVEL:
        verdict = "better" if found.mean < 0 else "worse"
    else:
        verdict = "open"
    needed = None if found.needed is None else max(found.needed, len(pairs) + 1)  # what is open needs more than there are
    return MetricDifference(found.mean, over, found.error, found.interval, spread, found.p, None, verdict, needed)


def _bootstrap(
    metric: Metric, one: MixtureTrials, base: MixtureTrials, natural: Mapping[str, float], unseen: Sequence[str]
) -> tuple[float, float]:
    """95 % of the difference over other held-out documents: both mixtures are judged by the same documents."""

    def replicate(trials: MixtureTrials) -> F64:
        if metric == "unseen" and trials.without:
            return np.asarray(np.mean([_resampled(records, d) for d, records in trials.without.items()], axis=0))
        names = unseen if metric == "unseen" else list(natural)
        return _metric_of(metric, {name: _resampled(trials.whole, name) for name in names}, natural, unseen)

    low, high = np.quantile(replicate(one) - replicate(base), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _resampled(records: Sequence[TrialRecord], name: str) -> F64:
    """(replicates) bits per byte of a set, mean over seeds, by documents drawn with replacement."""
    sizes = np.array(records[0].sets[name].bytes, np.float64)
    bits = np.asarray(np.mean([r.sets[name].bits for r in records], axis=0))
    drawn = resample_documents(len(sizes), REPLICATES, key64(name, "documents"))
    replicates: F64 = (drawn @ bits) / (drawn @ sizes)
    return replicates
