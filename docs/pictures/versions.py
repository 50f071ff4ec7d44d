"""What names what in a dataset: tags, versions, manifests, tables and builds, at the paths of `store/paths.py`."""

from __future__ import annotations

from collections.abc import Iterator

from chameleon_data.store.paths import BUILDS, MANIFESTS, TABLES, TAGS, VERSIONS
from pictures.drawing import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, arrow, box, line, picture, words

COLUMNS = (8.0, 168.0, 328.0)
WIDE, HEIGHT, STEP = 144, 44, 74
FIRST = 40


def draw() -> str:
    title = (
        "A tag points to a version, a version to its manifest, a manifest to tables and to a build; two versions share one build"
    )
    return picture(title, FIRST + 5 * STEP + 8, [*_names(), *_files()])


def _names() -> Iterator[str]:
    yield words(8, 20, "each name below is written once, and never again", bold=True)


def _files() -> Iterator[str]:
    tag = _at(2, 0)
    yield from _node(tag, RED, "tag prod", f"{TAGS.rpartition('/')[2]}/prod/00000002")
    yield arrow((tag[0] + WIDE / 2, tag[1] + HEIGHT), (tag[0] + WIDE / 2, tag[1] + STEP - 2))
    yield words(COLUMNS[0], _at(0, 0)[1] + 18, "a moved tag is a new file;")
    yield words(COLUMNS[0], _at(0, 0)[1] + 36, "the last one holds")
    for number in (1, 2, 3):
        version, manifest, tables = (_at(number - 1, row) for row in (1, 2, 3))
        yield from _node(version, BLUE, f"version v{number}", f"{VERSIONS.rpartition('/')[2]}/v0000000{number}")
        yield from _node(manifest, VIOLET, "manifest", f"{MANIFESTS.rpartition('/')[2]}/<sha256>")
        yield from _node(tables, ORANGE, "its tables", f"{TABLES.rpartition('/')[2]}/<sha256>")
        for above in (version, manifest):
            yield arrow((above[0] + WIDE / 2, above[1] + HEIGHT), (above[0] + WIDE / 2, above[1] + STEP - 2))
        middle, bottom = tables[0] + WIDE / 2, tables[1] + HEIGHT
        yield arrow((middle, bottom), (middle, bottom + STEP - HEIGHT - 2))
    (x, y), (other, _) = _at(0, 4), _at(1, 4)
    yield from _node((x, y), GREEN, "shards of a plan", f"{BUILDS}/<plan digest>")
    yield from _node((other, y), GREEN, "shards of another plan, for both", f"{BUILDS}/<plan digest>", 2 * WIDE + 16)
    yield line([(8, y + HEIGHT + 14), (472, y + HEIGHT + 14)], GREY, 0.5)


def _at(column: int, row: int) -> tuple[float, float]:
    return COLUMNS[column], FIRST + STEP * row


def _node(place: tuple[float, float], colour: str, name: str, path: str, wide: float = WIDE) -> Iterator[str]:
    x, y = place
    yield box(x, y, wide, HEIGHT, colour, rounded=6)
    yield words(x + wide / 2, y + 18, name, "middle", "#fff", bold=True)
    yield words(x + wide / 2, y + 36, path, "middle", "#fff", small=True)
