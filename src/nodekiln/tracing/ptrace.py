"""Stops a child of ours where it has just become another program, by Linux's ptrace: none of it has run.

bpftrace looks for a probe's arguments in the program that the process is, so it can't attach before the exec.
Its own -c stops there too, but cuts the command line at every space.
"""

from __future__ import annotations

import ctypes
import os
import signal

_SEIZE, _CONTINUE, _DETACH = 0x4206, 7, 17
_STOP_AT_EXEC, _KILL_WITH_US = 0x10, 0x100000
_AT_EXEC = signal.SIGTRAP | 4 << 8


def seize(pid: int) -> None:
    """Asks that the process stop at its next exec, and die if we do. Raises OSError."""
    _call(_SEIZE, pid, _STOP_AT_EXEC | _KILL_WITH_US)


def wait_for_exec(pid: int) -> bool:
    """Whether a seized process is stopped at its exec now; False: it ended, and can be waited for."""
    while True:
        told = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        if told is None or told.si_code != os.CLD_TRAPPED:
            return False
        os.waitpid(pid, 0)
        if told.si_status == _AT_EXEC:
            return True
        _call(_CONTINUE, pid, told.si_status & 0xFF)  # a signal on its way, as when a terminal is resized


def detach(pid: int) -> None:
    """Lets a stopped process run on, without us. Raises ProcessLookupError where it was killed meanwhile."""
    _call(_DETACH, pid, 0)


def _call(request: int, pid: int, data: int) -> None:
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    ptrace.restype = ctypes.c_long
    if ptrace(request, pid, None, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
