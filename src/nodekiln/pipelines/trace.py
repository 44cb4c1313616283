"""Trace: find the binary and its probes, hold it back, attach, release it, and report how it ends."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.errors import UsageError
from nodekiln.core.privileges import as_root
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.inspect import find_binary
from nodekiln.tracing.child import hold
from nodekiln.tracing.session import Take, attach, signals_go_to
from nodekiln.tracing.tracer import (
    Language,
    Script,
    Tracer,
    UntraceableError,
    check_machine,
    check_path,
    find_dtrace,
    find_script,
    follow_with_bpftrace,
    follow_with_dtrace,
    require_probes,
)

_SIGNALLED = 128
"""Added to a signal's number, as shells do, where a program was ended by one."""


@dataclass(frozen=True, kw_only=True)
class TraceRequest:
    """What to trace: a binary to start with these arguments, or a running process."""

    script: str
    binary: str | None = None
    """Name of a published one, or a path."""
    words: tuple[str, ...] = ()
    """Node's options, script and the script's arguments."""
    pid: int | None = None
    output: Path | None = None
    """For the tracer's lines; None: stdout, among the program's own."""

    def __post_init__(self) -> None:
        if (self.binary is None) == (self.pid is None):
            raise UsageError(
                "A trace is of one thing: a program that is started, or one that runs.",
                remedy=f"./inv trace {self.script} --binary NAME -- script.js, or "
                f"./inv trace {self.script} --pid NUMBER",
            )
        if self.binary is not None and not self.words:
            raise UsageError(
                "There is nothing to run.",
                remedy=f"Put it after two dashes: ./inv trace {self.script} --binary "
                f"{shlex.quote(self.binary)} -- script.js",
            )
        if self.pid is not None and self.words:
            raise UsageError("A process that runs already takes no words after the two dashes.")

    @property
    def as_root(self) -> str:
        """The command to type if this user may not trace."""
        what = ["--binary", self.binary] if self.binary is not None else ["--pid", str(self.pid)]
        output = ["--output", str(self.output)] if self.output is not None else []
        words = ["--", *self.words] if self.words else []
        return shlex.join(["sudo", "-E", "./inv", "trace", self.script, *what, *output, *words])


def trace(request: TraceRequest, settings: Settings, reporter: Reporter) -> int:
    """Traces until the program ends, or for a running one until that ends or a Ctrl-C.

    Returns the exit code of a program that was started here (128 + N after signal N), 0 for a running one.
    Raises UsageError for what can't be taken and for a binary without the probes; UntraceableError where this
    machine or this user can't trace.
    """
    with _lines_to(request.output) as take:
        if request.pid is not None:
            code = _trace_running(request, request.pid, settings, reporter, take)
        else:
            code = _trace_started(request, settings, reporter, take)
    return code


def _trace_started(request: TraceRequest, settings: Settings, reporter: Reporter, take: Take) -> int:
    assert request.binary is not None  # noqa: S101 (the request has seen to it; this tells mypy)
    binary = find_binary(request.binary, settings).absolute()
    if not os.access(binary, os.X_OK):
        raise UsageError(f"{binary} can't be run.", remedy="chmod +x makes it executable.")
    make = tracer_for(request.script, binary, str(binary), settings)
    argv = [str(binary), *request.words]
    with hold(argv, env=settings.environment, cwd=settings.cwd) as held:
        if _on_linux():
            held.stop_at_exec()
        with attach(make(held.process.pid), take, privileged=request.as_root) as tracer:

            def forward(number: signal.Signals) -> None:
                if number is not signal.SIGINT or not _terminal_tells_everyone():
                    held.process.send_signal(number)

            with signals_go_to(forward):
                held.let_go()
                returncode = held.process.wait()
        _pass_on(tracer.said, reporter)
    if returncode < 0:
        reporter.say(f"{binary.name} was ended by signal {-returncode}")
        return _SIGNALLED - returncode
    reporter.say(f"{binary.name} ended with exit code {returncode}")
    return returncode


