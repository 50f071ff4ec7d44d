"""The plan: how many tokens of which domain go where, as arithmetic on a histogram.

A domain's *stream* is its documents, epoch after epoch, in an order that hashes alone decide (`streams.py`). The document
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

*Packed* into sequences of L tokens, every document followed by end-of-text, the same sentence holds with L in the place of m:

    cross   the stream of tokens is cut every L: sequence i is its tokens i L to (i + 1) L, as if it were a document of L tokens;
            the quota is rounded down to whole sequences, so a tail of less than L tokens is not written, and nothing is padded
    whole   a document longer than L is cut into pieces of L and a rest; pieces have anchors as documents have; a sequence takes
            the next pieces of its domain in its shard as long as they fit, and what is left of it is padding

Why a build never takes over a shard of another one: with another budget or other weights every quota changes, so every bound s
Q / S of every domain moves, and with it the rows of every shard; to keep the shards that are there and fill up around them
would give up the bound on prefixes. What is taken over is the survey, the embeddings, and the streams themselves: a larger
quota's stream begins with the smaller one's.
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

TRAIN = "train"
VALIDATION = "validation"
"""The splits. Shards of the train split come first."""

PLAN_FORMAT = 1
FINEST_BITS = 20
ROWS_PER_BUCKET = 16
PHASE_BITS = 32
MOST_ROWS_PER_SHARD = 1 << 20
"""Of a shard, on average: documents of a word would be fifty million in 64 MiB, and ten times that in memory."""
MOST_EPOCHS_PER_DOMAIN = 1 << 20
"""Of a domain. Each is laid out by itself, in 20 µs and 12 bytes a bucket; ten tokens in a budget of 10^12 would never end."""


@dataclass(frozen=True)
class Packing:
    """How documents become sequences of token ids."""

    length: int
    """Tokens of a sequence."""
    whole: bool
    """Whole documents and padding; else documents run on into the next sequence."""


@dataclass(frozen=True)
class DomainCount:
    """What a split may hold of one domain."""

    name: str
    rows: int
    """Usable rows."""
    tokens: int
    bytes: int
    largest: int
    """Tokens of the largest document."""
    multiset: int
    """Sum of the content hashes modulo 2^128."""
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

    def bounds(self, shards: int, packing: Packing | None = None) -> npt.NDArray[np.int64]:
        """(shards + 1,) where the shards start: anchors ceil(s Q / S), in Python integers, since s Q passes 2^63.

        Packed across documents: tokens of the stream, L for each sequence whose anchor is below s Q / S.
        """
        q, n = self.quota, shards
        if packing is None or packing.whole:
            return np.array([-(-s * q // n) for s in range(n + 1)], np.int64)
        length, first = packing.length, (packing.length * self.phase) >> PHASE_BITS
        return np.array([length * max(0, -(-(s * q - first * n) // (n * length))) for s in range(n)] + [q], np.int64)


@dataclass(frozen=True)
class Plan:
    domains: tuple[DomainPlan, ...]
    """In byte order of name."""
    shards: int
    seed: int
    hash: str
    writer: dict[str, object]
    """What else decides the bytes: formats, codec, level, row groups, library versions, token unit."""
    packing: Packing | None = None
    split: str = TRAIN

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
             "shards": self.shards, "writer": self.writer, "split": self.split,
             "packing": [self.packing.length, self.packing.whole] if self.packing else None}
        )  # fmt: skip

    def bound(self, domain: DomainPlan) -> int:
        """Tokens that a domain is off its share at most, in the whole, in a shard, after a row."""
        return self.packing.length if self.packing else domain.largest


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
            f"mix.budget: {budget:,} tokens are asked for, more than {limit:g} epoch(s) of every domain hold ({held:,}), and "
            f"'mix.exhausted: {exhausted}' allows no more; {advice}"
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
    packing: Packing | None = None,
) -> Plan:
    """Quotas, phases and the number of shards of the train split.

    `weights` are decimals that sum to one, as recorded. Raises InputError where a domain's quota is nothing, or more than
    `exhausted: fail` allows; `place.lay_out` refuses a quota that no document fits.
    """
    quotas = {}
    for count in counts:
        quota = quota_of(count.tokens, weights[count.name], budget, max_epochs, exhausted)
        if exhausted == "fail" and quota > count.tokens:
            raise InputError(
                f"domain {count.name!r}: its share is {quota:,} tokens but it holds {count.tokens:,}, and 'mix.exhausted' is "
                "'fail'; lower 'mix.budget', set 'weights.cap', or choose 'redistribute' or 'repeat'"
            )
        if quota > MOST_EPOCHS_PER_DOMAIN * count.tokens:
            raise InputError(
                f"domain {count.name!r}: its share is {quota:,} tokens but it holds {count.tokens:,}, which is more than "
                f"{MOST_EPOCHS_PER_DOMAIN:,} epochs; lower its 'weights.cap', set 'mix.exhausted: redistribute', or take "
                "the domain out"
            )
        quotas[count.name] = quota
        if whole_sequences(quota, packing) == 0:
            least = f", less than one sequence of {packing.length:,}" if packing and quota else ""
            raise InputError(
                f"domain {count.name!r} would get {'none' if quota == 0 else f'{quota:,}'} of {budget:,} tokens{least} "
                f"(weight {weights[count.name]}); raise 'mix.budget', set 'weights.floor', or take the domain out"
            )
    return _plan(counts, weights, quotas, shard_bytes, seed, hash, writer, packing, TRAIN)


def validation_plan(
    counts: Sequence[DomainCount], *, shard_bytes: int, seed: int, hash: str, writer: Mapping[str, object],
    packing: Packing | None = None,
) -> Plan:  # fmt: skip
    """Every document that is held out, once. Raises InputError for a domain that does not fill one sequence."""
    total = sum(c.tokens for c in counts)
    for count in counts:
        if whole_sequences(count.tokens, packing) == 0:
            raise InputError(
                f"domain {count.name!r}: its validation split of {count.tokens:,} tokens is less than one sequence; raise "
                "'mix.validation' or lower 'shards.sequence_length'"
            )
    weights = {c.name: f"{c.tokens / total:.6f}" for c in counts}
    quotas = {c.name: c.tokens for c in counts}
    return _plan(counts, weights, quotas, shard_bytes, seed, hash, writer, packing, VALIDATION)


def quota_of(tokens: int, weight: str, budget: int, max_epochs: float, exhausted: str) -> int:
    """Tokens of a domain that holds `tokens`: its share of the budget, rounded down."""
    quota = floor(Fraction(weight) * budget)
    if exhausted == "redistribute":  # the weights hold to this already, but for their rounding
        quota = min(quota, floor(Fraction(max_epochs) * tokens))
    return quota


def whole_sequences(quota: int, packing: Packing | None) -> int:
    """The quota that is written: of sequences cut from the stream, only whole ones."""
    return quota if packing is None or packing.whole else quota - quota % packing.length


def _plan(
    counts: Sequence[DomainCount], weights: Mapping[str, str], quotas: Mapping[str, int], shard_bytes: int, seed: int, hash: str,
    writer: Mapping[str, object], packing: Packing | None, split: str,
) -> Plan:  # fmt: skip
    domains = tuple(
        DomainPlan(
            c.name, weights[c.name], whole_sequences(quotas[c.name], packing), c.rows, c.tokens, c.bytes, c.largest, c.multiset,
            c.bits, phase_of(seed, c.name),
        )
        for c in sorted(counts, key=lambda c: c.name.encode())
    )  # fmt: skip
    return Plan(domains, shard_count(domains, shard_bytes, packing), seed, hash, dict(writer), packing, split)


def phase_of(seed: int, name: str) -> int:
    """Numerator over 2^32."""
    return key64(seed, name, "phase") >> (64 - PHASE_BITS)


def shard_count(domains: Sequence[DomainPlan], shard_bytes: int, packing: Packing | None = None) -> int:
    """ceil(selected bytes / size), or more for the rows to be a million a shard, and at most the rows. With very long documents
    some of so many shards may come out empty."""
    selected = sum(Fraction(d.quota * d.bytes, d.tokens) for d in domains)
    if packing:
        rows = sum(-(-d.quota // packing.length) for d in domains)
    else:
        rows = sum(ceil(Fraction(d.quota * d.rows, d.tokens)) for d in domains)
    return max(1, min(max(ceil(selected / shard_bytes), -(-rows // MOST_ROWS_PER_SHARD)), rows))


def largest_full_shard_count(plan: Plan) -> int:
    """A number of shards of which none is empty: one holds more than Q / S - m tokens of a domain, so S < Q / m will do."""
    return max(1, *((d.quota - 1) // plan.bound(d) for d in plan.domains))


def shard_spread(plan: Plan) -> int:
    """Bytes by which a shard may be off the mean one at most: the sum of one largest document (or sequence) a domain."""
    return sum(ceil(Fraction(plan.bound(d) * d.bytes, d.tokens)) for d in plan.domains)
