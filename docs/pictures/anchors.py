"""The anchor rule, which says where a document is written. The rule is that of `plan/`; the lengths are made up, so that every
case is seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from chameleon_data.plan import streams
from chameleon_data.plan.plan import PHASE_BITS, shards_at
from pictures.drawing import COLOURS, GREY, TEXT, WIDTH, box, dot, line, picture, words

LENGTHS = np.array([90, 120, 60, 150, 60, 100, 130, 40, 30])
"""Tokens of a domain's documents, in the order of its stream."""
PHASE = int(0.4 * 2**PHASE_BITS)
"""The anchor of a document lies at this share of its tokens."""
QUOTA, SHARDS = 660, 3
LEFT, HEIGHT = 8, 30
SCALE = (WIDTH - 2 * LEFT) / float(LENGTHS.sum())
"""Units of the picture for a token."""


def find_anchors() -> list[int]:
    """The anchor of each document: where it begins in the stream, plus the phase times its tokens."""
    offsets = np.cumsum(LENGTHS) - LENGTHS
    return [int(anchor) for anchor in streams.anchors(PHASE, offsets, LENGTHS)]


def find_shards() -> list[int | None]:
    """The shard of each document. None: its anchor lies at or behind the quota, and it is not written."""
    anchors = np.array(find_anchors())
    shards = shards_at(anchors, np.full(len(anchors), QUOTA), SHARDS)
    return [int(shard) if anchor < QUOTA else None for anchor, shard in zip(anchors, shards, strict=True)]


def draw() -> str:
    title = "Documents of one domain in a row, each with its anchor; the shard in which an anchor lies gets the whole document"
    return picture(title, 348, [*_stream(), *_cuts(), *_shards()])


def _stream() -> Iterator[str]:
    yield words(LEFT, 18, "a domain’s stream: its documents in a fixed order")
    begin = 0
    for number, (length, anchor, shard) in enumerate(zip(LENGTHS.tolist(), find_anchors(), find_shards(), strict=True)):
        yield from _document(LEFT + begin * SCALE, 48, length, shard, number)
        yield dot(LEFT + anchor * SCALE, 88, _colour(shard))
        begin += length
    yield words(WIDTH - LEFT, 112, "● anchor", "end")


def _cuts() -> Iterator[str]:
    for cut in range(SHARDS + 1):
        x = LEFT + SCALE * QUOTA * cut / SHARDS
        name = "0" if cut == 0 else "quota Q" if cut == SHARDS else f"{cut}/{SHARDS} Q"
        yield line([(x, 40), (x, 122)], dashed=True)
        yield words(x, 138, name, "start" if cut == 0 else "middle")


def _shards() -> Iterator[str]:
    yield words(LEFT, 176, "a document goes, whole, where its anchor lies")
    for shard in range(SHARDS):
        y, begin = 190 + 44 * shard, 0
        chosen = [number for number, at in enumerate(find_shards()) if at == shard]
        tokens, share = int(LENGTHS[chosen].sum()), QUOTA // SHARDS
        yield words(LEFT, y + 20, f"shard {shard}")
        for number in chosen:
            yield from _document(66 + begin * SCALE, y, int(LENGTHS[number]), shard, number)
            begin += int(LENGTHS[number])
        yield words(WIDTH - LEFT, y + 20, f"{tokens} tokens, {abs(tokens - share)} off {share}", "end")
    yield words(LEFT, 340, f"off by at most the largest document, {LENGTHS.max()} tokens")


def _document(x: float, y: float, length: int, shard: int | None, number: int) -> Iterator[str]:
    yield box(x, y, length * SCALE - 2, HEIGHT, _colour(shard), hollow=shard is None)
    yield words(x + length * SCALE / 2 - 1, y + 20, chr(65 + number), "middle", TEXT if shard is None else "#fff")


def _colour(shard: int | None) -> str:
    return GREY if shard is None else COLOURS[shard]
