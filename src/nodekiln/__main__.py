"""The entry point: `python -m nodekiln`, ./inv and the console script `nodekiln`."""

from __future__ import annotations

import os
import signal
import sys

# Until run_command handles interrupts, Ctrl-C during imports ends the program without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


_OPEN_FILES = 64
"""Files that git, a compiler's output and our own need at once, with some room."""
_TOOLCHAIN = 3


def main() -> None:
    """Run the command line and exit; report limits (ulimit) under which Python can't even load it."""
    try:
        limit = _raise_open_files()
        if limit < _OPEN_FILES:
            _refuse(f"a process may open {limit} files here, and nodekiln needs {_OPEN_FILES}", "-n 1024")
        _run()
    except MemoryError:
        _refuse("there is not enough memory", "-v unlimited")


def _raise_open_files() -> int:
    """Raise the soft limit of open files if it is too low; return what applies then."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return _OPEN_FILES
    except (ImportError, OSError):  # not even one more file can be opened
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < _OPEN_FILES:
        soft = _OPEN_FILES if hard == unlimited else min(hard, _OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _OPEN_FILES if soft == unlimited else soft


def _refuse(why: str, remedy: str) -> None:
    os.write(2, f"error: {why}.\n  Raise the limit: ulimit {remedy}\n".encode())
    os._exit(_TOOLCHAIN)  # at its end Python may need what is lacking


def _run() -> None:
    compiles = sys.dont_write_bytecode
    sys.dont_write_bytecode |= "SUDO_UID" in os.environ  # in a user's checkout these files would be root's
    from nodekiln.cli.program import main as run  # a tenth of a second, in which Ctrl-C has to work

    sys.dont_write_bytecode = compiles
    run()


if __name__ == "__main__":
    main()
