"""A matplotlib figure as PNG, and as SVG that can stand alone or inside a page beside others.

Knows nothing of what is drawn. Needs matplotlib, which is imported here only when something is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nodekiln.core import figures
from nodekiln.experiment.report.theme import GRID, INK, MUTED, dark_rules

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_PNG_DPI = 160
_FONTS = "system-ui, 'DejaVu Sans', 'Segoe UI', Helvetica, Arial, sans-serif"
_DECIMALS = re.compile(r"-?\d+\.\d{3,}")

_SETTINGS = {
    "text.parse_math": False,  # a label may hold dollars
    "svg.fonttype": "none",  # text stays text: to be found, read aloud, and small
    "svg.hashsalt": "nodekiln",  # the same drawing gives the same file
    "font.family": "DejaVu Sans",  # comes with matplotlib, and is wider than what readers have
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


@contextmanager
def drawing() -> Iterator[None]:
    """While a figure is made and written: our settings, and no warnings about glyphs that a font lacks."""
    with figures.settings(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_png(figure: Figure) -> bytes:
    """On white, for where SVG can't go."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_PNG_DPI, facecolor="white")
    return file.getvalue()


def to_svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """An <svg> element whose ids all begin with `name`; on no ground of its own."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(file.getvalue())  # noqa: S314 (matplotlib wrote it a moment ago)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    _keep_needed_ids(root, name)
    for element in root.iter():
        if path := element.get("d"):
            element.set("d", _DECIMALS.sub(lambda found: f"{float(found[0]):.2f}", path))
        if style := element.get("style"):
            element.set("style", style.replace("'DejaVu Sans'", _FONTS))
    root.set("class", "plot")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-text")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(f"{{{_SVG}}}{tag}", id=f"{name}-{'text' if place else 'title'}")
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def alone(svg: str) -> str:
    """An <svg> element as a file of its own, which turns dark with its reader's settings."""
    rules = "\n".join(dark_rules())
    style = f"<style>@media screen and (prefers-color-scheme: dark) {{\n{rules}\n}}</style>"
    head, end, rest = svg.partition("</desc>")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{end}{style}{rest}\n'


def _keep_needed_ids(root: ET.Element, prefix: str) -> None:
    """Drops the ids that nothing points to, and puts `prefix` before the others: a page holds several."""
    href = f"{{{_XLINK}}}href"
    needed = set()
    for element in root.iter():
        for key, value in element.items():
            if key == href and value.startswith("#"):
                needed.add(value[1:])
                element.set(key, f"#{prefix}-{value[1:]}")
            elif found := re.fullmatch(r"url\(#(.+)\)", value):
                needed.add(found[1])
                element.set(key, f"url(#{prefix}-{found[1]})")
    for element in root.iter():
        if (own := element.get("id")) is None:
            continue
        if own in needed:
            element.set("id", f"{prefix}-{own}")
        else:
            del element.attrib["id"]
