"""Weights from files: a plain `domain: weight`, or as DoReMi, DoGE and RegMix publish them.

The content tells the format:

    plain    {arxiv: .2, github: .8}                        JSON or YAML
    DoReMi   {train_domain_weights: {"Pile-CC": .6057, ...}, ...}
    DoGE     {train_domains: "arxiv,book,cc,...", train_dw: ".088,.045,.269,...,0", ...}
    RegMix   train: {train_the_pile_arxiv: .0012, ...}

DoGE's `train_dw` is not in the order of `train_domains`: its data loader (`src/dataloader.py`) applies it to the datasets in the
order in which they were loaded, with `mix` last. Zipped as they stand, the two lists give c4's weight to cc and cc's to c4.

Names must be the recipe's. Others are matched without case, without `train_the_pile_` in front, and without blanks, hyphens,
underscores and brackets ('Gutenberg (PG-19)' is gutenberg_pg_19), where that leaves one candidate on each side. A name left
over on either side is refused, because a guess would be a wrong mixture that trains without complaint.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from typing import Any, Literal

import yaml

from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe_file import StrictLoader

WeightsFormat = Literal["plain", "DoReMi", "DoGE", "RegMix"]

SLIMPAJAMA = ("arxiv", "book", "c4", "cc", "github", "stackexchange", "wikipedia")
"""The order in which DoGE's loader applies `train_dw`. A weight of `mix`, which is all domains together, may follow."""
PILE_PREFIX = "train_the_pile_"


@dataclass(frozen=True)
class PublishedWeights:
    """A mixture from a file, for a recipe's domains."""

    weights: dict[str, float]
    """The recipe's domain -> weight, in byte order; they sum to one and are not rounded."""
    format: WeightsFormat
    """The format that the content told."""
    names: dict[str, str]
    """Domain -> its name in the file."""
    notes: tuple[str, ...]
    """A sentence for each thing that was changed: the order, names, the sum."""


def read_published_weights(text: str, domains: Iterable[str], name: str = "weights") -> PublishedWeights:
    """The mixture in a file's text, for exactly these domains. `name` is the file's, for messages.

    Weights that do not sum to one, as in many published lists, are divided by their sum, and a note says so. Raises InputError
    for a text that is no mapping of weights, for weights that are negative or no numbers, and for names that do not match one to
    one.
    """
    found, kind, notes = _as_applied(_parse(text, name), name)
    weights = {key: _number(value, key, name) for key, value in found.items()}
    names = _match(sorted(weights), sorted(set(domains)), name)
    total = fsum(weights.values())
    if total <= 0:
        raise InputError(f"{name}: every weight is zero; give one domain a positive weight")
    if renamed := [f"{theirs!r} as {ours}" for ours, theirs in names.items() if theirs != ours]:
        notes.append(f"{name}: names matched but for case, prefix and separators: {list_some(renamed)}")
    if abs(total - 1) > 1e-6:
        notes.append(f"{name}: the weights sum to {total:.6g} and were divided by it")
    return PublishedWeights({ours: weights[theirs] / total for ours, theirs in names.items()}, kind, names, tuple(notes))


