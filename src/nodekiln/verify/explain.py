"""A hunk that does not fit beside the lines of the tag's file where it agrees best."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import zip_longest

from nodekiln.changes.patchfile import Hunk
from nodekiln.core.reporting import escape_unprintable
from nodekiln.verify.outcome import Side

_AROUND = 3
"""Lines of the file shown above and below."""
_LINES = 80
_CHARACTERS = 160


def explain(hunk: Hunk, content: bytes, line: int | None) -> tuple[Side, ...]:
    """What the hunk looks for on the left, on the right the file from some lines above `line` (from 1) on."""
    wanted = [_shown(each) for each in hunk.before[:_LINES]]
    if line is None:
        return tuple(Side(each, "<", None, "") for each in wanted)
    lines = content.split(b"\n")[: line - 1 + len(wanted) + _AROUND]
    above = max(0, line - 1 - _AROUND)
    sides = [
        Side("", ">", number, _shown(each)) for number, each in enumerate(lines[above : line - 1], above + 1)
    ]
    found = [_shown(each) for each in lines[line - 1 :]]
    matcher = SequenceMatcher(None, wanted, found, autojunk=False)
    for kind, left, left_end, right, right_end in matcher.get_opcodes():
        numbered = enumerate(found[right:right_end], line + right)
        for old, new in zip_longest(wanted[left:left_end], numbered):
            number, text = (None, "") if new is None else new
            mark = " " if kind == "equal" else "<" if new is None else ">" if old is None else "|"
            sides.append(Side(old or "", mark, number, text))
    return tuple(sides)


def _shown(line: bytes) -> str:
    """Without what a terminal would obey, and no longer than some screen is wide."""
    text = line.rstrip(b"\n").decode(errors="backslashreplace").expandtabs(8)
    plain = escape_unprintable(text)
    return plain if len(plain) <= _CHARACTERS else f"{plain[:_CHARACTERS]}..."
