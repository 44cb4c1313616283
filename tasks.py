"""The commands: read arguments and configuration, call, print. What they do stands in src/nodekiln."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:  # imported where it is used: --list, --help and completion should not wait for it
    from nodekiln.recipe import Recipe
    from nodekiln.settings import Settings

HERE = Path(__file__).resolve().parent

TAG = "release to take, as v22.20.0 or 22.20.0"
REPOSITORY = "git repository, URL or path (default: NODEKILN_REPOSITORY, invoke.yaml, Node's own)"
BACKPRESSURE = "with --no-backpressure, write() always answers true"
PROBES = "with --no-probes, no USDT/DTrace probes"
CONFIGURE_ARGS = "more arguments for configure, as one text: --configure-args='--without-npm --debug'"
CONFIGURE_FILE = "file with more arguments for configure, one a line, # for comments"
MOVED = "go on although the tag is another commit now"
FORMAT = "text or json"


def command(**options: Any) -> Callable[[Callable[..., int | None]], Any]:
    """A task of invoke that ends with one of our exit codes, and with no traceback of a user's making."""

    def decorate(function: Callable[..., int | None]) -> Any:
        @functools.wraps(function)
        def run(context: Context, *args: Any, **kwargs: Any) -> None:
            from nodekiln.edge import run_command

            if code := run_command(functools.partial(function, context, *args, **kwargs)):
                raise Exit(code=code)

        return task(run, auto_shortflags=False, **options)

    return decorate


@command(
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "probes": PROBES,
        "repository": REPOSITORY,
        "configure-args": CONFIGURE_ARGS,
        "configure-file": CONFIGURE_FILE,
        "name": "word that tells these configure arguments in the binary's name (default: a short hash)",
        "jobs": "compilers at once (default: cores, as far as memory allows)",
        "force": "build although the binary is there; only what changed is compiled",
        "from-scratch": "build with an empty out/",
        "clean-env": "build without CFLAGS, MAKEFLAGS, stray CC and the like from the environment",
        "dry-run": "check and plan, then say what would be done",
        "accept-moved-tag": MOVED,
        "discard-edits": "throw away what somebody edited by hand in the working tree",
    },
    optional=[],
)
def build(
    context: Context,
    tag: str = "",
    backpressure: bool = True,
    probes: bool = True,
    repository: str = "",
    configure_args: str = "",
    configure_file: str = "",
    name: str = "",
    jobs: str = "",
    force: bool = False,
    from_scratch: bool = False,
    clean_env: bool = False,
    dry_run: bool = False,
    accept_moved_tag: bool = False,
    discard_edits: bool = False,
) -> None:
    """Make a Node binary from a release's source, checked and published under build/binaries."""
    settings, count = _settings(context), _number("--jobs", jobs)
    recipe = _recipe(settings, tag, backpressure, probes, configure_args, configure_file, name)
    from nodekiln.reporting import Reporter  # a mistyped option need not wait for what a build imports
    from nodekiln.routes.build import BuildRequest, build

    request = BuildRequest(
        recipe=recipe,
        repository=repository or None,
        jobs=count,
        force=force,
        from_scratch=from_scratch,
        clean_env=clean_env,
        dry_run=dry_run,
        accept_moved_tag=accept_moved_tag,
        discard_edits=discard_edits,
    )
    path = build(request, settings, Reporter())
    if path is not None:
        print(path)


@command(
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "probes": PROBES,
        "repository": REPOSITORY,
        "accept-moved-tag": MOVED,
    }
)
def patch(
    context: Context,
    tag: str = "",
    backpressure: bool = True,
    probes: bool = True,
    repository: str = "",
    accept_moved_tag: bool = False,
) -> None:
    """Show what a recipe changes in the release's files, as a diff that git apply takes; writes nothing."""
    from nodekiln.patching import diff
    from nodekiln.reporting import Reporter, show_diff
    from nodekiln.routes.planning import make_plan, open_tag

    settings, reporter = _settings(context), Reporter()
    recipe = _recipe(settings, tag, backpressure, probes, "", "", "")
    source = open_tag(recipe, repository or None, settings, reporter, accept_moved=accept_moved_tag)
    text = diff.render(make_plan(recipe, source, settings, reporter).plan)
    if not text:
        reporter.say(f"{recipe.name} is the release as it stands: nothing to change")
    show_diff(text, diff.color, settings.environment)


