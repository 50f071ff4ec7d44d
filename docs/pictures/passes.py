"""What a build does again: its passes, for a first build, one that was killed, and recipes that changed, as the table of
docs/howto/mix-again.md has it."""

from __future__ import annotations

from collections.abc import Iterator

from pictures.drawing import BLUE, GREY, TEXT, WIDTH, box, line, picture, words

PASSES = ("survey", "embed", "weigh", "write")
CASES: dict[str, tuple[float, float, float, float]] = {
    "the first build": (1, 1, 1, 1),
    "killed in writing, run again": (0, 0, 0, 0.5),
    "another budget or bound": (0, 0, 1, 1),
    "another format": (0, 0, 0, 1),
    "a domain more": (0.25, 0.25, 1, 1),
    "another embedder": (0, 1, 1, 1),
}
"""What is built -> the part of each pass that is done; the rest is read from records."""
COLUMN, ROW, FIRST, LEFT = 62, 40, 62, 8


def draw() -> str:
    title = "Passes of a build and what is done again: a killed build goes on in writing, other weights survey and embed nothing"
    return picture(title, FIRST + ROW * len(CASES) + 44, _table())


def _table() -> Iterator[str]:
    begin = WIDTH - LEFT - COLUMN * len(PASSES)
    for number, name in enumerate(PASSES):
        yield words(begin + COLUMN * (number + 0.5), FIRST - 12, name, "middle", bold=True)
    for row, (case, done) in enumerate(CASES.items()):
        y = FIRST + ROW * row
        yield line([(LEFT, y), (WIDTH - LEFT, y)], GREY, 0.5)
        yield words(LEFT, y + 25, case)
        for number, part in enumerate(done):
            x = begin + COLUMN * number + 7
            yield box(x, y + 9, COLUMN - 14, ROW - 18, GREY, hollow=True)
            if part:
                yield box(x, y + 9, (COLUMN - 14) * part, ROW - 18, BLUE)
    y = FIRST + ROW * len(CASES) + 24
    yield box(LEFT, y - 12, 24, 14, BLUE)
    yield words(LEFT + 32, y, "done")
    yield box(LEFT + 84, y - 12, 24, 14, GREY, hollow=True)
    yield words(LEFT + 116, y, "read from the records of before", colour=TEXT)
    yield words(LEFT, 22, "rows that were kept are not read from the corpus again", bold=True)
