"""The plan: how many tokens of which domain go where, as arithmetic on a histogram.

A domain's *stream* is its documents, epoch after epoch, in an order that hashes alone decide (`streams.py`). The document that
starts at token o of the stream and holds t tokens has the *anchor*

    p = o + floor(phase * t),      phase in [0, 1) from (seed, domain)

and every rule is a comparison of anchors. With the domain's quota of Q tokens and S shards, a document is kept where p < Q, it
goes to shard s where s Q <= S p < (s + 1) Q, and the output is sorted by p / Q, then by domain. Two anchors a < b of one domain
enclose at least b - a - m and at most b - a + m tokens, m being its largest document. Therefore

    whole output   |tokens_d - Q_d|       <= m_d
    every shard    |tokens_d,s - Q_d / S| <= m_d
    every prefix   |tokens_d - x Q_d|     <= m_d,   x the p / Q of its last row.

The order of the output does not depend on S. The phase keeps domains of equal size from starting all at once.

*Packed* into sequences of L tokens, every document followed by end-of-text, the same bounds hold with L in the place of m:

    cross   The stream of tokens is cut every L: sequence i is its tokens i L to (i + 1) L, as if it were a document of L tokens.
            The quota is rounded down to whole sequences, so a tail of less than L tokens is not written and nothing is padded.
    whole   A document longer than L is cut into pieces of L and a rest. Pieces have anchors as documents have. A sequence takes
            the next pieces of its domain in its shard as long as they fit; what is left of it is padding.

Why: docs/decisions/039-cut-at-the-quota.md, docs/decisions/040-shards-are-not-taken-over.md, 041-limits-of-a-plan.md.
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
from chameleon_data.plan.order import largest_depth

TRAIN = "train"
VALIDATION = "validation"
"""The splits. Shards of the train split come first."""

PLAN_FORMAT = 3
ROWS_PER_BUCKET = 8
"""Fewest rows of a bucket, on average, in a domain that has more than 64 buckets."""
PHASE_BITS = 32
MOST_ROWS_PER_SHARD = 1 << 20
"""Largest mean number of rows in a shard. Without it, one-word documents would put fifty million rows in 64 MiB."""
MOST_EPOCHS_PER_DOMAIN = 1 << 20
"""Most epochs of a domain. Each is laid out by itself, in 16 µs and 12 bytes a bucket."""


@dataclass(frozen=True)
class Packing:
    """How documents become sequences of token ids."""

    length: int
    """Tokens of a sequence, L."""
    whole: bool
    """Documents stay whole and sequences are padded; otherwise documents run on into the next sequence."""


@dataclass(frozen=True)
class DomainCount:
    """What a split may hold of one domain."""

    name: str
    rows: int
    """Usable rows."""
    tokens: int
    """Tokens of these rows, end-of-text included where rows are packed."""
    bytes: int
    """Bytes of their text, or of their token ids where rows are packed."""
    largest: int
    """Tokens of the largest document."""
    multiset: int
    """Sum of the content hashes modulo 2^128."""
    histogram: npt.NDArray[np.int64]
    """(2^depth, 2): rows and tokens in each bucket of the hashes' top bits."""

    @property
    def depth(self) -> int:
        """Bits of the hash that tell the buckets apart. It changes no byte: buckets of any depth lie whole in the order."""
        return len(self.histogram).bit_length() - 1


