"""From computed or given weights to the mixture that is recorded: within its bounds, with what explains it.

The explanations are neighbours, domains that look alike, documents that look misfiled, and the mixture at other settings. They
cost less than the embedding that they rest on; beyond some hundred domains those that grow with pairs are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from chameleon_data.arrays import F32, I64
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.weights.bounds import bound_weights, values_by_domain
from chameleon_data.weights.domain_statistics import DomainStatistics, domain_statistics, moments
from chameleon_data.weights.evidence import aimed_at, cite_evidence
from chameleon_data.weights.explain.closeness import mark_pairs
from chameleon_data.weights.explain.misfiled import Misfiled, find_misfiled
from chameleon_data.weights.explain.movement import OtherEmbedder, warn_of_movement, weight_ranges
from chameleon_data.weights.explain.near_duplicates import nearest_pairs, warn_of_near_duplicates
from chameleon_data.weights.explain.neighbours import find_neighbours
from chameleon_data.weights.explain.sensitivity import sensitivity_table
from chameleon_data.weights.leverage import perplexity
from chameleon_data.weights.merge import Units, merge_domains
from chameleon_data.weights.mixture import (
    Centre,
    LandmarksUsed,
    MisfiledDocument,
    Mixture,
    MixtureDescription,
    WeightsFile,
    WeightsVersion,
)
from chameleon_data.weights.tilt import divergence_nats, make_tilt
from chameleon_data.weights.weigh import DomainWeights, NystromUse, spread_over_domains

if TYPE_CHECKING:
    from chameleon_data.corpus.survey import Tally

RECORDED_DOMAINS = 300
"""Domains up to which a number for each pair, or for each domain and setting, is recorded: 1 MB at most."""
NO_REST = 1e-5
"""Share of all tokens up to which a rest is taken for none: recorded weights are rounded."""
MISFILED_RECORDED = 20
"""Documents that look misfiled that are recorded."""
MOST_DOMAINS_SEARCHED = 200
"""Domains up to which misfiled documents are searched for. Beyond, the search would take longer than all else here."""

NO_CHOICE = 1e-6
"""Share below which a weight counts as being at its cap."""


def make_mixture(
    result: DomainWeights,
    caps: Mapping[str, float],
    origin: str,
    leverage: Leverage,
    weights: Weights,
    centre_source: WeightsFile | WeightsVersion | None = None,
    *,
    recorded_landmarks: bool = False,
) -> Mixture:
    """The weights within floors, caps and groups, and their description without explanations.

    `caps`: domain -> largest share that its tokens allow. `centre_source`: what the centre was read from, if
    it was.
    `recorded_landmarks`: whether landmarks, if any, are those of an earlier version.
    """
    by_domain = spread_over_domains(result)
    centre = None if by_domain.centre is None else Centre(weights.centre, by_domain.centre, centre_source)
    bounded = bound_weights(by_domain.weights, floor=weights.floor, cap=weights.cap, epoch_cap=caps, groups=weights.groups)
    shares = np.array(list(bounded.weights.values()))
    recorded_affinity = by_domain.affinity if len(by_domain.weights) <= RECORDED_DOMAINS else None
    description = MixtureDescription(
        origin=origin,
        objective=weights.objective,
        preset=leverage.preset,
        kernel=leverage.kernel,
        level=leverage.level,
        names=tuple(sorted(by_domain.weights)),
        unbounded=by_domain.weights,
        target=None if centre is None else aimed_at(weights),
        evidence="" if centre is None or len(shares) == 1 else cite_evidence(weights, leverage),
        match=result.match,
        merged=() if result.units is None else result.units.merged,
        centre=centre,
        kl=result.kl,
        kl_after_bounds=None if centre is None else divergence_nats(shares, np.array(list(centre.shares.values()))),
        moved=bounded.moved,
        effective_domains=perplexity(shares),
        scores=by_domain.scores,
        intervals=by_domain.intervals,
        rank_stability=by_domain.rank_stability,
        variance_of_mean=by_domain.variance_of_mean,
        affinity=None if recorded_affinity is None else tuple(map(tuple, np.round(recorded_affinity, 9).tolist())),
        ridge=result.ridge,
        temperature=result.temperature,
        clipped_mass=result.clipped_mass,
        nystrom=None if by_domain.nystrom is None else _describe_landmarks(by_domain.nystrom, recorded_landmarks),
        warnings=(*result.warnings, *_warn_of_no_choice(bounded.weights, caps)),
    )
    return Mixture(bounded.decimals, description, {})


def _warn_of_no_choice(weights: Mapping[str, float], caps: Mapping[str, float]) -> tuple[str, ...]:
    """A sentence where every weight is at what its tokens allow, so that the scores decided nothing."""
    if len(weights) < 2 or any(caps.get(name, 1.0) - weight > NO_CHOICE for name, weight in weights.items()):
        return ()
    return (
        "the budget needs all that the epochs of every domain allow, so nothing was left to weigh; lower 'mix.budget', or raise "
        "'mix.max_epochs'",
    )


def mix_between(before: Mixture, after: Mixture, at: float, caps: Mapping[str, float]) -> Mixture:
    """The mixture on the line between two, `at` of the way: a step of a ramp. Bounds that both keep hold on the line too; only
    `caps`, what tokens allow, are those of the step.

    Explanations are those of the mixture at the end of the way, and are not repeated.
    """
    shares = [{name: float(weight) for name, weight in mixture.decimals.items()} for mixture in (before, after)]
    names = sorted(shares[0].keys() | shares[1].keys())
    line = {name: (1 - at) * shares[0].get(name, 0.0) + at * shares[1].get(name, 0.0) for name in names}
    target = {name: share for name, share in line.items() if share > 0}
    bounded = bound_weights(target, epoch_cap={name: caps[name] for name in target if name in caps})
    if at == 1:
        moved = (*after.description.moved, *bounded.moved)
        return replace(after, decimals=bounded.decimals, description=replace(after.description, moved=moved))
    description = replace(
        after.description,
        unbounded=target,
        moved=bounded.moved,
        effective_domains=perplexity(np.array(list(bounded.weights.values()))),
        affinity=None,
        beyond_noise=None,
        pairs=(),
        near_duplicates=(),
        neighbours=None,
        sensitivity=(),
        misfiled=None,
        mixtures=None,
        other_embedders=(),
        kl=None,
        kl_after_bounds=None,
        centre=None,
    )
    return Mixture(bounded.decimals, description, {})


def take_rest(whole: Mixture, budget: int, later: Sequence[tuple[Sequence[int], Mixture]]) -> Mixture:
    """The mixture of the first stage, of `budget` tokens, with which all stages together have the weights of `whole`.

    `later`: the tokens of the parts of each stage after it, and its mixture. Several parts lie on the line from the mixture
    before to its own (`mix_between`); in the second stage the mixture before is the one that is looked for. With W the weights
    of `whole`, B all tokens, b those of a part and t how far it is on the line, the mixture is in proportion to the rest: W B
    less the sum of t b times the stage's own, less what stages after it take.

    Raises InputError where later stages take more of a domain than its total.
    """
    taken, before = dict.fromkeys(whole.decimals, 0.0), dict[str, str]()
    for parts, mixture in later:
        for at, part in ((place / len(parts), part) for place, part in enumerate(parts, 1)):
            for decimals, share in ((mixture.decimals, at), (before, 1 - at)):
                for name, weight in decimals.items():
                    taken[name] += float(weight) * share * part
        before = mixture.decimals
    total = budget + sum(sum(parts) for parts, _ in later)
    rest = {name: float(weight) * total - taken[name] for name, weight in whole.decimals.items()}
    least = min(rest, key=rest.__getitem__)
    if rest[least] < -NO_REST * total:
        raise InputError(
            f"mix.aggregate: keep: the stages after the first take {taken[least] / total:.4g} of all tokens from domain "
            f"{least!r}, whose total is {float(whole.decimals[least]):.4g}; lower its weight or the share of those stages, or "
            "raise its total in 'weights'"
        )
    bounded = bound_weights({name: share for name, share in rest.items() if share > NO_REST * total})
    told = "what later stages leave of each domain's share of all tokens, as 'mix.aggregate: keep' asks"
    shares = np.array(list(bounded.weights.values()))
    warnings = (*whole.description.warnings, told)
    return replace(
        whole,
        decimals=bounded.decimals,
        description=replace(whole.description, effective_domains=perplexity(shares), warnings=warnings),
    )


def drop_small_domains(mixture: Mixture, below: float, caps: Mapping[str, float], weights: Weights) -> Mixture:
    """The mixture without the domains whose weight is below a share: the others are bounded anew and get theirs.

    `caps` as above. Raises InputError where no domain would be left.
    """
    small = sorted(name for name, weight in mixture.decimals.items() if float(weight) < below)
    if not small:
        return mixture
    about = mixture.description
    if len(small) == len(mixture.decimals):
        raise InputError(f"mix.stages: 'drop_below: {below}' leaves no domain; lower it")
    names = sorted(about.unbounded)
    floors = zip(names, values_by_domain("floor", weights.floor, names, 0.0).tolist(), strict=True)
    bounded = bound_weights(
        {name: 0.0 if name in small else weight for name, weight in about.unbounded.items()},
        floor={name: floor for name, floor in floors if name not in small},
        cap=weights.cap,
        epoch_cap={**{name: cap for name, cap in caps.items() if name in about.unbounded}, **dict.fromkeys(small, 0.0)},
        groups=weights.groups,
    )
    left = {name: weight for name, weight in bounded.decimals.items() if name not in small}
    shares = np.array(list(bounded.weights.values()))
    centre = None if about.centre is None else np.array([about.centre.shares[name] for name in bounded.weights])
    told = f"absent from this stage, as their weight is below its 'drop_below' of {below:g}: {list_some(small)}"
    description = replace(
        about,
        moved=bounded.moved,
        effective_domains=perplexity(shares),
        kl_after_bounds=None if centre is None else divergence_nats(shares, centre),
        warnings=(*about.warnings, told),
    )
    return replace(mixture, decimals=left, description=description)


def _describe_landmarks(used: NystromUse, recorded: bool) -> LandmarksUsed:
    landmarks = used.landmarks
    return LandmarksUsed(
        landmarks.kernel, landmarks.digest, len(landmarks.points), used.error, used.residuals, used.bounds, recorded
    )


def explain_mixture(
    description: MixtureDescription,
    result: DomainWeights,
    vectors: Mapping[str, F32],
    groups: Mapping[str, I64],
    leverage: Leverage,
    weights: Weights,
    document_of: Callable[[Misfiled], tuple[str, str]],
) -> MixtureDescription:
    """The description with its explanations, from (n_i, p) vectors and (n_i) jackknife groups of each domain.

    `document_of` gives the content hash and the first characters of a document.
    """
    statistics = domain_statistics(vectors, groups)
    # Domains of a single sample have no spread. Their separation is infinite, which JSON cannot say.
    pairs = tuple(pair for pair in nearest_pairs(statistics.names, moments(statistics)) if isfinite(pair.separation))
    explained = replace(description, pairs=pairs, near_duplicates=warn_of_near_duplicates(pairs, description.merged))
    units = result.units or Units({name: {name: 1.0} for name in vectors})
    if result.affinity is not None and result.ridge is not None:
        neighbours = find_neighbours(list(result.weights), result.affinity, result.ridge * len(result.weights))
        explained = replace(explained, neighbours={name: neighbours[unit] for name, unit in units.unit_of().items()})
    if description.affinity is not None and result.statistics is not None:
        explained = replace(explained, beyond_noise=_mark_pairs(merge_domains(result.statistics, units), units))
    if result.statistics is not None and result.temperature is not None and leverage.preset == "default":
        scored, tilt = merge_domains(result.statistics, units), make_tilt(weights, result.centre)
        settings = tuple(
            replace(setting, weights=setting.weights and units.split(setting.weights))
            for setting in sensitivity_table(scored, leverage, tilt)
        )
        if len(vectors) > RECORDED_DOMAINS:
            settings = tuple(replace(setting, weights=None) for setting in settings)
        explained = replace(explained, sensitivity=settings)
    if len(vectors) <= MOST_DOMAINS_SEARCHED:
        found = find_misfiled(vectors, most=MISFILED_RECORDED)
        misfiled = tuple(MisfiledDocument(m.domain, m.row, m.nearest, m.margin, *document_of(m)) for m in found)
        explained = replace(explained, misfiled=misfiled)
    return explained


def _mark_pairs(scored: DomainStatistics, units: Units) -> tuple[tuple[int, ...], ...]:
    """The marks of `mark_pairs` by domain; domains that are scored as one have those of their unit."""
    order = {unit: i for i, unit in enumerate(scored.names)}
    rows = [order[unit] for unit in units.unit_of().values()]
    return tuple(map(tuple, mark_pairs(scored)[np.ix_(rows, rows)].tolist()))


def add_other_embedders(description: MixtureDescription, others: Sequence[OtherEmbedder], own: str) -> MixtureDescription:
    """The description with the weights by other embedders, and a warning of how far apart they are; `own` names its own."""
    if not others:
        return description
    ranges = weight_ranges(description.unbounded, others)
    moved = warn_of_movement(description.unbounded, description.intervals, others, own)
    return replace(
        description,
        other_embedders=tuple(others),
        movement={name: high - low for name, (low, high) in ranges.items()},
        warnings=(*description.warnings, *moved),
    )


def warn_of_unembedded(column: str, tallies: Mapping[str, Tally]) -> tuple[str, ...]:
    """A warning for each domain of which some documents have no usable vector in `embed.column`."""
    return tuple(
        f"{name}: {tally.unembedded:,} of {tally.rows:,} documents have no usable vector in {column!r}; they are written, but "
        "the weight does not see them"
        for name, tally in sorted(tallies.items())
        if tally.unembedded
    )
