"""Packing one domain's documents, against loops over documents and tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_data.plan.packing import pack
from chameleon_data.plan.plan import PHASE_BITS, DomainPlan, Packing

PADDING = 999


def domain_of(tokens: list[int], quota: int, shards: int, phase: int, packing: Packing) -> tuple[DomainPlan, list[int]]:
    """A domain, and where its shards begin and the last one ends."""
    total = sum(tokens)
    domain = DomainPlan("a", ("1",), (quota,), len(tokens), total, 2 * total, max(tokens), 0, phase)
    return domain, domain.bounds([shards], packing, range(shards + 1)).tolist()


def pieces_in_a_loop(tokens: list[int], length: int, phase: int) -> list[tuple[int, int, int, int]]:
    """(document, place in the stream, tokens) of every piece, with its anchor."""
    pieces: list[tuple[int, int, int, int]] = []
    offset = 0
    for document, size in enumerate(tokens):
        for before in range(0, size, length):
            piece = min(length, size - before)
            pieces.append((offset + before + (piece * phase >> PHASE_BITS), document, offset + before, piece))
        offset += size
    return pieces


documents = st.lists(st.integers(1, 40), min_size=1, max_size=30)
phases = st.integers(0, 2**PHASE_BITS - 1)


@settings(deadline=None)
@given(documents, st.integers(2, 16), st.integers(1, 4), phases)
def test_whole_documents_fill_sequences_one_after_the_other(tokens: list[int], length: int, shards: int, phase: int) -> None:
    packing = Packing(length, whole=True)
    total = sum(tokens)
    domain, bounds = domain_of(tokens, total, shards, phase, packing)
    ids = np.arange(total, dtype=np.uint32) % PADDING
    offset = np.cumsum(tokens) - tokens
    for shard in range(shards):
        expected: list[list[int]] = []
        named: list[int] = []
        begun: list[list[int]] = []
        for anchor, document, place, size in pieces_in_a_loop(tokens, length, phase):
            if bounds[shard] <= anchor < bounds[shard + 1]:
                if not expected or len(expected[-1]) + size > length:
                    expected.append([])
                    begun.append([])
                    named.append(document)
                if place == offset[document]:
                    begun[-1].append(len(expected[-1]))
                expected[-1] += ids[place : place + size].tolist()
        packed = pack(domain, packing, (bounds[shard], bounds[shard + 1]), offset, np.array(tokens), ids, PADDING)
        assert packed.tokens.tolist() == [len(row) for row in expected]
        assert packed.document.tolist() == named
        assert packed.begun.tolist() == [len(starts) for starts in begun]
        assert packed.starts.tolist() == [at for starts in begun for at in starts]
        assert packed.ids.tolist() == [row + [PADDING] * (length - len(row)) for row in expected]


@settings(deadline=None)
@given(documents, st.integers(2, 16), st.integers(1, 4), phases)
def test_across_documents_the_shards_are_the_stream_cut_every_so_many_tokens(
    tokens: list[int], length: int, shards: int, phase: int
) -> None:
    packing = Packing(length, whole=False)
    total = sum(tokens)
    quota = total - total % length
    domain, bounds = domain_of(tokens, quota, shards, phase, packing)
    ids = np.arange(total, dtype=np.uint32)
    offset = np.cumsum(tokens) - tokens
    rows: list[int] = []
    begins: list[int] = []
    for shard in range(shards):
        begin, end = bounds[shard : shard + 2]
        here = np.flatnonzero((offset < end) & (offset + tokens > begin))
        if begin == end:
            continue
        some = ids[offset[here[0]] : offset[here[-1]] + tokens[here[-1]]]
        packed = pack(domain, packing, (bounds[shard], bounds[shard + 1]), offset[here], np.array(tokens)[here], some, PADDING)
        first = packed.ids[:, 0].astype(np.int64)
        assert (packed.tokens == length).all()
        assert (packed.anchor == first + (length * phase >> PHASE_BITS)).all()
        assert (offset[here[packed.document]] <= first).all()
        assert (first < (offset + tokens)[here[packed.document]]).all()
        begins += (np.repeat(first, packed.begun) + packed.starts).tolist()
        assert (packed.starts < length).all()
        rows += packed.ids.reshape(-1).tolist()
    assert rows == list(range(quota))
    assert begins == [at for at in offset.tolist() if at < quota]


@pytest.mark.parametrize("whole", [True, False])
def test_a_shard_without_sequences(whole: bool) -> None:
    packing = Packing(4, whole)
    domain, bounds = domain_of([8], 4, 4, 0, packing)
    empty = np.zeros(0, np.int64)
    none = np.zeros(0, np.uint16)
    packed = [pack(domain, packing, (bounds[s], bounds[s + 1]), empty, empty, none, PADDING) for s in range(1, 4)]
    assert [len(shard.tokens) for shard in packed] == [0, 0, 0]
