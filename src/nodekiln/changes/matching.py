"""Where in a file the lines of a hunk stand, exactly and by git's anchors; or why nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from nodekiln.changes.patchfile import Hunk
from nodekiln.core.edit import Misfit

_PLACES_TOLD = 5
_CHARACTERS_TOLD = 80


def find(lines: list[bytes], hunk: Hunk, wanted: list[bytes], expected: int | None) -> int | list[int]:
    """Where the wanted lines stand, if they stand at `expected` or in one place only; else all the places."""
    last = len(lines) - len(wanted)
    if not wanted:
        places = [] if lines else [0]  # nothing to hold on to, unless the file is empty as well
    else:
        places = [
            at
            for at in _starts(lines, wanted[0], last)
            if (not hunk.to_bottom or at == last)
            and not (hunk.from_top and at)
            and lines[at : at + len(wanted)] == wanted
        ]
    if expected in places:
        return expected
    return places[0] if len(places) == 1 else places


def _starts(lines: list[bytes], line: bytes, last: int) -> Iterator[int]:
    """Where the line stands, up to `last`. list.index compares six times as fast as a loop here."""
    at = -1
    with suppress(ValueError):
        while True:
            at = lines.index(line, at + 1, max(0, last + 1))
            yield at


def why_not(
    lines: list[bytes], hunk: Hunk, expected: int, places: list[int]
) -> tuple[Misfit, str, int | None]:
    """Why a hunk has no place: misfit, text and the line, from 1, where it agrees best."""
    if places:
        told = ", ".join(str(at + 1) for at in places[:_PLACES_TOLD])
        more = ", ..." if len(places) > _PLACES_TOLD else ""
        text = f"its lines moved, and now stand in {len(places)} places: lines {told}{more}"
        return Misfit.SEVERAL_MATCHES, text, places[0] + 1
    done = find(lines, hunk, hunk.after, hunk.start)
    if isinstance(done, int):
        return Misfit.ALREADY_THERE, f"line {done + 1} reads as if this were done already", done + 1
    wanted = hunk.before
    if not wanted:
        return Misfit.NO_MATCH, "it has no context to go by; make the patch with some", None
    at, agreeing = _nearest(lines, wanted, expected)
    if not agreeing:
        return Misfit.NO_MATCH, f"none of its {len(wanted)} lines is there", None
    if agreeing == len(wanted):
        end = "end" if hunk.to_bottom else "beginning"
        text = f"its lines stand at line {at + 1}, and belong at the {end} of the file"
        return Misfit.NO_MATCH, text, at + 1
    differing, line = next(
        (index, line) for index, line in enumerate(wanted) if lines[at + index : at + index + 1] != [line]
    )
    there = _shown(lines[at + differing]) if at + differing < len(lines) else "the end of the file"
    text = (
        f"{agreeing} of its {len(wanted)} lines agree at line {at + 1}; line {at + 1 + differing} should be"
        f" {_shown(line)} and is {there}"
    )
    return Misfit.NO_MATCH, text, at + 1


def _nearest(lines: list[bytes], wanted: list[bytes], expected: int) -> tuple[int, int]:
    """Where most of the text agrees, nearest to the expected line, and how many lines do there."""

    def agreeing(at: int) -> list[bytes]:
        there = lines[at : at + len(wanted)]
        return [line for line, found in zip(wanted, there, strict=False) if line == found]

    # By the characters that agree, since a closing brace agrees everywhere.
    best = max(
        range(len(lines)),
        key=lambda at: (sum(len(line.strip()) for line in agreeing(at)), -abs(at - expected)),
        default=0,
    )
    return best, len(agreeing(best))


def _shown(line: bytes) -> str:
    """Quoted, with what does not print spelled out."""
    text = line.decode(errors="backslashreplace").removesuffix("\n")
    shown = repr(text if len(text) <= _CHARACTERS_TOLD else f"{text[:_CHARACTERS_TOLD]}...")
    return shown if line.endswith(b"\n") else f"{shown} without a newline"
