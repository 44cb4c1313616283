"""What the commands share: the decorator, words for --help, and options turned into values."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:  # imported where it is used: --list, --help and completion should not wait for it
    from nodekiln.core.recipe import Recipe
    from nodekiln.core.settings import Settings

HERE = Path(__file__).resolve().parents[3]
"""The checkout."""

TAG = "release to take, as v22.20.0 or 22.20.0"
REPOSITORY = "git repository, URL or path (default: NODEKILN_REPOSITORY, invoke.yaml, Node's own)"
BACKPRESSURE = "with --no-backpressure, write() always answers true"
PROBES = "with --no-probes, no USDT/DTrace probes"
CONFIGURE_ARGS = "more arguments for configure, as one text: --configure-args='--without-npm --debug-node'"
CONFIGURE_FILE = "file with more arguments for configure, one a line, # for comments"
LAUNCHER = "ccache, sccache, distcc, icecc or none (default: ccache, else sccache, where it is there)"
LINKER = "mold, lld, bfd or default (default: the tree's own, in a new one lld where it is there)"
MOVED = "go on although the tag is another commit now"
FORMAT = "text or json"


def command(*, resumes: bool = False, **options: Any) -> Callable[[Callable[..., int | None]], Any]:
    """A task of invoke that ends with one of our exit codes, and with no traceback of a user's making.

    One that `resumes` goes on, after an interrupt, where it stopped.
    """

    def decorate(function: Callable[..., int | None]) -> Any:
        @functools.wraps(function)
        def run(context: Context, *args: Any, **kwargs: Any) -> None:
            from nodekiln.cli.cli_errors import run_command

            called = functools.partial(function, context, *args, **kwargs)
            if code := run_command(called, resumes=resumes):
                raise Exit(code=code)

        return task(run, auto_shortflags=False, **options)

    return decorate


def read_settings(context: Context) -> Settings:
    from nodekiln.core.settings import Settings

    return Settings.read(
        environ=os.environ,
        config=context.config.get("nodekiln"),
        root=HERE,
        here=Path.cwd(),
        venv=Path(sys.prefix) if sys.prefix != sys.base_prefix else None,
    )


def make_recipe(
    settings: Settings, tag: str, backpressure: bool, probes: bool, args: str, file: str, name: str
) -> Recipe:
    from nodekiln.core.recipe import Recipe, Tag

    return Recipe(
        tag=Tag.parse(needed("--tag", tag, "v22.20.0")),
        backpressure=backpressure,
        probes=probes,
        default_args=settings.configure_args,
        extra_args=more_arguments(settings, args, file),
        label=name or None,
    )


def more_arguments(settings: Settings, args: str, file: str) -> tuple[str, ...]:
    """What --configure-file and --configure-args add for one run; raises UsageError for bad ones."""
    from nodekiln.core.recipe import parse_arguments
    from nodekiln.core.settings import read_configure_file

    from_file = read_configure_file(settings.here / file, "--configure-file") if file else ()
    return from_file + parse_arguments(args)


def needed(option: str, value: str, example: str) -> str:
    from nodekiln.core.errors import UsageError

    if not value:
        raise UsageError(f"{option} is needed, as in {option} {example}.")
    return value


def number(option: str, value: str) -> int | None:
    from nodekiln.core.errors import UsageError

    if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 2**22):
        raise UsageError(f"{option} takes a number from 1 on, not {value!r}.")
    return int(value) if value else None


def output_format(value: str) -> str:
    from nodekiln.core.errors import UsageError

    if value not in ("text", "json"):
        raise UsageError(f"--format takes text or json, not {value!r}.")
    return value


def tools(launcher: str, linker: str) -> tuple[str | None, str | None]:
    """What --launcher and --linker name; None where nothing was said. Raises UsageError for other words."""
    from nodekiln.toolchain import launchers, linkers

    return (
        launchers.check_choice(launcher) if launcher else None,
        linkers.check_choice(linker) if linker else None,
    )