def _trace_running(
    request: TraceRequest, pid: int, settings: Settings, reporter: Reporter, take: Take
) -> int:
    executable = Path(f"/proc/{pid}/exe")
    try:
        with as_root():  # the process may be anybody's
            os.kill(pid, 0)
            name = str(executable.readlink()) if _on_linux() else f"process {pid}"
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        raise UsageError(f"There is no process {pid}.", remedy="pgrep -a node shows those of Node.") from None
    except PermissionError:
        raise UntraceableError(f"Process {pid} is not yours.", remedy=f"Type: {request.as_root}") from None
    with as_root():
        make = tracer_for(request.script, executable, name, settings, is_elsewhere=_is_elsewhere(pid))
    with (
        attach(make(pid), take, privileged=request.as_root) as tracer,
        signals_go_to(lambda _: tracer.tell_to_end()),
    ):
        reporter.say(f"tracing process {pid}; Ctrl-C ends it")
        tracer.wait(lambda: not _is_there(pid))  # dtrace waits for Ctrl-C
    _pass_on(tracer.said, reporter)
    return 0


def _is_elsewhere(pid: int) -> bool:
    """Return True if the process has other files than we, as in a container, or its own is deleted."""
    process, own = Path(f"/proc/{pid}"), Path("/proc/self")
    try:
        return not (
            (process / "ns/mnt").samefile(own / "ns/mnt")
            and (process / "root").samefile(own / "root")
            and (process / "exe").readlink().samefile(process / "exe")
        )
    except OSError:
        return True


def tracer_for(
    name: str, executable: Path, shown: str, settings: Settings, *, is_elsewhere: bool = False
) -> Callable[[int], Tracer]:
    """Check that `executable` can be traced here with that script; return a function from pid to Tracer.

    `shown` is what errors call it. Raises UsageError for a binary without the probes, UntraceableError where
    this machine can't trace.
    """
    env = settings.environment
    if not _on_linux():
        script = find_script(name, Language.DTRACE)
        dtrace = find_dtrace(env)
        return lambda pid: follow_with_dtrace(dtrace, script, pid=pid, env=env)
    script = find_script(name, Language.BPFTRACE)
    counted = _check_probes(script, executable, shown)
    if not is_elsewhere:
        check_path(shown if shown.startswith("/proc/") else str(Path(shown).resolve()))
    bpftrace = check_machine(env, counted=counted)
    return lambda pid: follow_with_bpftrace(bpftrace, script, pid=pid, is_elsewhere=is_elsewhere, env=env)


def _check_probes(script: Script, executable: Path, shown: str) -> bool:
    """Raise UsageError if some are missing; return True if they have semaphores."""
    with open_elf(executable) as elf:
        there = [probe for probe in read_probes(elf) if probe.provider == "node"]
    require_probes(script, {probe.name for probe in there}, shown)
    return any(probe.semaphore for probe in there)


@contextmanager
def _lines_to(output: Path | None) -> Iterator[Take]:
    """Write lines, flushing each at once. Raises OSError if the file can't be written.

    What the file held goes with the first line, or at the end of a trace without any: a trace that never
    began leaves it as it was, and makes none.
    """
    if output is None:
        yield lambda line: _write(sys.stdout, line)
        return
    made = not output.exists()
    with output.open("a") as file:
        is_begun = False

        def begin() -> None:
            nonlocal is_begun
            if not is_begun and output.is_file():  # not /dev/stderr
                file.truncate(0)
            is_begun = True

        def take(line: str) -> None:
            begin()
            _write(file, line)

        try:
            yield take
            begin()
        except BaseException:
            if made and not is_begun:
                output.unlink(missing_ok=True)
            raise


def _write(file: TextIO, line: str) -> None:
    file.write(line + "\n")
    file.flush()


def _pass_on(said: str, reporter: Reporter) -> None:
    """Events that were lost, above all. Not that memory could not be locked: it was attached all the same."""
    for line in said.splitlines():
        if "RLIMIT_MEMLOCK" not in line:
            reporter.warn(line.removeprefix("WARNING: "))


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and became another user's
    return True


def _terminal_tells_everyone() -> bool:
    """Return True if Ctrl-C on our terminal reaches the program itself: a second one might end it."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # no terminal, or stdin is closed
        return False


def _on_linux() -> bool:
    return platform.system() == "Linux"
