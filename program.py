"""What ./inv runs: invoke's program over tasks.py, with our exit code for wrong usage."""

from __future__ import annotations

import signal

# Ctrl-C while all of this is imported ends us as it ends any program, without a traceback. run_command takes
# it over.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.program import Program

import nodekiln
from nodekiln.cli.cli_errors import quiet
from nodekiln.core.errors import SourceError, UsageError

HERE = Path(__file__).resolve().parent
USAGE = UsageError.exit_code
_MAY_BE_EMPTY = ("--configure-args",)
"""A list of none."""
_IS_EMPTY = re.compile(r"--[\w-]+=")
_NO_IDEA = re.compile(r"No idea what '(.*)' is!")


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
        if self.args.complete.value:
            from nodekiln.cli.completion import candidates

            # The shell's words, program included, joined; a quote that is still open is none of our names.
            words = self.core.remainder.replace("'", "").replace('"', "").split()[1:]
            if (found := candidates(words, list(self.collection.task_names))) is not None:
                sys.stdout.writelines(f"{word}\n" for word in found)
                raise Exit
        with _parsed():
            super().parse_cleanup()


class KilnConfig(Config):
    """invoke's configuration, where a file that can't be taken is wrong usage and no traceback."""

    def load_base_conf_files(self) -> None:
        with _loaded("~/.invoke.yaml or /etc/invoke.yaml"):
            super().load_base_conf_files()

    def load_project(self, merge: bool = True) -> None:
        files = [HERE / f"invoke.{suffix}" for suffix in ("yaml", "yml", "json", "py")]
        with _loaded(str(next((file for file in files if file.exists()), files[0]))):
            super().load_project(merge)

    def load_runtime(self, merge: bool = True) -> None:
        with _loaded(str(self._runtime_path)):
            super().load_runtime(merge)


def _given_twice(told: str) -> str | None:
    """The option that invoke saw a second time, and so took its value for a task's name."""
    words = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    found = _NO_IDEA.fullmatch(told)
    for before, word in pairwise(words):
        option, equals, value = word.partition("=")
        if found and found[1] in (word, option, value):
            option = option if equals else before
            given = [other.partition("=")[0] for other in words]
            return option if option.startswith("--") and given.count(option) > 1 else None
    return None


@contextmanager
def _parsed() -> Iterator[None]:
    try:
        yield
    except (ParseError, ValueError, AttributeError) as error:  # invoke's own options raise the latter two
        told = re.sub(r"Flag <Argument: ([^ >]+).*?>", r"--\1", str(error))
        if twice := _given_twice(told):
            told = f"{twice} is given twice."
        hint = "./inv --list shows the tasks, ./inv --help TASK its options."
        raise Exit(f"error: {told}\n  {hint}", USAGE) from None
    except Exit as end:  # "Can't find any collection", with a message and a 1
        is_told = not end.message or end.message.startswith("error: ")
        raise end if is_told else Exit(f"error: {end.message}", USAGE) from None


@contextmanager
def _loaded(file: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # YAML's own, invoke's when it merges, AttributeError for a list, ...
        told = " ".join(str(error).split())
        raise Exit(
            f"error: {file} can't be taken: {told}\n  It holds names with values, in YAML.", USAGE
        ) from None


def _open_streams() -> None:
    """Whoever closed one (`>&-`) gets nothing there; no file that is opened later may take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (as long as we run)


def _check_words(words: Sequence[str], *, has_more: bool) -> None:
    """Raises Exit for what invoke would take for an option that was not given, or drop.

    An empty text is mostly a script's variable that is not set: `clean --tag "$TAG"` would remove everything.
    """
    for before, word in pairwise(("", *words)):
        option = word.removesuffix("=") if _IS_EMPTY.fullmatch(word) else "" if word else before
        if option.startswith("--") and not {option, before} & set(_MAY_BE_EMPTY):
            raise Exit(f"error: {option} is given an empty text.", USAGE)
    if has_more and "trace" not in words:
        raise Exit("error: Words after -- are for ./inv trace.", USAGE)


def _end(text: str, code: int) -> NoReturn:
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:  # nobody can be told; the exit code tells
        quiet(sys.stderr)
    sys.exit(code)


def main() -> None:
    """Runs the words of the command line."""
    _open_streams()
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
        if "--complete" not in words:
            _check_words(ours, has_more=ours != words)
        try:
            program.run(["./inv", "--search-root", str(HERE), *ours])
        finally:
            sys.stdout.flush()
    except Exit as end:
        _end(end.message or "", end.code)
    except EOFError:  # from invoke's own question for a password
        _end("error: There is no terminal to ask on.", USAGE)
    except OSError as error:
        quiet(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _end(f"error: {error.filename or 'stdout'}: {error.strerror}.", SourceError.exit_code)


if __name__ == "__main__":
    main()
