"""Run other programs: argument lists only, with an explicit environment, output to a log and a callback.

Independent of git, compilers and Node.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from nodekiln.core.errors import ToolchainError
from nodekiln.core.reporting import escape_unprintable

_TAIL_LINES = 40
_MAX_ERROR_LINE = 300
_GRACE_PERIOD = 10.0
"""Seconds between signals to a child: ninja removes partial outputs then, and git its temporary files."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The result of a short command."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Both streams as text, stdout first; undecodable bytes are shown as \\xNN."""
        return (self.stdout + self.stderr).decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a long command; `tail` has the last lines of its output."""

    returncode: int
    seconds: float
    tail: tuple[str, ...]


def capture(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout: float | None = 60,
) -> Captured:
    """Run a short command and return its output.

    Raises FileNotFoundError or PermissionError if the program can't be started, and ToolchainError after
    `timeout` seconds. A command that SIGINT ended had the Ctrl-C that is also ours: KeyboardInterrupt.
    """
    try:
        done = subprocess.run(
            argv, env=dict(env), cwd=cwd, input=stdin, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"{argv[0]} timed out after {timeout:.0f} seconds.") from None
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    return Captured(done.returncode, done.stdout, done.stderr)


def run_logged(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a long command in its own process group; both streams go to `log` (overwritten) and `on_line`.

    On KeyboardInterrupt the group gets SIGINT, then SIGTERM, is killed after some seconds, and the interrupt
    is raised again. Raises FileNotFoundError or PermissionError if the program can't be started, and an
    OSError with the log's name if that can't be written, after ending the program.
    """
    begun = time.monotonic()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with log.open("wb", buffering=0) as file:  # unbuffered: readers of the log see each line at once
        _write(file, ("$ " + " ".join(argv) + "\n").encode())
        child = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert child.stdout is not None  # noqa: S101 (because of PIPE; for mypy)
            for raw in child.stdout:
                _write(file, raw)
                line = raw.decode(errors="backslashreplace").rstrip("\r\n")
                tail.append(line)
                if on_line is not None:
                    on_line(line)
            returncode = child.wait()
        except BaseException:
            end_group(child, (signal.SIGINT, signal.SIGTERM))
            raise
        finally:
            if child.stdout is not None:
                child.stdout.close()
    return Finished(returncode, time.monotonic() - begun, tuple(tail))


def _write(file: FileIO, line: bytes) -> None:
    """Write, and name the file in an error: a write's own error has no file name."""
    try:
        file.write(line)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from None


def follow(argv: Sequence[str], *, cwd: Path) -> int:
    """Run a command with our own streams and environment, and return its exit code."""
    return subprocess.run(argv, cwd=cwd, check=False).returncode


def end_group(child: subprocess.Popen[bytes], signals: Sequence[signal.Signals]) -> None:
    """End a child that leads a process group, and the group: send each signal in turn, then kill.

    A second interrupt (Ctrl-C again) kills at once.
    """
    try:
        for number in signals:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_PERIOD)
                break
    finally:
        # The leader may have exited before its children.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def child_environment(environ: Mapping[str, str], *, venv: Path | None) -> dict[str, str]:
    """Return the environment without our virtual environment, PYTHON*, GIT_* and NODEKILN_*.

    Otherwise configure would use our Python, which lacks the system's gyp.
    """
    env = {
        name: value
        for name, value in environ.items()
        if name != "VIRTUAL_ENV" and not name.startswith(("PYTHON", "GIT_", "NODEKILN_"))
    }
    if venv is not None and "PATH" in env:
        own = {str(venv / "bin"), str(venv.resolve() / "bin")}
        env["PATH"] = os.pathsep.join(part for part in env["PATH"].split(os.pathsep) if part not in own)
    return env


def with_english_messages(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` with LC_ALL=C if programs would print messages in another language.

    Otherwise it is unchanged: LC_ALL is part of ccache's keys.
    """
    locale = env.get("LC_ALL") or env.get("LC_MESSAGES") or env.get("LANG") or "C"
    is_plain = locale.partition(".")[0] in ("C", "POSIX")  # programs then ignore LANGUAGE
    is_english = locale.startswith("en") and env.get("LANGUAGE", "en").startswith("en")
    return dict(env) if is_plain or is_english else {**env, "LC_ALL": "C"}


_READ_BY_NODE = frozenset({"NODE_OPTIONS", "NODE_PATH", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES"})
"""A file of OpenSSL's that is missing or wrong ends Node when it starts."""


def without_node_options(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without the variables that change what a Node program loads and does."""
    return {name: value for name, value in env.items() if name not in _READ_BY_NODE}


def error_line(output: str | bytes, pattern: re.Pattern[str] | None = None) -> str:
    """Return the line of a program's output that says most about its failure, escaped and shortened.

    That is the first line that `pattern` matches, otherwise the last line; "no output" if there is none.
    """
    text = output.decode(errors="backslashreplace") if isinstance(output, bytes) else output
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "no output"
    chosen = next((line for line in lines if pattern is not None and pattern.search(line)), lines[-1])
    return escape_unprintable(chosen)[:_MAX_ERROR_LINE]
