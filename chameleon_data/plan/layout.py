"""A plan laid out: the streams of all domains side by side, so that rows of any number of domains are one array operation.

The slots, segments and copies of all domains lie behind one another in `Slots`. `routing.py` looks every row up in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chameleon_data.arrays import I64, U64
from chameleon_data.plan.order import order_keys
from chameleon_data.plan.plan import DomainCount, Plan
from chameleon_data.plan.streams import CutCopies, PlacedStream, Segments, Stream, place_stream


@dataclass(frozen=True)
class Slots:
    """The slots of all streams of a layout."""

    begin: I64
    """(domains,) number of each domain's first slot; its slots are numbered on from there as in its segments."""
    depth: I64
    """(domains,) bits of the hash that tell the domain's buckets apart."""
    epochs: I64
    """(domains,)"""
    first_salt: I64
    """(domains,) index into `salts` of the domain's first epoch."""
    salts: U64
    """(epochs of all domains,) by domain and epoch."""
    start: I64
    """(slots,) token offset in the domain's stream."""
    shard: npt.NDArray[np.int32]
    """(slots,) the one shard of each, or NO_SHARD, or SEVERAL_SHARDS."""
    segments: Segments
    """With the numbers of slots as here."""
    copies: CutCopies
    """By (part, hi, lo, domain)."""
    copies_domain: I64
    """(documents,) domain of each of `copies`."""

    @classmethod
    def of(cls, placed: Sequence[PlacedStream]) -> Slots:
        sizes = np.array([one.start.size for one in placed], np.int64)
        begin = np.cumsum(sizes) - sizes
        epochs = np.array([len(one.start) for one in placed], np.int64)
        segments = _concatenate(Segments, [one.segments for one in placed])
        segments["slot"] += np.repeat(begin, [len(one.segments.slot) for one in placed])
        copies = _concatenate(CutCopies, [one.copies for one in placed])
        domain = np.repeat(np.arange(len(placed)), [len(one.copies.part) for one in placed])
        order = np.lexsort((domain, copies["lo"], copies["hi"], copies["part"]))
        return cls(
            begin=begin,
            depth=np.array([one.start.shape[1].bit_length() - 1 for one in placed], np.int64),
            epochs=epochs,
            first_salt=np.cumsum(epochs) - epochs,
            salts=np.concatenate([np.array(one.salts, np.uint64) for one in placed]),
            start=np.concatenate([one.start.reshape(-1) for one in placed]),
            shard=np.concatenate([one.shard.reshape(-1) for one in placed]),
            segments=Segments(**segments),
            copies=CutCopies(**{name: column[order] for name, column in copies.items()}),
            copies_domain=domain[order],
        )

    def slot(self, domain: I64, epoch: I64, hi: U64) -> I64:
        """(rows,) the slot that each document is in."""
        domain, epoch = _one_if_equal(domain), _one_if_equal(epoch)
        depth = self.depth[domain]
        bucket = (hi >> np.minimum(64 - depth, 63).astype(np.uint64)).astype(np.int64)
        return bucket * (depth > 0) + (self.begin[domain] + (epoch << depth))

    def keys(self, domain: I64, epoch: I64, hi: U64, lo: U64, copy: I64) -> tuple[I64, U64, U64]:
        """(rows,) what orders documents: number of their domain and epoch, key and tie (`order_keys`).

        The number is one for all rows where they have one domain and epoch.
        """
        salt = self.first_salt[_one_if_equal(domain)] + _one_if_equal(epoch)
        return salt, *order_keys(hi, lo, copy, self.salts[salt])


@dataclass(frozen=True)
class Layout:
    """A plan, and the stream of each of its domains, in its order."""

    plan: Plan
    streams: tuple[Stream, ...]
    slots: Slots

    @property
    def tokens(self) -> I64:
        """(shards,) of all domains."""
        return np.asarray(np.sum([s.tokens for s in self.streams], axis=0), np.int64)


def place_streams(plan: Plan, counts: Sequence[DomainCount], documents: pa.Table) -> Layout:
    """All streams of a plan; `documents` as in `place_stream`, of all domains."""
    by_name = {c.name: c for c in counts}
    dictionary = documents["domain"].combine_chunks().dictionary_encode()
    code_of = {name: code for code, name in enumerate(dictionary.dictionary.to_pylist())}
    code = dictionary.indices.to_numpy()
    order = np.argsort(code, kind="stable")  # once for all domains
    ends = np.searchsorted(code[order], np.arange(len(code_of) + 1))
    placed = []
    for domain in plan.domains:
        at = code_of.get(domain.name)
        rows = order[:0] if at is None else order[ends[at] : ends[at + 1]]
        placed.append(place_stream(plan, domain, by_name[domain.name].histogram, documents.take(rows)))
    return Layout(plan, tuple(one.stream for one in placed), Slots.of(placed))


def _concatenate(kind: type[Segments] | type[CutCopies], tables: Sequence[Segments | CutCopies]) -> dict[str, npt.NDArray[Any]]:
    """Name of a field -> its column of all tables."""
    return {field.name: np.concatenate([getattr(table, field.name) for table in tables]) for field in fields(kind)}


def _one_if_equal(column: I64) -> I64:
    """One value where all are equal: with one domain and epoch, which is often, that saves two thirds of the time."""
    return column[:1] if len(column) and (column == column[0]).all() else column
