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

*Stages* follow each other, with weights, quotas Q_i and S_i shards of their own; most plans have one. A domain's stream runs on
through them. With C_i the sum of its quotas up to stage i, the document with anchor p belongs to stage i where
C_(i-1) <= p < C_i, and all above holds in the stage with p - C_(i-1) in the place of p. Q_i is 0 where a domain is absent.

Stages that are added to others have a plan and a folder of their own. Their plan *begins* at the C of each domain at which the
plan before it ends, so it goes on with the same streams, and what was written stays as it is.

*Packed* into sequences of L tokens, every document followed by end-of-text, the same bounds hold with L in the place of m:

    cross   The stream of tokens is cut every L: sequence i is its tokens i L to (i + 1) L, as if it were a document of L tokens.
            The quota is rounded down to whole sequences, so a tail of less than L tokens is not written and nothing is padded.
    whole   A document longer than L is cut into pieces of L and a rest. Pieces have anchors as documents have. A sequence takes
            the next pieces of its domain in its shard as long as they fit; what is left of it is padding.

Why: docs/decisions/039-cut-at-the-quota.md, docs/decisions/040-shards-are-not-taken-over.md, 041-limits-of-a-plan.md,
docs/decisions/182-stages-in-one-stream.md, docs/decisions/183-stages-added.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from chameleon_data.arrays import I64
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
    """One domain's place in the mixture. The integers decide the bytes; `weights` are what they came from."""

    name: str
    weights: tuple[str, ...]
    """Share of the tokens of each stage, a decimal as recorded; "0" where the domain is absent."""
    quotas: tuple[int, ...]
    """Tokens to write in each stage, Q_i."""
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
    begin: int = 0
    """The anchor at which the first stage begins: the quotas of the stages before this plan."""

    @property
    def quota(self) -> int:
        """Tokens to write in all stages of this plan."""
        return sum(self.quotas)

    @property
    def begins(self) -> tuple[int, ...]:
        """(stages + 1,) the anchors at which the stages begin, and the one behind the last."""
        return tuple(accumulate(self.quotas, initial=self.begin))

    @property
    def epochs(self) -> int:
        """Epochs of the stream up to the end of the last stage, the last one in part; at least one."""
        return max(1, -(-self.begins[-1] // self.tokens))

    def bounds(self, shards: Sequence[int], packing: Packing | None, numbers: Sequence[int]) -> npt.NDArray[np.int64]:
        """(numbers,) where these shards begin, where the stages have so many shards: in a stage the anchors ceil(s Q / S) behind
        its first one; the end of the stages for the number behind the last shard. s Q passes 2^63, so these are made of Python
        integers.

        Packed across documents, they are tokens of the stream: L for each sequence whose anchor is below s Q / S.
        """
        firsts, begins, found = tuple(accumulate(shards, initial=0)), self.begins, []
        for number in numbers:
            stage = min(bisect_right(firsts, number), len(shards)) - 1
            found.append(begins[stage] + self._bound(stage, shards[stage], packing, number - firsts[stage]))
        return np.array(found, np.int64)

    def _bound(self, stage: int, n: int, packing: Packing | None, s: int) -> int:
        """Tokens from the beginning of the stage to that of its shard `s`, of `n`."""
        q = self.quotas[stage]
        if packing is None or packing.whole or s == n:
            return -(-s * q // n)
        length, first = packing.length, (packing.length * self.phase) >> PHASE_BITS
        return length * max(0, -(-(s * q - first * n) // (n * length)))


@dataclass(frozen=True)
class Plan:
    """One split, planned: every integer that decides where its documents go."""

    domains: tuple[DomainPlan, ...]
    """In byte order of name."""
    stage_shards: tuple[int, ...]
    """Number of shards of each stage, S_i."""
    seed: int
    hash: str
    """`input.hash` of the recipe: what the hash of a document is of."""
    writer: dict[str, object]
    """What else decides the bytes: formats, codec, level, row groups, library versions, token unit."""
    packing: Packing | None = None
    """How rows are packed; None where rows are texts."""
    split: str = TRAIN
    first_stage: int | None = None
    """Number of its first stage among those of all folders; None where one folder holds all stages."""
    first_shard: int = 0
    """Number of its first shard among those of all plans; the names of files go on from there."""

    @property
    def shards(self) -> int:
        """Number of shards of all stages."""
        return sum(self.stage_shards)

    @property
    def named_shards(self) -> int:
        """Shards of this plan and of those before it, which the names of its files count."""
        return self.first_shard + self.shards

    def stage_of(self, shard: int) -> int:
        """The stage of a shard."""
        return bisect_right(tuple(accumulate(self.stage_shards)), shard)

    def shards_of(self, domain: I64, anchor: I64) -> I64:
        """(rows,) the shard of each anchor; -1 for one before the first stage, the number of shards for one behind the last.
        `domain` is (rows,) the index."""
        begins = np.array([d.begins for d in self.domains], np.int64)
        found, first = np.where(anchor < begins[domain, 0], np.int64(-1), np.int64(self.shards)), 0
        for stage, shards in enumerate(self.stage_shards):
            begin, end = begins[domain, stage], begins[domain, stage + 1]
            here = np.flatnonzero((begin <= anchor) & (anchor < end))
            found[here] = first + shards_at(anchor[here] - begin[here], (end - begin)[here], shards)
            first += shards
        return found

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
                "quota": _one_or_list(d.quotas),
                "phase": d.phase,
                **({"begin": d.begin} if self.first_shard else {}),
            }
            for d in self.domains
        }
        return fingerprint(
            {
                "plan_format": PLAN_FORMAT,
                "hash": [HASH_FUNCTION, self.hash],
                "seed": self.seed,
                "domains": domains,
                "shards": _one_or_list(self.stage_shards),
                "writer": self.writer,
                "split": self.split,
                "packing": [self.packing.length, self.packing.whole] if self.packing else None,
                **({"first_shard": self.first_shard} if self.first_shard else {}),
            }
        )

    def bound(self, domain: DomainPlan) -> int:
        """The most tokens by which a domain is off its share, in the whole, in a shard and after a row."""
        return self.packing.length if self.packing else domain.largest


def _one_or_list(of_stages: tuple[int, ...]) -> int | list[int]:
    """The digest of a plan of one stage is over a number, not over a list of one."""
    return of_stages[0] if len(of_stages) == 1 else list(of_stages)


@dataclass(frozen=True)
class StageTarget:
    """What a stage is to hold."""

    budget: int
    """Tokens to write."""
    weights: Mapping[str, str]
    """Domain -> decimal, as recorded; they sum to one. A domain that is not named is absent."""


def total_weights(stages: Sequence[StageTarget]) -> dict[str, str]:
    """Domain -> its weight in all stages together, as a decimal."""
    if len(stages) == 1:
        return dict(stages[0].weights)
    total, sums = sum(stage.budget for stage in stages), dict[str, Fraction]()
    for stage in stages:
        for name, weight in stage.weights.items():
            sums[name] = sums.get(name, Fraction(0)) + Fraction(weight) * stage.budget
    return {name: str(float(tokens / total)) for name, tokens in sums.items()}


def divide_budget(budget: int, shares: Sequence[Fraction]) -> tuple[int, ...]:
    """The tokens of each stage, from the stages' shares of them; they sum to the budget."""
    ends = tuple(accumulate(shares))
    tokens = [0, *(floor(budget * end / ends[-1]) for end in ends)]
    return tuple(end - begin for begin, end in pairwise(tokens))


def epoch_caps(
    counts: Sequence[DomainCount], budget: int, max_epochs: float, exhausted: str, used: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Domain -> the largest weight that its tokens allow; empty unless `exhausted` is `redistribute`, which gives the rest away.

    `used`: domain -> tokens that earlier stages write of it. Raises InputError where the whole corpus cannot give the budget.
    """
    used = used or {}
    if exhausted == "repeat":
        return {}
    limit = max_epochs if exhausted == "redistribute" else 1.0
    held = sum(floor(Fraction(limit) * c.tokens) - used.get(c.name, 0) for c in counts)
    if held < budget:
        advice = "lower 'mix.budget', raise 'mix.max_epochs', or set 'mix.exhausted: repeat'"
        if exhausted == "fail":
            advice = "lower 'mix.budget' or set 'mix.exhausted' to 'redistribute' or 'repeat'"
        raise InputError(
            f"mix.budget: {budget:,} is more than {limit:g} epoch(s) of every domain hold, which is {held:,}, and "
            f"'mix.exhausted: {exhausted}' allows no more; {advice}"
        )
    if exhausted == "fail":
        return {}
    return {c.name: max(0.0, limit * c.tokens - used.get(c.name, 0)) / budget for c in counts}


def stage_quotas(
    tokens: Mapping[str, int], stages: Sequence[StageTarget], max_epochs: float, exhausted: str, packing: Packing | None
) -> tuple[dict[str, int], ...]:
    """Domain -> quota, for each stage: its share of the stage's budget, rounded down, and where the rest is redistributed no more
    than earlier stages left of its epochs. `tokens`: domain -> tokens of its documents."""
    used, quotas = dict.fromkeys(tokens, 0), []
    for stage in stages:
        of_stage = {
            name: whole_sequences(
                quota_of(held, stage.weights.get(name, "0"), stage.budget, max_epochs, exhausted, used[name]), packing
            )
            for name, held in tokens.items()
        }
        quotas.append(of_stage)
        used = {name: before + of_stage[name] for name, before in used.items()}
    return tuple(quotas)


def make_plan(
    counts: Sequence[DomainCount],
    stages: Sequence[StageTarget],
    *,
    max_epochs: float,
    exhausted: str,
    shard_bytes: int,
    seed: int,
    hash: str,
    writer: Mapping[str, object],
    packing: Packing | None = None,
) -> Plan:
    """Quotas, phases and the number of shards of the train split.

    Raises InputError where a domain's quota in a stage is nothing, or more in all than `exhausted: fail` allows;
    `cuts.finish_layout` refuses a quota that no document fits.
    """
    quotas, unit = stage_quotas({c.name: c.tokens for c in counts}, stages, max_epochs, exhausted, packing), _name_counted(writer)
    for count in counts:
        quota = sum(of_stage[count.name] for of_stage in quotas)
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
        for number, (stage, of_stage) in enumerate(zip(stages, quotas, strict=True), 1):
            if count.name in stage.weights and of_stage[count.name] == 0:
                _refuse_empty_quota(count.name, stage, number if len(stages) > 1 else None, unit, packing)
        if quota == 0:
            raise InputError(f"domain {count.name!r} is in no stage; lower their 'drop_below', or take the domain out")
    weights = {c.name: tuple(stage.weights.get(c.name, "0") for stage in stages) for c in counts}
    return _plan(counts, weights, quotas, shard_bytes, seed, hash, writer, packing, TRAIN)


def divide_plan(plan: Plan, folders: Sequence[int]) -> tuple[Plan, ...]:
    """The plan of each folder, which holds so many stages; a later one goes on where the one before it ends."""
    plans = []
    for first, end in pairwise(accumulate(folders, initial=0)):
        domains = tuple(
            replace(d, weights=d.weights[first:end], quotas=d.quotas[first:end], begin=d.begins[first]) for d in plan.domains
        )
        shards = plan.stage_shards[first:end]
        number = first if len(folders) > 1 else None
        plans.append(
            replace(plan, domains=domains, stage_shards=shards, first_stage=number, first_shard=sum(plan.stage_shards[:first]))
        )
    return tuple(plans)


def _refuse_empty_quota(name: str, stage: StageTarget, number: int | None, unit: str, packing: Packing | None) -> None:
    share = floor(Fraction(stage.weights[name]) * stage.budget)
    least = f", less than one sequence of {packing.length:,}" if packing and share else ""
    where, absent = (f" of stage {number}", ", let it be absent by the stage's 'drop_below'") if number else ("", "")
    raise InputError(
        f"domain {name!r} would get {'none' if share == 0 else f'{share:,}'} of {stage.budget:,} {unit}{where}{least} "
        f"(weight {stage.weights[name]}); raise 'mix.budget', set 'weights.floor'{absent}, or take the domain out"
    )


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
    weights = {c.name: (f"{c.tokens / total:.6f}",) for c in counts}
    quotas = {c.name: whole_sequences(c.tokens, packing) for c in counts}
    return _plan(counts, weights, (quotas,), shard_bytes, seed, hash, writer, packing, VALIDATION)


def quota_of(tokens: int, weight: str, budget: int, max_epochs: float, exhausted: str, used: int = 0) -> int:
    """The quota of a domain that holds `tokens`: its share of the budget, rounded down. Earlier stages write `used` of it."""
    quota = floor(Fraction(weight) * budget)
    if exhausted == "redistribute":  # `epoch_caps` held the weights to this, except for their rounding
        quota = min(quota, floor(Fraction(max_epochs) * tokens) - used)
    return quota


def whole_sequences(quota: int, packing: Packing | None) -> int:
    """The quota that is written: sequences that are cut from the stream are whole."""
    return quota if packing is None or packing.whole else quota - quota % packing.length


def _plan(
    counts: Sequence[DomainCount],
    weights: Mapping[str, tuple[str, ...]],
    quotas: Sequence[Mapping[str, int]],
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
            tuple(of_stage[c.name] for of_stage in quotas),
            c.rows,
            c.tokens,
            c.bytes,
            c.largest,
            c.multiset,
            phase_of(seed, c.name),
        )
        for c in sorted(counts, key=lambda c: c.name.encode())
    )
    shards = tuple(count_shards(domains, stage, shard_bytes, packing) for stage in range(len(quotas)))
    return Plan(domains, shards, seed, hash, dict(writer), packing, split)


def phase_of(seed: int, name: str) -> int:
    """The domain's phase, as the numerator over 2^32."""
    return key64(seed, name, "phase") >> (64 - PHASE_BITS)


def count_shards(domains: Sequence[DomainPlan], stage: int, shard_bytes: int, packing: Packing | None = None) -> int:
    """Shards of a stage: ceil(selected bytes / size); more where a shard would have over a million rows, and at most as many as
    there are rows.

    With very long documents some of so many shards may come out empty (`largest_full_shard_counts`).
    """
    quotas = [(d, d.quotas[stage]) for d in domains]
    selected = sum(Fraction(quota * d.bytes, d.tokens) for d, quota in quotas)
    if packing:
        rows = sum(-(-quota // packing.length) for _, quota in quotas)
    else:
        rows = sum(ceil(Fraction(quota * d.rows, d.tokens)) for d, quota in quotas)
    return max(1, min(max(ceil(selected / shard_bytes), -(-rows // MOST_ROWS_PER_SHARD)), rows))


def largest_full_shard_counts(plan: Plan) -> tuple[int, ...]:
    """For each stage a number of shards of which none is empty: each holds more than Q / S - m tokens of a domain, so S < Q / m
    is enough."""
    stages = range(len(plan.stage_shards))
    return tuple(max(1, *((d.quotas[stage] - 1) // plan.bound(d) for d in plan.domains)) for stage in stages)


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
