"""The mixtures that an evaluation compares, from what a version records: weights, tokens and leverage scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import scipy

from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import TiltedMixture, natural_exponent
from chameleon_data.weights.centre import natural_shares
from chameleon_data.weights.tilt import Tilt, choose_exponents

if TYPE_CHECKING:
    from chameleon_data.versions.manifest import Manifest

UNIFORM = "uniform"
"""What every other mixture is compared with."""
OWN = "weights"
"""The weights of the version."""
FILES = (".json", ".yaml", ".yml")
"""Endings of files of weights, which are called by their last name where that is theirs alone."""
ReadShares = Callable[[str], Mapping[str, float]]
"""Domain -> share, of a file or of OUT@VERSION."""


@dataclass(frozen=True)
class NamedMixture:
    """One mixture to compare."""

    name: str
    shares: dict[str, float]
    """Domain -> share, in byte order of name; they sum to one."""


def make_mixtures(manifest: Manifest, asked: tuple[str | TiltedMixture, ...], read: ReadShares) -> tuple[NamedMixture, ...]:
    """The mixtures in the order asked for, uniform first where it was not asked for.

    Raises InputError for `inverse` and `direct` of a version without scores.
    """
    named = asked if UNIFORM in asked else (UNIFORM, *asked)
    made = tuple(_make_mixture(manifest, one, read) for one in named)
    short = [short_name(mixture.name) for mixture in made]
    return tuple(replace(m, name=name if short.count(name) == 1 else m.name) for m, name in zip(made, short, strict=True))


def short_name(mixture: str) -> str:
    """The last name of a file of weights; any other mixture's as it is."""
    return PurePath(mixture).name if PurePath(mixture).suffix in FILES else mixture


def _make_mixture(manifest: Manifest, asked: str | TiltedMixture, read: ReadShares) -> NamedMixture:
    if isinstance(asked, TiltedMixture):
        return NamedMixture(asked.name, _tilt_centre(manifest, asked, read))
    if asked in ("inverse", "direct"):
        return NamedMixture(asked, _tilt_centre(manifest, TiltedMixture.model_validate({"name": asked, "tilt": asked}), read))
    return NamedMixture(asked, find_shares(manifest, asked, read))


def check_mixtures(names: Sequence[str], given: Mapping[str, Mapping[str, float]]) -> tuple[NamedMixture, ...]:
    """Mixtures of shares over these domains, which are scaled to sum to one; uniform first. InputError for any other shares."""
    uniform = dict.fromkeys(names, 1.0)
    found = []
    for name, shares in {UNIFORM: uniform, **given}.items():
        if sorted(shares) != list(names):
            odd = sorted(set(shares) ^ set(names))
            raise InputError(f"mixture {name!r}: {list_some(odd)} in it or in the version, not in both")
        values = np.array([shares[domain] for domain in names], np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
            raise InputError(f"mixture {name!r}: shares must be finite, nowhere negative and somewhere positive")
        found.append(NamedMixture(name, dict(zip(names, (values / values.sum()).tolist(), strict=True))))
    return tuple(found)


def find_shares(manifest: Manifest, name: str, read: ReadShares) -> dict[str, float]:
    """Domain -> share of a mixture that no tilt makes: weights, uniform, natural, natural^a, a file, or OUT@VERSION."""
    domains = manifest.domains
    if name == OWN:
        shares: Mapping[str, float] = {d: record.weight for d, record in domains.items()}
    elif (exponent := natural_exponent(name)) is not None:
        shares = natural_shares({d: record.available_tokens for d, record in domains.items()}, exponent)
    else:
        shares = read(name)
    total = sum(shares.values())
    return {d: shares[d] / total for d in sorted(domains)}


def _tilt_centre(manifest: Manifest, asked: TiltedMixture, read: ReadShares) -> dict[str, float]:
    names = sorted(manifest.domains)
    scores = [manifest.domains[name].score for name in names]
    if any(score is None for score in scores):
        raise InputError(
            f"evaluate.mixtures: {asked.name!r} is made of leverage scores, and this version has none, as its weights were "
            "given; build  one whose weights are computed, or leave it out"
        )
    centre = find_shares(manifest, asked.centre, read)
    with np.errstate(divide="ignore"):
        log_centre = np.log(np.array([centre[name] for name in names]) * len(names))
    _, exponents, _ = choose_exponents(np.array(scores, np.float64), Tilt(asked.tilt, asked.temperature, log_centre))
    return dict(zip(names, scipy.special.softmax(exponents).tolist(), strict=True))
