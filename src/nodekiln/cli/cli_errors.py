"""The one place where a command ends: from what it raised to an exit code and a message on stderr."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TextIO

from nodekiln.core.errors import INTERRUPTED, KilnError

_BUG, _SOURCE = 1, 6


def run_command(command: Callable[[], int | None], *, resumes: bool = False) -> int:
    """Runs a command to its end and returns the exit code; None from the command is 0.

    The caller's GIT_* variables are dropped first: a GIT_DIR must not decide which repository we work on. A
    request to end (SIGTERM, SIGHUP) is taken like Ctrl-C, unless it is ignored. `resumes` tells whether the
    same command goes on, after one, where this one stopped.
    """
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup asks that a hangup be ignored
            signal.signal(number, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path's ü is no bug where the locale is C
    code = 0
    try:
        code = command() or 0
        sys.stdout.flush()
    except KilnError as error:
        _fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped." if resumes else "interrupted.")
        return INTERRUPTED
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            quiet(sys.stdout)
            return code
        error = _error_of_stdout() or error
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.")
        return _SOURCE
    except Exception:
        traceback.print_exc()
        _fail("this is a bug of nodekiln; please report the lines above.")
        return _BUG
    return code


def _error_of_stdout() -> OSError | None:
    """What keeps stdout from being written, with its name; None where nothing does."""
    try:
        sys.stdout.flush()
    except OSError as error:
        quiet(sys.stdout)
        return OSError(error.errno, error.strerror, "stdout")
    return None


def _has_no_reader() -> bool:
    """Whether it is stdout that is broken, and no pipe to a program of ours."""
    try:
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # some systems have no poll, some streams no number
        return True
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


def _fail(text: str) -> None:
    from nodekiln.core.reporting import Reporter  # rich costs 20 ms, which most commands can do without

    try:
        Reporter().fail(text)
        sys.stderr.flush()
    except OSError:  # nobody can be told; the exit code tells
        quiet(sys.stderr)


def show(text: str) -> None:
    """Writes to stdout what a command has to say before it ends with a code of its own.

    A reader that has seen enough must not make that a 0.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        quiet(sys.stdout)


def quiet(stream: TextIO) -> None:
    """For a reader that has seen enough (`| head`), or a disk that is full: nothing may be left to flush when
    Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _interrupt(number: int, frame: object) -> NoReturn:  # noqa: ARG001 (what signal.signal calls)
    raise KeyboardInterrupt
