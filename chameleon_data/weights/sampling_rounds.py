"""`samples: auto`: rounds of twice as many documents, until the interval of every weight is narrow enough.

A round's documents are those of a fixed number of samples, and hold those of the round before: nothing is embedded twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chameleon_data.recipe import Embed

FIRST_ROUND = 64
"""Documents per domain of the first round. Fewer leave a bias of the half correction (`affinity.py`) that no interval sees."""


@dataclass(frozen=True)
class SamplingRound:
    """One round of `samples: auto`."""

    samples: int
    """Documents drawn per domain."""
    widest: float
    """Width of the widest interval of a weight."""
    domain: str
    """The domain that has it."""
    narrow: bool
    """Whether it is within `embed.tolerance`."""
    said: str
    """The same in a sentence."""


def round_sizes(embed: Embed) -> Iterator[int]:
    """Documents per domain of each round; of the only one where `embed.samples` is a number."""
    if embed.samples != "auto":
        yield embed.samples
        return
    size = min(FIRST_ROUND, embed.max_samples)
    while size < embed.max_samples:
        yield size
        size *= 2
    yield embed.max_samples


def describe_round(samples: int, intervals: Mapping[str, tuple[float, float] | None], tolerance: float) -> SamplingRound:
    """What a round of so many samples per domain gave. A weight without an interval counts as one of width 1."""
    width = {name: 1.0 if ends is None else ends[1] - ends[0] for name, ends in intervals.items()}
    widest = max(width, key=lambda name: (width[name], name))
    narrow = width[widest] <= tolerance
    said = (
        f"{samples:,} samples a domain: the widest interval is {width[widest]:.4f} ({widest}), "
        f"{'within' if narrow else 'above'} the tolerance of {tolerance:g}"
    )
    return SamplingRound(samples, width[widest], widest, narrow, said)


def warn_of_rounds(last: SamplingRound, embed: Embed) -> tuple[str, ...]:
    """A warning where the last round was not narrow enough."""
    if last.narrow:
        return ()
    why = "'embed.max_samples' is reached" if last.samples == embed.max_samples else "no domain has more documents"
    return (f"{last.said}, and {why}; raise 'embed.tolerance', or weigh from more documents",)
