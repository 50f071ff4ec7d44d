"""Movement: how far a weight moves when another embedder compares the same documents. It is the larger doubt.

An interval covers other samples of the same domains alone. With MiniLM wikipedia led ten domains at .206; with TF-IDF and with a
causal language model c4 did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OtherEmbedder:
    """The weights by another embedder of the same documents."""

    name: str
    """As in `embed.also`."""
    fingerprint: str
    """Names the embedder."""
    weights: dict[str, float]
    """Domain -> weight before bounds."""
    intervals: dict[str, tuple[float, float] | None]
    """90 % interval of each weight, over other samples."""


def weight_ranges(weights: Mapping[str, float], others: Sequence[OtherEmbedder]) -> dict[str, tuple[float, float]]:
    """Domain -> its smallest and its largest weight by any of the embedders; `weights` are those in use, before bounds."""
    found = {name: [share, *(other.weights[name] for other in others)] for name, share in weights.items()}
    return {name: (min(shares), max(shares)) for name, shares in found.items()}


def warn_of_movement(
    weights: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float] | None],
    others: Sequence[OtherEmbedder],
    own: str,
) -> tuple[str, ...]:
    """A sentence on the weight that moves most between embedders; none without others. `own` names the embedder in use."""
    if not others:
        return ()
    ranges = weight_ranges(weights, others)
    name = max(ranges, key=lambda n: (ranges[n][1] - ranges[n][0], n))
    moved = ranges[name][1] - ranges[name][0]
    shares = ", ".join(
        f"{share[name]:.3f} by {who}" for who, share in ((own, weights), *((other.name, other.weights) for other in others))
    )
    ends = intervals.get(name)
    beside = f", {moved / (ends[1] - ends[0]):.1f} times the width of its interval" if ends and ends[1] > ends[0] else ""
    return (f"between embedders a weight moves by up to {moved:.3f}{beside} ({name}: {shares}); intervals do not cover that",)
