"""The entry point: `python -m nodekiln`, ./inv and the console script `nodekiln`."""

from __future__ import annotations

import signal

# Until run_command handles interrupts, Ctrl-C during imports ends the program without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line and exit."""
    from nodekiln.cli.program import main as run  # a tenth of a second, in which Ctrl-C has to work

    run()


if __name__ == "__main__":
    main()
