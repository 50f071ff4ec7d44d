"""The plan: how many tokens of which domain go where, as arithmetic on a histogram.

A domain's *stream* is its documents, epoch after epoch, in an order that hashes alone decide (`place.py`). The document
that starts at token o of the stream and holds t tokens has the *anchor*

    p = o + floor(phase * t),      phase in [0, 1) from (seed, domain)

and every rule is a comparison of anchors: it is kept where p < Q (the domain's quota of tokens), it goes to shard s of S
where s Q <= S p < (s + 1) Q, and the output is sorted by p / Q, then by domain. Two anchors a < b of one domain
enclose at least b - a - m and at most b - a + m tokens, m being its largest document, and that one sentence gives

    whole output   |tokens_d - Q_d|       <= m_d
    every shard    |tokens_d,s - Q_d / S| <= m_d
    every prefix   |tokens_d - x Q_d|     <= m_d,   x the p / Q of its last row.

Cutting the end of the stream by another rule than the shards (by the documents' midpoints, say) is half a document closer
in the whole, but then the last shard can miss by 1.5 m: quota 96, documents of 10, phase .9, two shards gives 40 and 60.

The order of the output does not depend on S; the phase keeps domains of equal size from starting all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from chameleon_data.errors import InputError
from chameleon_data.hashing import HASH_FUNCTION, fingerprint, key64

PLAN_FORMAT = 1
FINEST_BITS = 20
ROWS_PER_BUCKET = 16
PHASE_BITS = 32


@dataclass(frozen=True)
class DomainCount:
    """What the survey counted of one domain."""

    name: str
    rows: int
    """Usable rows."""
    tokens: int
    bytes: int
    largest: int
    """Tokens of the largest document."""
    multiset: int
    """Sum of the content hashes modulo 2^128."""
    quarantined: int
    histogram: npt.NDArray[np.int64]
    """(2^bits, 2): rows and tokens in each bucket of the hashes' top bits."""

    @property
    def bits(self) -> int:
        return bucket_bits(self.rows)


def bucket_bits(rows: int) -> int:
    """log2 of the number of buckets of a domain: about 16 rows a bucket, at most 2^20 buckets. Of the rows alone."""
    return max(0, min(FINEST_BITS, (max(rows, 1) // ROWS_PER_BUCKET).bit_length()))


@dataclass(frozen=True)
class DomainPlan:
    """One domain's place in the mixture. The integers decide the bytes; `weight` is what they came from."""

    name: str
    weight: str
    """Decimal, as recorded."""
    quota: int
    """Tokens to write."""
    rows: int
    tokens: int
    bytes: int
    largest: int
    multiset: int
    bits: int
    phase: int
    """Numerator over 2^32."""

    @property
    def epochs(self) -> float:
        return self.quota / self.tokens

    def bounds(self, shards: int) -> npt.NDArray[np.int64]:
        """(shards + 1,) anchors at which the shards start: ceil(s Q / S), in Python integers, since s Q passes 2^63."""
        return np.array([-(-s * self.quota // shards) for s in range(shards + 1)], np.int64)


@dataclass(frozen=True)
class Plan:
    domains: tuple[DomainPlan, ...]
    """In byte order of name."""
    shards: int
    seed: int
    hash: str
    writer: dict[str, object]
    """What else decides the bytes: formats, codec, level, row groups, library versions, token unit."""

    @property
    def digest(self) -> str:
        """sha256 of everything that decides the bytes of the shards, and of nothing else."""
        domains = {
            d.name: {"bits": d.bits, "rows": d.rows, "tokens": d.tokens, "bytes": d.bytes, "multiset": f"{d.multiset:032x}",
                     "largest": d.largest, "quota": d.quota, "phase": d.phase}
            for d in self.domains
        }  # fmt: skip
        return fingerprint(
            {"plan_format": PLAN_FORMAT, "hash": [HASH_FUNCTION, self.hash], "seed": self.seed, "domains": domains,
             "shards": self.shards, "writer": self.writer}
        )  # fmt: skip

    @property
    def quota(self) -> int:
        return sum(d.quota for d in self.domains)


def epoch_caps(counts: Sequence[DomainCount], budget: int, max_epochs: float, exhausted: str) -> dict[str, float]:
    """Largest weight that each domain's tokens allow; what `redistribute` gives to the others."""
    if exhausted == "repeat":
        return {}
    limit = max_epochs if exhausted == "redistribute" else 1.0
    held = sum(floor(Fraction(limit) * c.tokens) for c in counts)
    if held < budget:
        advice = "lower 'mix.budget', raise 'mix.max_epochs', or set 'mix.exhausted: repeat'"
        if exhausted == "fail":
            advice = "lower 'mix.budget' or set 'mix.exhausted' to 'redistribute' or 'repeat'"
        raise InputError(
            f"the budget of {budget:,} tokens is more than {limit:g} epoch(s) of every domain hold ({held:,}); {advice}"
        )
    return {c.name: limit * c.tokens / budget for c in counts} if exhausted == "redistribute" else {}


def make_plan(
    counts: Sequence[DomainCount],
    weights: Mapping[str, str],
    *,
    budget: int,
    max_epochs: float,
    exhausted: str,
    shard_bytes: int,
    seed: int,
    hash: str,
    writer: Mapping[str, object],
) -> Plan:
    """Quotas, phases and the number of shards.

    `weights` are decimals that sum to one, as recorded. Raises InputError where a domain's quota is nothing, or more than
    `exhausted: fail` allows; `place.lay_out` refuses a quota that no document fits.
    """
    domains = []
    for count in sorted(counts, key=lambda c: c.name.encode()):
        quota = floor(Fraction(weights[count.name]) * budget)
        if exhausted == "redistribute":  # the weights hold to this already, but for their rounding
            quota = min(quota, floor(Fraction(max_epochs) * count.tokens))
        if exhausted == "fail" and quota > count.tokens:
            raise InputError(
                f"domain {count.name!r}: its share is {quota:,} tokens but it holds {count.tokens:,}, and 'mix.exhausted' is "
                "'fail'; lower 'mix.budget', set 'weights.cap', or choose 'redistribute' or 'repeat'"
            )
        if quota == 0:
            raise InputError(
                f"domain {count.name!r} would get none of {budget:,} tokens (weight {weights[count.name]}); "
                "raise 'mix.budget', set 'weights.floor', or take the domain out"
            )
        phase = key64(seed, count.name, "phase") >> (64 - PHASE_BITS)
        domains.append(
            DomainPlan(count.name, weights[count.name], quota, count.rows, count.tokens, count.bytes, count.largest,
                       count.multiset, count.bits, phase)
        )  # fmt: skip
    return Plan(tuple(domains), shard_count(domains, shard_bytes), seed, hash, dict(writer))


def shard_count(domains: Sequence[DomainPlan], shard_bytes: int) -> int:
    """ceil(selected bytes / size), at most the documents. With very long documents some of so many shards may come out empty."""
    selected = sum(Fraction(d.quota * d.bytes, d.tokens) for d in domains)
    documents = sum(ceil(Fraction(d.quota * d.rows, d.tokens)) for d in domains)
    return max(1, min(ceil(selected / shard_bytes), documents))


def certain_shards(domains: Sequence[DomainPlan]) -> int:
    """A number of shards of which none is empty: one holds more than Q / S - m tokens of a domain, so S < Q / m will do."""
    return max(1, *((d.quota - 1) // d.largest for d in domains))