@command(
    help={
        "tag": TAG + "; without it, only what needs no tag is looked at",
        "probes": "with --no-probes, look as for a build without probes",
        "repository": REPOSITORY,
        "configure-args": CONFIGURE_ARGS,
        "configure-file": CONFIGURE_FILE,
        "clean-env": "look at the environment as --clean-env would leave it",
        "format": FORMAT,
    }
)
def doctor(
    context: Context,
    tag: str = "",
    probes: bool = True,
    repository: str = "",
    configure_args: str = "",
    configure_file: str = "",
    clean_env: bool = False,
    format: str = "text",  # noqa: A002 (the option's name)
) -> int:
    """Say what would stop or disturb a build on this machine; exit code 3 where something would stop it."""
    from nodekiln.errors import ToolchainError
    from nodekiln.reporting import Reporter
    from nodekiln.routes.checking import examine

    settings = _settings(context)
    recipe = _recipe(settings, tag, True, probes, configure_args, configure_file, "") if tag else None
    args = settings.configure_args if recipe is None else recipe.configure_args
    as_json = _format(format) == "json"
    found = examine(
        settings,
        Reporter(),
        tag=None if recipe is None else recipe.tag,
        repository=repository or None,
        configure_args=args,
        clean_env=clean_env,
        probes=probes,
    )
    if as_json:
        print(json.dumps(found.as_data(), indent=2))
    else:
        for finding in found.findings:
            print(f"{finding.severity.value:8}{finding}")
        print(found.summary)
    return ToolchainError.exit_code if found.errors else 0


@command(
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "probes": "with --no-probes, no GC probes are added; macOS and Windows take none",
        "platform": "what the binary is for, as linux-arm64, darwin-x64, win-x64 (default: this machine)",
        "release": "official binary, or tarball with one, to start from (default: it is downloaded)",
        "mirror": "URL of a folder like nodejs.org/dist (default: NODEKILN_MIRROR, or that one)",
        "force": "make it although it is there",
    }
)
def graft(
    context: Context,
    tag: str = "",
    backpressure: bool = True,
    probes: bool = True,
    platform: str = "",
    release: str = "",
    mirror: str = "",
    force: bool = False,
) -> None:
    """Make a Node binary from the official one, in seconds and without a compiler."""
    from nodekiln.grafting.platforms import Platform
    from nodekiln.recipe import Tag
    from nodekiln.reporting import Reporter
    from nodekiln.routes.graft import GraftRequest, graft

    settings = _settings(context)
    request = GraftRequest(
        tag=Tag.parse(_needed("--tag", tag, "v22.20.0")),
        backpressure=backpressure,
        probes=probes,
        platform=Platform.parse(platform) if platform else None,
        file=settings.here / release if release else None,
        mirror=mirror or os.environ.get("NODEKILN_MIRROR") or None,
        force=force,
    )
    print(graft(request, settings, Reporter()))