def _parse(text: str, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise InputError(f"{name}: {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError):
        try:
            value = StrictLoader(text).get_single_data()
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{name}: neither JSON nor YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(value, dict) or not value:
        raise InputError(f"{name}: weights are a mapping of domain to number, such as {{arxiv: 0.2, github: 0.8}}")
    return value


def _as_applied(value: dict[str, Any], name: str) -> tuple[dict[str, Any], WeightsFormat, list[str]]:
    """The file's own names and weights, as its trainer applies them."""
    if "train_dw" in value and "train_domains" in value:
        weights, note = _doge(value["train_domains"], value["train_dw"], name)
        return weights, "DoGE", [note]
    wrappers: tuple[tuple[str, WeightsFormat], ...] = (("train_domain_weights", "DoReMi"), ("train", "RegMix"))
    for key, kind in wrappers:
        if isinstance(value.get(key), dict):
            if not value[key]:
                raise InputError(f"{name}: '{key}' is empty; name a domain and its weight")
            return value[key], kind, []
    return value, "plain", []


def _doge(domains: object, weights: object, name: str) -> tuple[dict[str, Any], str]:
    if not isinstance(domains, str) or not isinstance(weights, str):
        raise InputError(f"{name}: 'train_domains' and 'train_dw' of a DoGE file are texts with commas between")
    unknown = sorted({domain.strip() for domain in domains.split(",")} - set(SLIMPAJAMA))
    if unknown:
        raise InputError(
            f"{name}: a DoGE file with the domain {unknown[0]!r}; the order in which its loader applies 'train_dw' is known for "
            f"SlimPajama's alone ({', '.join(SLIMPAJAMA)}); write a plain mapping of domain to weight"
        )
    values = [part.strip() for part in weights.split(",")]
    if len(values) not in (len(SLIMPAJAMA), len(SLIMPAJAMA) + 1):
        raise InputError(f"{name}: 'train_dw' has {len(values)} weights for {', '.join(SLIMPAJAMA)} and, at most, mix")
    if len(values) > len(SLIMPAJAMA) and _number(values.pop(), "mix", name) != 0:
        raise InputError(
            f"{name}: the weight of 'mix', the last of 'train_dw', is not zero; no domain of a recipe is all together"
        )
    order = ", ".join(SLIMPAJAMA)
    return dict(zip(SLIMPAJAMA, values, strict=True)), f"{name}: 'train_dw' was read in the order of DoGE's data loader, {order}"


def _number(value: object, domain: str, name: str) -> float:
    try:  # YAML 1.1 reads 1e-5 as text
        weight = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: the weight of {domain!r} is {str(value)[:60]!r}, not a number") from error
    if not isfinite(weight) or weight < 0:
        raise InputError(f"{name}: the weight of {domain!r} is {weight}; it must be a number, zero or above")
    return weight


def plain_name(name: str) -> str:
    """A name without case, `train_the_pile_`, blanks, hyphens, underscores and brackets: 'Pile-CC' and pile_cc are the same."""
    return re.sub(r"[\s\-_()]", "", name.casefold().removeprefix(PILE_PREFIX))


def _match(theirs: Sequence[str], ours: Sequence[str], name: str) -> dict[str, str]:
    """Our name -> theirs: names that are equal, then names that are alone with their plain name on both sides."""
    equal = set(theirs) & set(ours)
    rest, open_ = [t for t in theirs if t not in equal], [o for o in ours if o not in equal]
    found = {o: o for o in equal}
    for o in open_:
        candidates = [t for t in rest if plain_name(t) == plain_name(o)]
        rivals = [other for other in open_ if plain_name(other) == plain_name(o)]
        if candidates and len(candidates) + len(rivals) > 2:
            raise InputError(
                f"{name}: {list_some(candidates)} may each be meant for {list_some(rivals)}; use the recipe's own names"
            )
        if candidates:
            found[o] = candidates[0]
    missing, extra = [o for o in ours if o not in found], [t for t in rest if t not in found.values()]
    if not missing and not extra:
        return {o: found[o] for o in ours}
    parts = [f"{what} {list_some(names)}" for what, names in (("no weight for", missing), ("unknown", extra)) if names]
    nearest = [(m, _nearest(m, extra)) for m in missing]
    hint = "".join(f"; {near!r} may be meant for {m!r}" for m, near in [pair for pair in nearest if pair[1]][:3])
    raise InputError(f"{name}: {'; '.join(parts)}{hint}; name exactly the recipe's domains")


def _nearest(wanted: str, among: Sequence[str]) -> str | None:
    by_plain = {plain_name(a): a for a in among}
    near = difflib.get_close_matches(plain_name(wanted), by_plain, n=1)
    return by_plain[near[0]] if near else None
