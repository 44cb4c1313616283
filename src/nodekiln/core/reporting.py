"""What is said while something runs: notes, warnings and progress lines, all on stderr.

Results go to stdout and are printed by tasks.py. On a terminal progress is one moving line; in a pipe or a CI
log it is a plain line now and then. NO_COLOR and TERM=dumb are heeded by rich.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from nodekiln.core.errors import UsageError

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, what turns the direction of writing, and bytes that were no text."""
_DETAIL_LENGTH = 60
_PLAIN_INTERVAL = 15.0
"""Seconds between two plain lines: a CI log of a half-hour build gets about a hundred."""


DEFAULT_PROGRAM = "./inv"
_PROGRAM = re.compile(r"(?<![\w/.])\./inv(?![\w/.-])")


def as_called(text: str, program: str) -> str:
    """Return `text` with `program` in place of `./inv`, so that commands in it can be typed as they are."""
    return text if program == DEFAULT_PROGRAM else _PROGRAM.sub(lambda _: program, text)


class Meter(Protocol):
    """Takes the course of one step."""

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        """`done` of `total` (None: not known) units are through; `detail` is what runs now.

        `left` is the seconds that it will still take, where that is known better than from the count.
        """


class _Notes(Console):
    """stderr, whose reader may leave: that ends no build. rich would end the program, with 1."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class _Results(Console):
    """stdout, whose reader may have seen enough: the edge knows what to do then."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Verbosity(IntEnum):
    """How much a run prints to stderr."""

    QUIET = 0
    """Warnings and errors only."""
    NORMAL = 1
    VERBOSE = 2


class Reporter:
    """Prints notes, warnings, errors and progress to stderr.

    Messages name the program `./inv`; they are printed with `program` in its place.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        verbosity: Verbosity = Verbosity.NORMAL,
        program: str = DEFAULT_PROGRAM,
    ) -> None:
        self._console = console or _Notes(file=sys.stderr, highlight=False, soft_wrap=True)
        self._verbosity = verbosity
        self._program = program
        self._warned: set[str] = set()

    def say(self, text: str) -> None:
        """Print a note about what happens now."""
        if self._verbosity >= Verbosity.NORMAL:
            self._print(Text(), text)

    def detail(self, text: str) -> None:
        """Print a note that only --verbose shows."""
        if self._verbosity >= Verbosity.VERBOSE:
            self._print(Text(), text)

    def warn(self, text: str) -> None:
        """Print a warning, once per run however many builds it applies to."""
        if text in self._warned:
            return
        self._warned.add(text)
        self._print(Text("warning: ", style="yellow"), text)

    def fail(self, text: str) -> None:
        """Print the error that ended the run."""
        self._print(Text("error: ", style="bold red"), text)

    def _print(self, prefix: Text, text: str) -> None:
        self._console.print(prefix + Text(escape_unprintable(as_called(text, self._program), keep="\n\t")))

    @contextmanager
    def progress(self, title: str) -> Iterator[Meter]:
        """A meter for one step, gone from a terminal when the step is."""
        if self._verbosity is Verbosity.QUIET:
            yield _NoMeter()
        elif self._console.is_terminal and not self._console.is_dumb_terminal:
            with Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[count]}", markup=False),
                TimeElapsedColumn(),
                _LeftColumn(),
                TextColumn("{task.fields[detail]}", markup=False, style="dim"),
                console=self._console,
                transient=True,
            ) as progress:
                yield _LiveMeter(progress, title)
        else:
            yield _PlainMeter(self, title)


def escape_unprintable(text: str | bytes, *, keep: str = "") -> str:
    """Return `text` with control and direction characters, line ends too, escaped except those in `keep`.

    Terminals and CI runners obey such characters. Bytes that are not UTF-8 are shown in hexadecimal.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    return _UNPRINTABLE.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(), text
    )


class _NoMeter:
    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        pass


class _LiveMeter:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, count="", detail="", end=None)

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        end = None if left is None else time.monotonic() + left
        count = f"{done}/{total}" if total is not None else (str(done) if done else "")
        self._progress.update(
            self._task, completed=done, total=total, count=count, detail=_shortened(detail), end=end
        )


class _LeftColumn(TimeRemainingColumn):
    """The time left as it was told, counted down; from the share that is done where none was told."""

    def render(self, task: Task) -> Text:
        if (end := task.fields["end"]) is None:
            return super().render(task)
        return Text(f"{format_duration(max(0.0, end - time.monotonic()))} left", style="progress.remaining")


class _PlainMeter:
    def __init__(self, reporter: Reporter, title: str) -> None:
        self._reporter, self._title = reporter, title
        self._begun = self._said = time.monotonic()

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        now = time.monotonic()
        if now - self._said < _PLAIN_INTERVAL:
            return
        self._said = now
        elapsed = now - self._begun
        line = f"{self._title}: {done}" + (f"/{total}" if total is not None else "")
        line += f", {format_duration(elapsed)}"
        if left is None and total is not None and 0 < done < total:
            left = elapsed / done * (total - done)
        if left is not None:
            line += f", about {format_duration(left)} left"
        self._reporter.say(line + (f" ({_shortened(detail)})" if detail else ""))


def _shortened(detail: str) -> str:
    """A step's name as far as a line has room: its end tells most."""
    return detail if len(detail) <= _DETAIL_LENGTH else "..." + detail[3 - _DETAIL_LENGTH :]


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout: as wide as it has to be in a pipe, with lines wrapped on a terminal.

    The first column stays in one piece even there: its names are what other commands take.
    """
    console = _Results(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    body = [[Text(escape_unprintable(cell, keep="\n\t")) for cell in row] for row in rows]
    for heading in headings:
        table.add_column(heading, overflow="fold")
    table.columns[0].min_width = max((row[0].cell_len for row in body), default=0)
    for cells in body:
        table.add_row(*cells)
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.print(table, crop=False)


def show_diff(diff: bytes, color: Callable[[bytes], Text], environment: Mapping[str, str]) -> None:
    """A diff on stdout: byte for byte in a pipe; on a terminal through delta where that is, else coloured."""
    console = _Results(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        sys.stdout.flush()
        sys.stdout.buffer.write(diff)
        sys.stdout.buffer.flush()
        return
    is_plain = "NO_COLOR" in environment or console.is_dumb_terminal
    delta = None if is_plain else shutil.which("delta", path=environment.get("PATH"))
    if delta is None or subprocess.run([delta], input=diff, env=dict(environment), check=False).returncode:
        console.print(color(diff), end="")


def confirm(question: str) -> bool:
    """Asks on the terminal; raises UsageError where there is none to answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer on.", remedy="Add --yes.")
    try:
        return Confirm.ask(question, default=False, console=Console(stderr=True))
    except EOFError:  # Ctrl-D
        return False


def format_duration(seconds: float) -> str:
    """4.2 s, 1 min 05 s, 1 h 14 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_size(size: int) -> str:
    """Decimal units, as disks are sold: 180 MB, 2.4 GB."""
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= divisor:
            value = size / divisor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{size} bytes"
