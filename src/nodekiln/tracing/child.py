"""Hold a program back right after its exec, so that a tracer can attach before it does anything."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nodekiln.core.errors import UsageError
from nodekiln.core.privileges import as_root
from nodekiln.core.process import without_node_options
from nodekiln.tracing.tracer import UntraceableError

_SEIZE, _CONTINUE, _DETACH = 0x4206, 7, 17
_STOP_AT_EXEC, _KILL_WITH_US = 0x10, 0x100000
_AT_EXEC = signal.SIGTRAP | 4 << 8


def seize(pid: int) -> None:
    """Make the process stop at its next exec, and die with this one. Raises OSError."""
    _call(_SEIZE, pid, _STOP_AT_EXEC | _KILL_WITH_US)


def wait_for_exec(pid: int) -> bool:
    """Return True once a seized process is stopped at its exec, False if it has ended."""
    while True:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        if status is None or status.si_code != os.CLD_TRAPPED:
            return False
        os.waitpid(pid, 0)
        if status.si_status == _AT_EXEC:
            return True
        _call(_CONTINUE, pid, status.si_status & 0xFF)  # a signal on its way, as when a terminal is resized


def detach(pid: int) -> None:
    """Lets a stopped process run on, without us. Raises ProcessLookupError if it was killed meanwhile."""
    _call(_DETACH, pid, 0)


def _call(request: int, pid: int, data: int) -> None:
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    ptrace.restype = ctypes.c_long
    if ptrace(request, pid, None, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_HELD = Path(__file__).with_name("exec_stub.py")


class Held:
    """A process that becomes a program when released; it shares our terminal and its Ctrl-C."""

    def __init__(self, process: subprocess.Popen[bytes], wire: socket.socket, program: str) -> None:
        self.process = process
        self._wire = wire
        self._program = program
        self._is_stopped = False

    def stop_at_exec(self) -> None:
        """Linux: lets it become the program, and stops it there.

        Raises UntraceableError if ptrace is forbidden, UsageError where the program can't be run.
        Letting go has to come from the same thread.
        """
        self._wire.recv(1)  # else the exec that it stops at could be the one by which Python begins
        try:
            with as_root():  # some systems allow ptrace to root only
                seize(self.process.pid)
        except PermissionError:
            raise UntraceableError(
                "This process may not stop its own child (ptrace), as in some containers.",
                remedy="Start the program yourself, and trace it with --pid.",
            ) from None
        self._wire.sendall(b"!")
        if not wait_for_exec(self.process.pid):
            raise UsageError(f"{self._program} can't be run.")
        self._is_stopped = True

    def let_go(self) -> None:
        """Lets the program begin; nothing happens where it was killed meanwhile."""
        with suppress(ProcessLookupError, BrokenPipeError, ConnectionResetError):
            if self._is_stopped:
                detach(self.process.pid)
            else:
                self._wire.sendall(b"!")


@contextmanager
def hold(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int | None = None,
    output: IO[bytes] | None = None,
) -> Iterator[Held]:
    """Yield a program that is held back; kill what is left of it at the end.

    It reads from `stdin` (as subprocess takes it), and what it prints goes to `output`; None: ours.

    It gets `env` without NODE_OPTIONS and NODE_PATH, which would change what is traced.
    """
    clean = without_node_options(env)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_HELD), str(theirs.fileno()), *argv],
                env=clean,
                cwd=cwd,
                pass_fds=(theirs.fileno(),),
                stdin=stdin,
                stdout=output,
                stderr=output,
            )
        try:
            yield Held(process, ours, argv[0])
        finally:
            process.kill()
            process.wait()