@command(help={"file": "a binary, from wherever", "format": FORMAT})
def inspect(context: Context, file: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Say what a binary is: grafted or built here, or neither; recipe, probes, hash. Runs nothing of it."""
    from nodekiln.routes.inspect import inspect

    as_json = _format(format) == "json"
    found = inspect(_settings(context).here / file)
    print(json.dumps(found.as_data(), indent=2) if as_json else "\n".join(found.lines()))


@command(
    help={
        "script": "gc, http or backpressure",
        "binary": "name of a binary, as ./inv list shows it, or a path; what it runs follows two dashes",
        "pid": "number of a running process, instead of --binary",
        "output": "file for the tracer's lines (default: stdout)",
    }
)
def trace(context: Context, script: str, binary: str = "", pid: str = "", output: str = "") -> int:
    """Trace a program: ./inv trace gc --binary NAME -- script.js args; or ./inv trace gc --pid NUMBER."""
    from nodekiln.reporting import Reporter
    from nodekiln.routes.trace import TraceRequest, trace

    settings = _settings(context)
    request = TraceRequest(
        script=script,
        binary=binary or None,
        words=tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else (),
        pid=_number("--pid", pid),
        output=settings.here / output if output else None,
    )
    return trace(request, settings, Reporter())


@command(help={"binary": "name of a binary, or any ELF file", "format": FORMAT})
def probes(context: Context, binary: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """List the USDT probes of a binary with their arguments; no root needed, nothing is run."""
    from nodekiln.reporting import Reporter, show_table
    from nodekiln.routes.probes import HEADINGS, find_binary, probes

    as_json = _format(format) == "json"
    path = find_binary(binary, _settings(context))
    found = probes(path)
    if as_json:
        print(json.dumps([row.as_data() for row in found], indent=2))
    elif not found:
        Reporter().say(f"{path} has no probes")
    else:
        show_table(HEADINGS, [row.cells() for row in found])


@command(
    name="import-tarball",
    help={
        "tag": TAG,
        "file": "source tarball of that release (.tar.gz, .tar.xz, .tar.bz2)",
        "shasums": "SHASUMS256.txt that names the tarball, to check it against",
        "accept-moved-tag": "replace another tarball that was imported as this tag",
    },
)
def import_tarball(
    context: Context, tag: str = "", file: str = "", shasums: str = "", accept_moved_tag: bool = False
) -> None:
    """Take a release's source from a tarball instead of a git repository."""
    from nodekiln.recipe import Tag
    from nodekiln.reporting import Reporter, format_size
    from nodekiln.source.tarball import import_tarball

    settings, reporter = _settings(context), Reporter()
    done = import_tarball(
        settings.workspace,
        Tag.parse(_needed("--tag", tag, "v20.19.2")),
        settings.here / _needed("--file", file, "node-v20.19.2.tar.gz"),
        reporter,
        shasums=settings.here / shasums if shasums else None,
        accept_moved=accept_moved_tag,
    )
    checked = "its hash stands in SHASUMS" if done.checked else "checked against no SHASUMS"
    print(f"{done.tag} is {done}: {done.files} files, {format_size(done.size)}, {checked}")


@command(help={"name": "name of a binary, as ./inv list shows it"})
def path(context: Context, name: str) -> None:
    """Print where a binary is, for $(./inv path NAME) app.js."""
    from nodekiln.binaries.store import Store

    settings = _settings(context)
    print(Store(settings.workspace.binaries).get(name).binary)


@command(name="list", help={"format": FORMAT})
def list_binaries(context: Context, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Show the binaries that are there."""
    from nodekiln.binaries.store import Store
    from nodekiln.reporting import Reporter, show_table
    from nodekiln.routes.listing import rows

    settings = _settings(context)
    found = rows(Store(settings.workspace.binaries))
    if _format(format) == "json":
        print(json.dumps([row.as_data() for row in found], indent=2))
    elif not found:
        Reporter().say("no binaries yet: ./inv build --tag v22.20.0 --no-backpressure makes one")
    else:
        show_table(("name", "size", "made", "write()", "source"), [row.cells() for row in found])


@command(
    help={
        "tag": TAG + "; without it, everything",
        "binaries": "with --no-binaries, published binaries stay",
        "yes": "don't ask",
        "dry-run": "only say what would be removed",
    }
)
def clean(
    context: Context, tag: str = "", binaries: bool = True, yes: bool = False, dry_run: bool = False
) -> None:
    """Remove working trees and binaries, after saying how much and asking."""
    from nodekiln.recipe import Tag
    from nodekiln.reporting import Reporter, confirm, format_size
    from nodekiln.routes.cleaning import find, remove

    settings, reporter = _settings(context), Reporter()
    found = find(settings.workspace, Tag.parse(tag) if tag else None, binaries=binaries)
    if not found:
        reporter.say("nothing to remove")
        return
    for item in found:
        reporter.say(f"{format_size(item.size):>10}  {item.folder}")
    total = format_size(sum(item.size for item in found))
    if dry_run:
        reporter.say(f"would remove {total}")
    elif yes or confirm(f"Remove these {total}?"):
        remove(settings.workspace, found, reporter)
        reporter.say(f"removed {total}")
    else:
        reporter.say("nothing was removed")


@command(
    help={
        "real": "run the tests on real Node trees and builds as well (NODEKILN_REPOSITORY has to name some)",
        "only": "pytest's -k: run the tests whose names match",
    }
)
def test(context: Context, real: bool = False, only: str = "") -> int:
    """Run the tests; the fast ones unless told otherwise."""
    from nodekiln.machine import cores
    from nodekiln.process import follow

    del context
    if real:  # a file's tests share builds that a second worker would make once more
        words = ["-n", str(cores()), "--dist", "loadfile", "tests"]
    else:  # tests wait for processes: a worker more than there are cores takes a sixth less time
        words = ["-n", str(cores() + 1), "tests/unit", "tests/integration"]
    words += ["-k", only] if only else []
    return follow([sys.executable, "-m", "pytest", *words], cwd=HERE)


@command()
def check(context: Context) -> int:
    """Run the linter, the formatter and the type checker over everything."""
    from nodekiln.process import follow

    del context
    for words in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        if code := follow([sys.executable, "-m", *words], cwd=HERE):
            return code
    return 0


def _settings(context: Context) -> Settings:
    from nodekiln.settings import Settings

    return Settings.read(
        environ=os.environ,
        config=context.config.get("nodekiln"),
        root=HERE,
        here=Path.cwd(),
        venv=Path(sys.prefix) if sys.prefix != sys.base_prefix else None,
    )


def _recipe(
    settings: Settings, tag: str, backpressure: bool, probes: bool, args: str, file: str, name: str
) -> Recipe:
    from nodekiln.recipe import Recipe, Tag, parse_arguments
    from nodekiln.settings import read_configure_file

    from_file = read_configure_file(settings.here / file, "--configure-file") if file else ()
    return Recipe(
        tag=Tag.parse(_needed("--tag", tag, "v22.20.0")),
        backpressure=backpressure,
        probes=probes,
        default_args=settings.configure_args,
        extra_args=from_file + parse_arguments(args),
        label=name or None,
    )


def _needed(option: str, value: str, example: str) -> str:
    from nodekiln.errors import UsageError

    if not value:
        raise UsageError(f"{option} is needed, as in {option} {example}.")
    return value


def _number(option: str, value: str) -> int | None:
    from nodekiln.errors import UsageError

    if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 2**22):
        raise UsageError(f"{option} takes a number from 1 on, not {value!r}.")
    return int(value) if value else None


def _format(value: str) -> str:
    from nodekiln.errors import UsageError

    if value not in ("text", "json"):
        raise UsageError(f"--format takes text or json, not {value!r}.")
    return value
