"""The colours of plots and page, for light and for dark: told apart by the colour-blind as well.

Series take the Okabe-Ito palette, lightened for dark grounds; plots give each a marker of its own besides.
"""

from __future__ import annotations

from collections.abc import Iterable

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