def histogram_depth(rows: int) -> int:
    """The depth at which a domain of so many rows is counted: the deepest with at least 8 rows a bucket, or 64 buckets.

    A bucket is 28 bytes on the driver. Each bound of a shard falls into a bucket, whose documents the driver holds. With 8 to 127
    rows a bucket neither outgrows the other by much. From 64 rows on there are 64 buckets, which take next to nothing.
    """
    return largest_depth(max(rows // ROWS_PER_BUCKET, min(rows, 64)))


@dataclass(frozen=True)
class DomainPlan:
    """One domain's place in the mixture. The integers decide the bytes; `weight` is what they came from."""

    name: str
    weight: str
    """Decimal, as recorded."""
    quota: int
    """Tokens to write, Q."""
    rows: int
    """Usable rows."""
    tokens: int
    """Tokens of these rows; an epoch."""
    bytes: int
    """Bytes of these rows, as `DomainCount` counts them."""
    largest: int
    """Tokens of the largest document, m."""
    multiset: int
    """Sum of the content hashes modulo 2^128."""
    phase: int
    """Numerator over 2^32."""

    @property
    def epochs(self) -> float:
        """How often the domain is read."""
        return self.quota / self.tokens

    def bounds(self, shards: int, packing: Packing | None, numbers: Sequence[int]) -> npt.NDArray[np.int64]:
        """(numbers,) where these shards begin, of `shards` in all: the anchors ceil(s Q / S); the quota for the number behind the
        last shard. s Q passes 2^63, so these are made of Python integers.

        Packed across documents, they are tokens of the stream: L for each sequence whose anchor is below s Q / S.
        """
        q, n = self.quota, shards
        if packing is None or packing.whole:
            return np.array([-(-s * q // n) for s in numbers], np.int64)
        length, first = packing.length, (packing.length * self.phase) >> PHASE_BITS
        return np.array([length * max(0, -(-(s * q - first * n) // (n * length))) if s < n else q for s in numbers], np.int64)


@dataclass(frozen=True)
class Plan:
    """One split, planned: every integer that decides where its documents go."""

    domains: tuple[DomainPlan, ...]
    """In byte order of name."""
    shards: int
    """Number of shards, S."""
    seed: int
    hash: str
    """`input.hash` of the recipe: what the hash of a document is of."""
    writer: dict[str, object]
    """What else decides the bytes: formats, codec, level, row groups, library versions, token unit."""
    packing: Packing | None = None
    """How rows are packed; None where rows are texts."""
    split: str = TRAIN

    @property
    def digest(self) -> str:
        """sha256 of everything that decides the bytes of the shards, and of nothing else."""
        domains = {
            d.name: {
                "rows": d.rows,
                "tokens": d.tokens,
                "bytes": d.bytes,
                "multiset": f"{d.multiset:032x}",
                "largest": d.largest,
                "quota": d.quota,
                "phase": d.phase,
            }
            for d in self.domains
        }
        return fingerprint(
            {
                "plan_format": PLAN_FORMAT,
                "hash": [HASH_FUNCTION, self.hash],
                "seed": self.seed,
                "domains": domains,
                "shards": self.shards,
                "writer": self.writer,
                "split": self.split,
                "packing": [self.packing.length, self.packing.whole] if self.packing else None,
            }
        )

    def bound(self, domain: DomainPlan) -> int:
        """The most tokens by which a domain is off its share, in the whole, in a shard and after a row."""
        return self.packing.length if self.packing else domain.largest


def epoch_caps(counts: Sequence[DomainCount], budget: int, max_epochs: float, exhausted: str) -> dict[str, float]:
    """Domain -> the largest weight that its tokens allow; empty unless `exhausted` is `redistribute`, which gives the rest away.

    Raises InputError where the whole corpus cannot give the budget.
    """
    if exhausted == "repeat":
        return {}
    limit = max_epochs if exhausted == "redistribute" else 1.0
    held = sum(floor(Fraction(limit) * c.tokens) for c in counts)
    if held < budget:
        advice = "lower 'mix.budget', raise 'mix.max_epochs', or set 'mix.exhausted: repeat'"
        if exhausted == "fail":
            advice = "lower 'mix.budget' or set 'mix.exhausted' to 'redistribute' or 'repeat'"
        raise InputError(
            f"mix.budget: {budget:,} is more than {limit:g} epoch(s) of every domain hold, which is {held:,}, and "
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
    `exhausted: fail` allows; `cuts.finish_layout` refuses a quota that no document fits.
    """
    quotas, unit = {}, _name_counted(writer)
    for count in counts:
        quota = quota_of(count.tokens, weights[count.name], budget, max_epochs, exhausted)
        if exhausted == "fail" and quota > count.tokens:
            raise InputError(
                f"domain {count.name!r}: its share is {quota:,} {unit} but it holds {count.tokens:,}, and 'mix.exhausted' is "
                "'fail'; lower 'mix.budget', set 'weights.cap', or choose 'redistribute' or 'repeat'"
            )
        if quota > MOST_EPOCHS_PER_DOMAIN * count.tokens:
            raise InputError(
                f"domain {count.name!r}: its share is {quota:,} {unit} but it holds {count.tokens:,}, which is more than "
                f"{MOST_EPOCHS_PER_DOMAIN:,} epochs; lower its 'weights.cap', set 'mix.exhausted: redistribute', or take "
                "the domain out"
            )
        quotas[count.name] = quota
        if whole_sequences(quota, packing) == 0:
            least = f", less than one sequence of {packing.length:,}" if packing and quota else ""
            raise InputError(
                f"domain {count.name!r} would get {'none' if quota == 0 else f'{quota:,}'} of {budget:,} {unit}{least} "
                f"(weight {weights[count.name]}); raise 'mix.budget', set 'weights.floor', or take the domain out"
            )
    return _plan(counts, weights, quotas, shard_bytes, seed, hash, writer, packing, TRAIN)


def _name_counted(writer: Mapping[str, object]) -> str:
    """What is counted, for a person: bytes where no tokenizer is set."""
    return "bytes" if writer.get("tokens") == "bytes" else "tokens"


def validation_plan(
    counts: Sequence[DomainCount],
    *,
    shard_bytes: int,
    seed: int,
    hash: str,
    writer: Mapping[str, object],
    packing: Packing | None = None,
) -> Plan:
    """Quotas, phases and the number of shards of the validation split: every document that is held out, once.

    Raises InputError for a domain that does not fill one sequence.
    """
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
    """The quota of a domain that holds `tokens`: its share of the budget, rounded down."""
    quota = floor(Fraction(weight) * budget)
    if exhausted == "redistribute":  # `epoch_caps` held the weights to this, except for their rounding
        quota = min(quota, floor(Fraction(max_epochs) * tokens))
    return quota


def whole_sequences(quota: int, packing: Packing | None) -> int:
    """The quota that is written: sequences that are cut from the stream are whole."""
    return quota if packing is None or packing.whole else quota - quota % packing.length


def _plan(
    counts: Sequence[DomainCount],
    weights: Mapping[str, str],
    quotas: Mapping[str, int],
    shard_bytes: int,
    seed: int,
    hash: str,
    writer: Mapping[str, object],
    packing: Packing | None,
    split: str,
) -> Plan:
    domains = tuple(
        DomainPlan(
            c.name,
            weights[c.name],
            whole_sequences(quotas[c.name], packing),
            c.rows,
            c.tokens,
            c.bytes,
            c.largest,
            c.multiset,
            phase_of(seed, c.name),
        )
        for c in sorted(counts, key=lambda c: c.name.encode())
    )
    return Plan(domains, shard_count(domains, shard_bytes, packing), seed, hash, dict(writer), packing, split)


def phase_of(seed: int, name: str) -> int:
    """The domain's phase, as the numerator over 2^32."""
    return key64(seed, name, "phase") >> (64 - PHASE_BITS)


def shard_count(domains: Sequence[DomainPlan], shard_bytes: int, packing: Packing | None = None) -> int:
    """ceil(selected bytes / size); more where a shard would have over a million rows, and at most as many as there are rows.

    With very long documents some of so many shards may come out empty (`largest_full_shard_count`).
    """
    selected = sum(Fraction(d.quota * d.bytes, d.tokens) for d in domains)
    if packing:
        rows = sum(-(-d.quota // packing.length) for d in domains)
    else:
        rows = sum(ceil(Fraction(d.quota * d.rows, d.tokens)) for d in domains)
    return max(1, min(max(ceil(selected / shard_bytes), -(-rows // MOST_ROWS_PER_SHARD)), rows))


def largest_full_shard_count(plan: Plan) -> int:
    """A number of shards of which none is empty: each holds more than Q / S - m tokens of a domain, so S < Q / m is enough."""
    return max(1, *((d.quota - 1) // plan.bound(d) for d in plan.domains))


def shards_at(anchor: npt.NDArray[np.int64], quota: npt.NDArray[np.int64], shards: int) -> npt.NDArray[np.int64]:
    """(rows,) floor(S p / Q): the shard of each anchor, of `shards` in all. Q is below 2^62.

    The quotient of floats is off by one at most; the remainder, whose product wraps around 2^64 but is small, tells.
    """
    found = np.floor(anchor / quota * shards).astype(np.int64)
    with np.errstate(over="ignore"):
        left = (anchor.astype(np.uint64) * np.uint64(shards) - found.astype(np.uint64) * quota.astype(np.uint64)).astype(np.int64)
    return found - (left < 0) + (left >= quota)


def shard_spread(plan: Plan) -> int:
    """The most bytes by which a shard is off the mean shard: the sum of one largest document (or sequence) for each domain."""
    return sum(ceil(Fraction(plan.bound(d) * d.bytes, d.tokens)) for d in plan.domains)
