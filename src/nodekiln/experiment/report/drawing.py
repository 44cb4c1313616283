"""Share the style of all plots: figure size, scales from zero, labels beside lines, both formats.

Needs matplotlib, which is imported here only when something is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodekiln.core import figures

INK = "#1b1f24"
MUTED = "#57606a"
GRID = "#d5dae0"

_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#6a51a3")
_MARKERS = ("o", "s", "^", "D", "v", "P")

_DARK = {
    INK: "#e6e9ed",
    MUTED: "#a3adb8",
    GRID: "#3d4650",
    "#0072b2": "#56b4e9",
    "#d55e00": "#ff9350",
    "#009e73": "#35cfa5",
    "#cc79a7": "#eba6cb",
    "#b8860b": "#f0c94f",
    "#6a51a3": "#b5a4ec",
}


def series(place: int) -> tuple[str, str]:
    """Colour and marker of the series at `place`, from 0; they come round after six."""
    return _SERIES[place % len(_SERIES)], _MARKERS[place % len(_MARKERS)]


def dark_rules() -> Iterable[str]:
    """CSS rules that turn a plot's colours into those for dark grounds.

    The SVG itself keeps plain colours, so that a viewer that knows no CSS variables shows it all the same.
    The selectors name no ancestor: what stands in <defs> has none where <use> puts it.
    """
    for light, dark in _DARK.items():
        for part in ("fill", "stroke"):
            yield f'[style*="{part}: {light}"] {{ {part}: {dark} !important; }}'


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
    """Return an <svg> element whose ids all begin with `name`, with a transparent background."""
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
    """Return an <svg> element as a standalone file, which follows the reader's dark mode."""
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


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.2
"""Inches."""
_LINE = 0.075
"""Height of a line of text, as a share of the axes'; more than `_LINES` of them need a higher figure."""
_LINES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot; its files are `name`.png and `name`.svg."""

    name: str
    title: str
    text: str
    """The alternative text."""
    svg: str
    png: bytes


def finish(figure: Figure, name: str, title: str, text: str) -> Plot:
    """Return the figure in both formats."""
    svg = to_svg(figure, name=name, title=title, description=text)
    return Plot(name=name, title=title, text=text, svg=svg, png=to_png(figure))


def panels(count: int, height: float, *, columns: int = 1, same_y: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` axes that share their scales."""
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(_WIDTH, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=same_y, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def from_zero(axes: Axes) -> None:
    """Start the scale at zero, as proportional quantities require, with some room above."""
    axes.set_ylim(0, axes.dataLim.y1 * 1.08 or 1)


def label_heights(axes: Axes, heights: Sequence[tuple[float, str, str]], *, lines: int = 1) -> None:
    """Write each label in its color beside the axes, as near to its height as the others allow."""
    least, most = axes.get_ylim()
    stretch = max(1.0, len(heights) * lines / _LINES)
    if stretch > 1 and (figure := axes.get_figure(root=True)) is not None:
        figure.set_figheight(figure.get_figheight() * stretch)
    gap = (most - least) * _LINE / stretch * lines
    ordered = sorted(heights)
    places = []
    height = least - gap
    for at, _, _ in ordered:  # each above the one before
        height = max(at, height + gap)
        places.append(height)
    height = most + 2 * gap
    for place in reversed(range(len(places))):  # and what that put too high, down again
        height = min(places[place], height - gap)
        places[place] = height
    for height, (_, text, color) in zip(places, ordered, strict=True):
        axes.annotate(
            text,
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )


def legend_above(axes: Axes, columns: int) -> None:
    """Put the legend to the right of the title, where it hides nothing."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=columns,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0,
        borderpad=0.2,
    )
