"""Balance: every domain is within its bound of its share, in the whole, in every stage and shard, and after every row of a stage.

The bound is the domain's largest document, or one sequence where documents are packed. The rows' order between domains is
computed again from the quotas and the seed: a row with anchor p in domain d stands at p / Q_d in the only stage, at
(p - C_d) / Q_d in one that begins at C_d, and equal places go by name.

What was found in a stretch of shards joins with what was found in the next. A stretch begins with the tokens that the table of
shards gives the shards before it, and the shards' own counts are compared with that table. Memory: a few numbers a domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chameleon_data.arrays import F64, I64
from chameleon_data.plan.streams import anchors
from chameleon_data.versions.checks.split_facts import SplitFacts
from chameleon_data.versions.manifest import name_tokens


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


@dataclass
class BalanceFound:
    """What was found in a stretch of shards. Arrays are (domains,), unless they say otherwise."""

    held: I64
    """(stages, domains) tokens of each domain in each stage, up to the end of the stretch."""
    off: F64
    """Tokens that each domain is off its share at its worst row."""
    shard: I64
    """Where that row is: the shard."""
    row: I64
    """And the row in it; -1 where no row is off at all."""
    worst: tuple[float, int, int] = (0.0, 0, 0)
    """The worst shard: tokens off its share, domain, shard."""
    first: tuple[int, float, int] | None = None
    """Stage, place and domain of the first row; None where there was none."""
    last: tuple[int, float, int] | None = None
    """Of the last row."""

    @classmethod
    def before(cls, held: I64) -> BalanceFound:
        """Nothing yet, behind shards that hold so many tokens of each stage and domain."""
        zeros = np.zeros(held.shape[1], np.int64)
        return cls(held, np.zeros(held.shape[1]), zeros, zeros - 1)

    def join(self, later: BalanceFound, bounds: I64) -> bool:
        """Take what was found in the next stretch; False if its first row stands before the last one here."""
        worse = later.off > self.off
        for name in ("off", "shard", "row"):
            getattr(self, name)[worse] = getattr(later, name)[worse]
        self.worst = max(self.worst, later.worst, key=lambda found: found[0] / bounds[found[1]])
        in_order = self.last is None or later.first is None or self.last <= later.first
        self.held, self.first, self.last = later.held, self.first or later.first, later.last or self.last
        return in_order


class BalanceCheck:
    """Follows the rows of a stretch of shards in output order, one shard after the other."""

    def __init__(self, facts: SplitFacts, held: I64) -> None:
        """`held` are (stages, domains) the tokens in the shards before the stretch."""
        self._facts, self.found = facts, BalanceFound.before(held)

    def add(self, number: int, domain: I64, tokens: I64, first: I64) -> str | None:
        """Take the rows of shard `number`; returns which row is out of order, if one is.

        `domain` is (rows,) the index among the domains. `first` is (rows,) the tokens from which a row's anchor is computed: its
        own, or those of the first piece in a sequence.
        """
        facts, found, stage = self._facts, self.found, self._facts.stage_of(number)
        quotas = facts.quotas[stage]
        order = np.argsort(domain, kind="stable")
        of, size = domain[order], tokens[order]
        total = np.bincount(domain, tokens, len(facts.names)).astype(np.int64)
        behind = np.cumsum(size)
        starts = np.searchsorted(of, np.arange(len(facts.names)))
        before = np.append(0, behind)[starts]
        end = behind - before[of] + found.held[stage][of]  # (rows,) tokens of the row's domain in the stage after it
        offset = end - size + found.held[:stage].sum(axis=0)[of]
        place = np.empty(len(domain))
        # Another check tells of rows of a domain whose quota is 0; here it must only not divide.
        place[order] = (anchors(facts.phases[of], offset, first[order]) - facts.begins[stage][of]) / np.maximum(quotas, 1)[of]
        self._follow(number, order, of, end, size, place)
        off = np.abs(total - quotas / facts.stage_shards[stage])
        worst = int((off / facts.bounds).argmax())
        self._keep_worst(float(off[worst]), worst, number)
        found.held = found.held.copy()
        found.held[stage] += total
        wrong = self._find_step_back(stage, place, domain)
        found.first = found.first or (stage, float(place[0]), int(domain[0]))
        found.last = stage, float(place[-1]), int(domain[-1])
        return wrong

    def _keep_worst(self, off: float, domain: int, number: int) -> None:
        bounds, (before, of, _) = self._facts.bounds, self.found.worst
        if off / bounds[domain] > before / bounds[of]:
            self.found.worst = off, domain, number

    def _follow(self, number: int, order: I64, of: I64, end: I64, size: I64, place: F64) -> None:
        """Compare each domain's tokens with its share after every row of the shard.

        Between two rows of a domain its tokens stay and the place grows, so its distance is largest at the first or the last row
        of such a stretch: its own rows, the rows right before them, and the first and the last row of the shard.
        """
        rows, k, stage = len(place), len(self._facts.names), self._facts.stage_of(number)
        every, held_first = np.arange(k), self.found.held[stage]
        held_last = held_first + np.bincount(of, size, k).astype(np.int64)
        domain = np.concatenate([of, of, every, every])
        at = np.concatenate([order, order - 1, np.zeros(k, np.int64), np.full(k, rows - 1)])
        held = np.concatenate([end, end - size, held_first, held_last])
        own_first = np.zeros(k, bool)
        own_first[of[order == 0]] = True  # its own first row counts, not what was before it
        wanted = at >= 0
        wanted[2 * rows : 2 * rows + k] &= ~own_first
        domain, at, held = domain[wanted], at[wanted], held[wanted]
        off = np.abs(held - place[at] * self._facts.quotas[stage][domain])
        by = np.lexsort((at, -off, domain))
        best = by[np.unique(domain[by], return_index=True)[1]]
        worse = best[off[best] > self.found.off[domain[best]]]
        found, names = self.found, domain[worse]
        found.off[names], found.shard[names], found.row[names] = off[worse], number, at[worse]

    def _find_step_back(self, stage: int, place: F64, domain: I64) -> str | None:
        if self.found.last is not None and (stage, float(place[0]), int(domain[0])) < self.found.last:
            return "its first row"
        back = (place[1:] < place[:-1]) | ((place[1:] == place[:-1]) & (domain[1:] < domain[:-1]))
        return f"row {int(back.argmax()) + 1:,}" if back.any() else None


@dataclass(frozen=True)
class Balance:
    """The worst places of a split."""

    whole: Deviation
    """The domain that is furthest from its quota after all shards, or after those of a stage."""
    shard: Deviation
    """The worst shard."""
    prefix: tuple[Deviation, ...]
    """The worst row of each domain."""


def describe_balance(facts: SplitFacts, found: BalanceFound) -> Balance:
    """The worst places, for a person, once every shard was looked at."""
    names, bounds = facts.names, facts.bounds.tolist()
    missed = found.held - facts.quotas
    off = np.abs(np.append(missed, missed.sum(axis=0)[None], axis=0))  # of each stage, then over all
    at, furthest = divmod(int((off / facts.bounds).argmax()), len(names))
    where = f"stage {at + 1}" if 1 < len(missed) > at else "the whole"
    worst_off, worst, shard = found.worst
    prefix = tuple(
        Deviation(name, f"row {row:,} of shard {number}" if row >= 0 else "the start", distance, bound)
        for name, distance, number, row, bound in zip(names, found.off.tolist(), found.shard.tolist(), found.row.tolist(), bounds,
                                                      strict=True)
    )  # fmt: skip
    return Balance(
        Deviation(names[furthest], where, float(off[at, furthest]), bounds[furthest]),
        Deviation(names[worst], f"shard {shard}", worst_off, bounds[worst]),
        prefix,
    )


def find_broken_bounds(facts: SplitFacts, balance: Balance) -> list[str]:
    """A sentence for every bound that is broken."""
    unit = name_tokens(facts.manifest.unit)
    rounding = 1 + int(facts.quotas.max()) * 2.0**-52  # the plan decides in integers, this check computes in float64
    return [
        f"domain {worst.domain!r}: {worst.tokens:,.0f} {unit} off its share at {worst.where}, more than its bound "
        f"({worst.bound:,})"
        for worst in (*balance.prefix, balance.shard, balance.whole)
        if worst.tokens > worst.bound + rounding
    ]
