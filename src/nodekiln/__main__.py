"""The entry point: `python -m nodekiln`, ./inv and the console script `nodekiln`."""

from __future__ import annotations

import os
import signal
import sys

# Until run_command handles interrupts, Ctrl-C during imports ends the program without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line and exit."""
    compiles = sys.dont_write_bytecode
    sys.dont_write_bytecode |= "SUDO_UID" in os.environ  # in a user's checkout these files would be root's
    from nodekiln.cli.program import main as run  # a tenth of a second, in which Ctrl-C has to work

    sys.dont_write_bytecode = compiles
    run()


if __name__ == "__main__":
    main()
