"""Draws docs/_static/anchors.svg, the picture of the anchor rule: `python docs/draw_anchors.py`.

The rule itself is that of `plan/plan.py`; the lengths are made up, so that every case is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).parent / "_static/anchors.svg"
LENGTHS = (90, 120, 60, 150, 60, 100, 130, 40, 30)
"""Tokens of a domain's documents, in the order of its stream."""
PHASE = 0.4
"""The anchor of a document lies at this share of its tokens."""
QUOTA, SHARDS = 660, 3
COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d")
GREY, TEXT = "#8a8f98", "#7d828b"
"""Seen on white and on black alike."""
LEFT, HEIGHT = 10, 34


def anchors() -> list[float]:
    """The anchor of each document: where it begins in the stream, plus the phase times its tokens."""
    return [sum(LENGTHS[:n]) + int(PHASE * length) for n, length in enumerate(LENGTHS)]


def shard_of(anchor: float) -> int | None:
    """The s with s Q ≤ S p < (s + 1) Q. None: at or behind the quota, not written."""
    return int(SHARDS * anchor // QUOTA) if anchor < QUOTA else None


def svg() -> str:
    body = "\n".join(f"  {line}" for line in [*_stream(), *_cuts(), *_shards()])
    style = f'font-family="system-ui, sans-serif" font-size="14" fill="{TEXT}"'
    title = "Documents of one domain in a row, each with its anchor; the shard in which an anchor lies gets the whole document"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 330" role="img" {style}>\n'
        f"  <title>{title}</title>\n{body}\n</svg>\n"
    )


def _stream() -> Iterator[str]:
    yield f'<text x="{LEFT}" y="20">a domain’s stream: its documents, one after the other, in a fixed order</text>'
    begin = LEFT
    for number, (length, anchor) in enumerate(zip(LENGTHS, anchors(), strict=True)):
        yield from _document(begin, 60, length, shard_of(anchor), number)
        yield f'<circle cx="{LEFT + anchor}" cy="104" r="4.5" fill="{_colour(shard_of(anchor))}"/>'
        begin += length
    yield f'<text x="{LEFT + 672}" y="128">● anchor</text>'


def _cuts() -> Iterator[str]:
    for cut in range(SHARDS + 1):
        x = LEFT + QUOTA * cut / SHARDS
        name = "0" if cut == 0 else "quota Q" if cut == SHARDS else f"{cut}/{SHARDS} Q"
        yield f'<line x1="{x:g}" x2="{x:g}" y1="50" y2="140" stroke="{TEXT}" stroke-width="1.5" stroke-dasharray="5 4"/>'
        yield f'<text x="{x:g}" y="158" text-anchor="{"start" if cut == 0 else "middle"}">{name}</text>'


def _shards() -> Iterator[str]:
    yield f'<text x="{LEFT}" y="200">what is written of it: a document goes, whole, where its anchor lies</text>'
    begin = LEFT
    for shard in range(SHARDS):
        left = begin
        chosen = [n for n, anchor in enumerate(anchors()) if shard_of(anchor) == shard]
        tokens, share = sum(LENGTHS[n] for n in chosen), QUOTA // SHARDS
        for number in chosen:
            yield from _document(begin, 238, LENGTHS[number], shard, number)
            begin += LENGTHS[number]
        yield f'<text x="{left}" y="228">shard {shard}</text>'
        yield f'<text x="{left}" y="294">{tokens} tokens, {abs(tokens - share)} off {share}</text>'
        begin += 30
    bound = f"off by at most the largest document ({max(LENGTHS)}), in every shard and in every prefix"
    yield f'<text x="{LEFT}" y="322">{bound}</text>'


def _document(x: float, y: float, length: int, shard: int | None, number: int) -> Iterator[str]:
    shape = f'x="{x:g}" y="{y:g}" width="{length - 3}" height="{HEIGHT}" rx="4"'
    if shard is None:
        yield f'<rect {shape} fill="none" stroke="{GREY}" stroke-dasharray="3 3"/>'
    else:
        yield f'<rect {shape} fill="{_colour(shard)}"/>'
    colour = TEXT if shard is None else "#fff"
    yield f'<text x="{x + length / 2 - 1.5:g}" y="{y + 22:g}" text-anchor="middle" fill="{colour}">{chr(65 + number)}</text>'


def _colour(shard: int | None) -> str:
    return GREY if shard is None else COLOURS[shard]


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
