"""Run as a program: says that it is there, waits for an answer, then becomes the program that it was given.

Imports nothing of ours: it runs in the environment that the program is meant to see.
"""

from __future__ import annotations

import os
import signal
import sys


def main(wire: int, argv: list[str]) -> None:
    """Exit with 126 if the program can't be run, as shells do, and with 1 if it is never released."""
    # Python set these for itself, and they would be handed on.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.write(wire, b"?")
    if not os.read(wire, 1):
        sys.exit(1)
    os.close(wire)
    try:
        os.execv(argv[0], argv)  # noqa: S606 (no shell is what is wanted)
    except OSError as error:
        sys.stderr.write(f"error: {argv[0]} can't be run: {error.strerror}.\n")
        sys.exit(126)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
