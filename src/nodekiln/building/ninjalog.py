"""What ninja notes in .ninja_log: which step made which output, and when it began and ended.

Times in the log are milliseconds since its run began, and every run begins at 0 again, in the same file. So a
run is told from those before it by what was in the file when it began (`NinjaLog`), not by the times.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ran:
    """One step that ran: its outputs as build.ninja spells them, begin and end in seconds of its run."""

    outputs: tuple[str, ...]
    start: float
    end: float


def steps_of(lines: Iterable[str]) -> tuple[Ran, ...]:
    """The steps of one run, in the order in which they ended; lines that ninja did not write are passed over.

    ninja notes every output of a step on a line of its own (run_torque has over 600), with the same times and
    the same hash of the command.
    """
    found: dict[tuple[int, int, str], list[str]] = {}
    for line in lines:
        match line.rstrip("\n").split("\t"):
            case [start, end, _, output, command] if start.isdecimal() and end.isdecimal():
                found.setdefault((int(start), int(end), command), []).append(output)
    return tuple(Ran(tuple(outputs), start / 1000, end / 1000) for (start, end, _), outputs in found.items())


class NinjaLog:
    """Follows the log at `path` while ninja runs; what it holds at the start belongs to earlier runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = frozenset(_lines(path))
        self._seen = 0
        """Lines of this run that were handed out."""
        self._partial = ""
        self._place: tuple[int, int] | None = None
        """Inode of the file and bytes of it that were read: ninja may replace the log when it begins, with
        the same lines in another order."""

    def read(self) -> tuple[Ran, ...]:
        """The steps that ended since the last call."""
        with suppress(OSError), self._path.open("rb") as file:
            inode = self._path.stat().st_ino
            if self._place is None or self._place[0] != inode:
                self._place, self._partial = (inode, 0), ""
            file.seek(self._place[1])
            new = file.read()
            self._place = (inode, self._place[1] + len(new))
            *lines, self._partial = (self._partial + new.decode(errors="backslashreplace")).split("\n")
            return steps_of(line for line in lines if line not in self._earlier)
        return ()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="backslashreplace").split("\n")
    except OSError:
        return []
