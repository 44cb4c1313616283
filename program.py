"""What ./inv runs: invoke's program over tasks.py, with our exit code for wrong usage."""

from __future__ import annotations

import signal

# Ctrl-C while all of this is imported ends us as it ends any program, without a traceback. run_command takes
# it over.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.program import Program

import nodekiln
from nodekiln.errors import UsageError

HERE = Path(__file__).resolve().parent
USAGE = UsageError.exit_code


class KilnProgram(Program):
    """invoke's program, which would end with 1 for a word that it can't parse."""

    def parse_core(self, argv: list[str] | None) -> None:
        with _parsed():
            super().parse_core(argv)
        sys.dont_write_bytecode = False  # invoke's default costs a fifth of a second on every run

    def parse_collection(self) -> None:
        with _parsed():
            super().parse_collection()

    def parse_tasks(self) -> None:
        with _parsed():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        with _parsed():
            super().parse_cleanup()


class KilnConfig(Config):
    """invoke's configuration, where a file that can't be taken is wrong usage and no traceback."""

    def load_base_conf_files(self) -> None:
        with _loaded("~/.invoke.yaml or /etc/invoke.yaml"):
            super().load_base_conf_files()

    def load_project(self, merge: bool = True) -> None:
        with _loaded(str(HERE / "invoke.yaml")):
            super().load_project(merge)


@contextmanager
def _parsed() -> Iterator[None]:
    try:
        yield
    except (ParseError, ValueError, AttributeError) as error:  # invoke's own options raise the latter two
        told = re.sub(r"Flag <Argument: ([^ >]+).*?>", r"--\1", str(error))
        hint = "./inv --list shows the tasks, ./inv --help TASK its options."
        raise Exit(f"error: {told}\n  {hint}", USAGE) from None
    except Exit as end:  # "Can't find any collection", with a message and a 1
        raise Exit(f"error: {end.message}", USAGE) if end.message else end from None


@contextmanager
def _loaded(file: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # YAML's own, invoke's when it merges, AttributeError for a list, ...
        told = " ".join(str(error).split())
        raise Exit(
            f"error: {file} can't be taken: {told}\n  It holds names with values, in YAML.", USAGE
        ) from None


def main() -> None:
    """Runs the words of the command line."""
    program = KilnProgram(
        version=nodekiln.__version__,
        name="nodekiln",
        binary="./inv",
        binary_names=["./inv", "inv"],
        config_class=KilnConfig,
    )
    words = sys.argv[1:]
    # What follows two dashes is for the program that `trace` starts; invoke would join it into one string.
    ours = words[: words.index("--")] if "--" in words and "--complete" not in words else words
    try:
        program.run(["./inv", "--search-root", str(HERE), *ours])
    except BrokenPipeError:
        from nodekiln.edge import quiet_stdout

        quiet_stdout()


if __name__ == "__main__":
    main()
