"""Messages, progress, tables and diffs.

Messages and progress go to stderr, results to stdout. Progress is one live line on a terminal, and a plain
line every 15 s in a pipe or CI log. rich follows NO_COLOR and TERM=dumb.
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
"""Control characters, line ends, direction controls, and bytes that were not UTF-8 (surrogates)."""
_RUNNER_COMMAND = re.compile(
    r"##(?=\[)|^[ \t]*:(?=:(?:add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|notice"
    r"|remove-matcher|save-state|set-env|set-output|stop-commands|warning)\b)",
    re.MULTILINE,
)
"""GitHub's runner obeys ##[...] anywhere in a line, and ::name at its start."""
_DETAIL_LENGTH = 60
_PLAIN_INTERVAL = 15.0
"""Seconds between two plain lines: a CI log of a half-hour build gets about a hundred."""


DEFAULT_PROGRAM = "./inv"
_PROGRAM = re.compile(r"(?<![\w/.])\./inv(?![\w/.-])")


def as_called(text: str, program: str) -> str:
    """Return `text` with `program` in place of `./inv`, so that commands in it can be typed as they are."""
    return text if program == DEFAULT_PROGRAM else _PROGRAM.sub(lambda _: program, text)


class Meter(Protocol):
    """Displays the progress of one step."""

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        """Set the progress: `done` of `total` units (None: unknown); `detail` is the current item.

        `left` is the estimated remaining time in seconds, if known better than from the count.
        """


class _Notes(Console):
    """stderr; a reader that closes it does not end a build, whereas rich would exit with code 1."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class _Results(Console):
    """stdout; raises BrokenPipeError for the command line to handle if the reader closes it."""

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
        # FORCE_COLOR makes rich take a file for a terminal, in which lines can be redrawn.
        self._is_live = console is not None or sys.stderr.isatty()
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
        """Yield a meter for one step; on a terminal it disappears when the step ends."""
        if self._verbosity is Verbosity.QUIET:
            yield _NoMeter()
        elif self._is_live and self._console.is_terminal and not self._console.is_dumb_terminal:
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

    Terminals obey such characters, and CI runners commands in a line, which are escaped as well.
    Bytes that are not UTF-8 are shown in hexadecimal.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    text = _UNPRINTABLE.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(), text
    )
    return _RUNNER_COMMAND.sub(lambda match: f"{match[0][:-1]}\\x{ord(match[0][-1]):02x}", text)


def print_lines(lines: Iterable[str]) -> None:
    """Print a result for people to stdout, a line each, unprintable characters escaped."""
    sys.stdout.writelines(f"{escape_unprintable(line)}\n" for line in lines)


def one_line(text: str) -> str:
    """Return `text` on one line, its unprintable characters escaped."""
    return escape_unprintable(" ".join(text.split()))


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
    """The given remaining time, counted down; otherwise estimated from the share that is done."""

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
    """Return the end of a step's name, which identifies it best, cut to fit a line."""
    return detail if len(detail) <= _DETAIL_LENGTH else "..." + detail[3 - _DETAIL_LENGTH :]


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout: full width in a pipe, wrapped on a terminal.

    The first column is never wrapped: other commands take its names.
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
    """Print a diff to stdout: unchanged in a pipe; on a terminal through delta if installed, else colored."""
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
    """Ask on the terminal and return the answer; raises UsageError without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Asking failed: not a terminal.", remedy="Add --yes.")
    try:
        return Confirm.ask(question, default=False, console=Console(stderr=True))
    except EOFError:  # Ctrl-D
        return False


def format_duration(seconds: float) -> str:
    """Return 4.2 s, 1 min 05 s, 1 h 14 min."""
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
    """Return the size in decimal units: 180 MB, 2.4 GB."""
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= divisor:
            value = size / divisor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{size} bytes"
