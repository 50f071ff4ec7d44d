"""What figures are drawn on: axes, colours, markers, and inline SVG.

Figures are drawn by matplotlib in placeholder colours. The SVG has CSS variables in their places, so that it follows the page's
light and dark. Words stay words, which a browser can set in any alphabet. The same values give the same bytes.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Black would be left out of the SVG, as its default.
INK, MUTED, RULE, TARGET, WRITTEN, NATURAL, ACTED, SURFACE = (f"#00ff{n:02x}" for n in range(8))
VARIABLES = dict(
    zip(
        (INK, MUTED, RULE, TARGET, WRITTEN, NATURAL, ACTED, SURFACE),
        ("ink", "muted", "rule", "target", "written", "natural", "acted", "surface"),
        strict=True,
    )
)
"""Placeholder colour -> CSS variable of the page."""
HUES = 10
"""Colours that tell domains apart."""
SHAPES = {
    "o": '<circle cx="6" cy="6" r="4"/>', "s": '<rect x="2.4" y="2.4" width="7.2" height="7.2"/>',
    "^": '<path d="M6 1.4 10.6 10H1.4Z"/>', "D": '<path d="M6 .8 11.2 6 6 11.2 .8 6Z"/>',
}  # fmt: skip
"""Marker of matplotlib -> the same in a legend."""


def hue(index: int) -> str:
    """Placeholder of the colour of domain `index`."""
    return f"#00fe{index % HUES:02x}"


def marker(index: int) -> str:
    """Marker of domain `index`. With the colours, 40 domains look different."""
    return list(SHAPES)[(index + index // 20) % 4]


VARIABLES |= {hue(i): f"hue{i}" for i in range(HUES)}


def draw_svg(canvas: Canvas, name: str, label: str) -> Markup:
    """Inline SVG, of which a page can hold many: its ids begin with `name`, and fonts and colours are the page's."""
    stream = io.BytesIO()
    canvas.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314 - made two lines above
    width, height = (float(str(root.get(side)).removesuffix("pt")) for side in ("width", "height"))
    for node in root.iter():
        node.tag, node.tail = node.tag.rpartition("}")[2], None
        if node.tag != "text":
            node.text = None
        node.attrib = dict(_plain(name, node.tag, node.attrib))
    for parent in root.iter():
        for child in [
            c for c in parent if c.tag in ("metadata", "style") or (c.tag == "defs" and {x.tag for x in c} <= {"style"})
        ]:
            parent.remove(child)
        styles = {child.get("style") for child in parent}
        if len(parent) > 8 and len(styles) == 1 and None not in styles:  # the points of one domain
            parent.set("style", str(styles.pop()))
            for child in parent:
                del child.attrib["style"]
    root.attrib.clear()
    root.attrib |= {
        "viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}", "class": name, "role": "img",
        "aria-label": label,
    }  # fmt: skip
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree has escaped every text in it


def _plain(name: str, tag: str, attributes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Attributes without namespaces, fonts, unused ids and needless digits, and with the page's variables as colours."""
    for full, value in attributes.items():
        key = full.rpartition("}")[2]
        if key == "style":
            value = re.sub(r"font-family:[^;]*;?|font-stretch:[^;]*;?", "", value)
            value = re.sub(r"#00f[ef][0-9a-f]{2}", lambda m: f"var(--{VARIABLES[m[0]]})", value).strip()
        elif key == "id":
            value = f"{name}-{value}" if tag != "g" or value.startswith("of-") else ""
        elif key in ("href", "clip-path"):
            value = value.replace("#", f"#{name}-") if "#" in value[:5] else value
        else:
            value = re.sub(
                r"-?\d+\.\d{2,}(?:e-?\d+)?", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), " ".join(value.split())
            )
        if value:
            yield key, value


def new_axes(
    width: float, height: float, *, left: float, right: float = 12, top: float = 6, bottom: float = 34
) -> tuple[Canvas, Axes]:
    """A drawing of (width, height) pixels with these margins, and its axes without spines and ticks."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width / 72, height / 72), dpi=72)
    axes = canvas.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.set_axisbelow(True)
    return canvas, axes


def swatch(variable: str, shape: str = "s") -> Markup:
    drawn = {
        "line": '<path d="M6 0V12" fill="none" stroke-width="1.6" stroke-dasharray="3 2"/>',
        "interval": '<path d="M1 6H11M1 3V9M11 3V9" stroke-width="1.4"/><circle cx="6" cy="6" r="2" stroke="none"/>',
        "dash": '<path d="M0 6H12" fill="none" stroke-width="1.8"/>',
        "ring": '<circle cx="6" cy="6" r="3.4" fill="var(--surface)" stroke-width="1.4"/>',
        "band": '<rect y="3" width="12" height="6" stroke="none" opacity=".25"/>',
    }
    paint = f"fill:var(--{variable});stroke:{f'var(--{variable})' if shape in drawn else 'none'}"
    return Markup('<svg class="swatch" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" style="{}">{}</svg>').format(
        paint,
        Markup(drawn.get(shape) or SHAPES[shape]),  # noqa: S704 - from the tables above
    )
