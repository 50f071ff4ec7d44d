"""Balance: every domain is within its bound of its share, in the whole, in every shard and after every row.

The bound is the domain's largest document, or one sequence where documents are packed. The rows' order between domains is
computed again from the quotas and the seed: a row with anchor p in domain d stands at p / Q_d, and equal places go by name.
Memory: a few numbers a domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chameleon_data.arrays import F64, I64
from chameleon_data.plan.plan import phase_of
from chameleon_data.plan.streams import anchors


@dataclass(frozen=True)
class Deviation:
    """The place where a bound is closest to broken."""

    domain: str
    where: str
    """The place, for a person: `the whole`, a shard, a row of a shard."""
    tokens: float
    """Distance of the domain from its share there."""
    bound: int
    """The most that the distance may be."""

    @property
    def share(self) -> float:
        """Distance over bound; above one the bound is broken."""
        return self.tokens / self.bound


class BalanceCheck:
    """Follows the rows of a split in output order, one shard after the other, and remembers the worst places.

    `names`, `quotas` and `bounds` are those of the domains, in byte order of name.
    """

    def __init__(self, names: Sequence[str], quotas: Sequence[int], bounds: Sequence[int], shards: int, seed: int) -> None:
        self.names, self.shards = list(names), shards
        # A forged 0 is reported by other checks; here it must only not divide.
        self.quotas, self.bounds = [max(1, quota) for quota in quotas], [max(1, bound) for bound in bounds]
        self._phases = [phase_of(seed, name) for name in names]
        self.so_far = [0] * len(names)
        """Tokens of each domain in the shards that were added."""
        self._last = (-1.0, -1)
        """Place and domain of the last row."""
        self.prefix = [Deviation(name, "the start", 0.0, bound) for name, bound in zip(names, self.bounds, strict=True)]
        """The worst row of each domain."""
        self.shard = Deviation(names[0], "shard 0", 0.0, self.bounds[0])
        """The worst shard."""

    def add(self, number: int, domain: I64, tokens: I64, first: I64) -> str | None:
        """Take the rows of shard `number`; returns which row is out of order, if one is.

        `domain` is (rows,) the index among `names`. `first` is (rows,) the tokens from which a row's anchor is computed: its own,
        or those of the first piece in a sequence.
        """
        place, ends = np.empty(len(domain)), {}
        for index, name in enumerate(self.names):
            rows = np.flatnonzero(domain == index)
            end = self.so_far[index] + np.cumsum(tokens[rows])
            place[rows] = anchors(self._phases[index], end - tokens[rows], first[rows]) / self.quotas[index]
            ends[index] = (rows, end)
            off = abs(float(tokens[rows].sum()) - self.quotas[index] / self.shards)
            if off / self.bounds[index] > self.shard.share:
                self.shard = Deviation(name, f"shard {number}", off, self.bounds[index])
        for index, (rows, end) in ends.items():
            self._follow(number, index, place, rows, end)
        wrong = self._find_step_back(place, domain)
        self._last = float(place[-1]), int(domain[-1])
        return wrong

    def _follow(self, number: int, index: int, place: F64, rows: I64, end: I64) -> None:
        """Compare one domain's tokens after every row of the shard with its share there."""
        held = np.full(len(place), self.so_far[index], np.int64)
        held[rows] = end
        held = np.maximum.accumulate(held)
        off = np.abs(held - place * self.quotas[index])
        worst = int(off.argmax())
        if off[worst] > self.prefix[index].tokens:
            where = f"row {worst:,} of shard {number}"
            self.prefix[index] = Deviation(self.names[index], where, float(off[worst]), self.bounds[index])
        if len(end):
            self.so_far[index] = int(end[-1])

    def _find_step_back(self, place: F64, domain: I64) -> str | None:
        if (float(place[0]), int(domain[0])) < self._last:
            return "its first row"
        back = (place[1:] < place[:-1]) | ((place[1:] == place[:-1]) & (domain[1:] < domain[:-1]))
        return f"row {int(back.argmax()) + 1:,}" if back.any() else None

    @property
    def whole(self) -> Deviation:
        """The domain that is furthest from its quota after all shards."""
        each = zip(self.names, self.so_far, self.quotas, self.bounds, strict=True)
        ends = [Deviation(name, "the whole", float(abs(held - quota)), bound) for name, held, quota, bound in each]
        return max(ends, key=lambda deviation: deviation.share)

    def find_broken_bounds(self) -> list[str]:
        """A sentence for every bound that is broken, once all shards were added."""
        rounding = 1 + max(self.quotas) * 2.0**-52  # the plan decides in integers, this check computes in float64
        return [
            f"domain {worst.domain!r}: {worst.tokens:,.0f} tokens off its share at {worst.where}, more than its bound "
            f"({worst.bound:,})"
            for worst in (*self.prefix, self.shard, self.whole)
            if worst.tokens > worst.bound + rounding
        ]
