"""Commands that make binaries, or show what would be made."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from nodekiln.cli.command import (
    BACKPRESSURE,
    CONFIGURE_ARGS,
    CONFIGURE_FILE,
    FORMAT,
    LAUNCHER,
    LINKER,
    MOVED,
    PROBES,
    REPOSITORY,
    TAG,
    change_help,
    command,
    is_json,
    make_recipe,
    make_reporter,
    number,
    read_settings,
    require,
    select_changes,
    tools,
)
from nodekiln.core.errors import UsageError

if TYPE_CHECKING:
    from nodekiln.core.settings import Settings


@command(
    positional=("tag",),
    iterable=["change"],
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "change": change_help(),
        "probes": "add no GC probes; required for macOS and Windows",
        "platform": "platform of the binary: linux-arm64, darwin-x64, win-x64, ... (default: this machine's)",
        "release": "official binary, or tarball with one, to start from (default: download it)",
        "mirror": "URL of a folder like nodejs.org/dist (default: NODEKILN_MIRROR, or nodejs.org)",
        "keep-snapshot": "refuse a graft that starts slower, without the built-in startup snapshot",
        "allow-unsigned": "use a release whose signature is missing, unknown or wrong",
        "force": "make it although it exists",
        "dry-run": "print what would be downloaded and made",
        "format": FORMAT,
    },
)
def graft(
    context: Context,
    tag: str = "",
    backpressure: bool = True,
    probes: bool = True,
    change: Sequence[str] | None = None,
    platform: str = "",
    release: str = "",
    mirror: str = "",
    keep_snapshot: bool = False,
    allow_unsigned: bool = False,
    force: bool = False,
    dry_run: bool = False,
    format: str = "text",  # noqa: A002 (the option's name)
) -> None:
    """Change an official binary; takes seconds, no compiler.

    Downloads the release, checks it, changes it, runs it, and prints the path of the result.
    """
    from nodekiln.grafting.platforms import Platform
    from nodekiln.pipelines.graft import GraftRequest, graft
    from nodekiln.pipelines.shorthand import release_tag

    settings, reporter, as_json = read_settings(context, change), make_reporter(context), is_json(format)
    target = Platform.parse(platform) if platform else None
    mirror = mirror or os.environ.get("NODEKILN_MIRROR", "")
    request = GraftRequest(
        tag=release_tag(require("--tag", tag, "v22.20.0"), target, mirror or None, settings, reporter),
        changes=select_changes(settings, backpressure, probes, change or ()),
        platform=target,
        file=settings.cwd / release if release else None,
        mirror=mirror or None,
        allow_unsigned=allow_unsigned,
        force=force,
        keep_snapshot=keep_snapshot,
    )
    if dry_run:
        origin = release or mirror or "nodejs.org/dist, or npm if that is unreachable"
        reporter.say(f"would take   the release {request.tag} for {platform or 'this machine'} from {origin}")
        reporter.say(f"would make   a graft of it below {settings.workspace.binaries}")
        return
    _print_made([graft(request, settings, reporter)], settings, as_json=as_json)


@command(
    resumes=True,
    positional=("tag",),
    iterable=["change"],
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "change": change_help(),
        "probes": PROBES,
        "repository": REPOSITORY,
        "configure-args": CONFIGURE_ARGS,
        "configure-file": CONFIGURE_FILE,
        "name": "word for these configure arguments in the binary's name (default: a short hash)",
        "jobs": "number of compilers at once (default: cores, as far as memory allows)",
        "force": "build although the binary exists; only what changed is compiled",
        "from-scratch": "build with an empty out/",
        "clean-env": "ignore CFLAGS, MAKEFLAGS, a stray CC and the like in the environment",
        "dry-run": "check and plan, then print what would be done",
        "accept-moved-tag": MOVED,
        "matrix": "make all combinations of the standard changes and --change; prints their paths",
        "timings": "print afterwards which steps took the time, and draw them (SVG and PNG)",
        "launcher": LAUNCHER,
        "linker": LINKER,
        "discard-edits": "discard what was edited by hand in the working tree",
        "format": FORMAT,
    },
)
def build(
    context: Context,
    tag: str = "",
    backpressure: bool = True,
    probes: bool = True,
    change: Sequence[str] | None = None,
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
    matrix: bool = False,
    timings: bool = False,
    launcher: str = "",
    linker: str = "",
    discard_edits: bool = False,
    format: str = "text",  # noqa: A002 (the option's name)
) -> None:
    """Build a release from source.

    Fetches the tag, applies the changes, checks the toolchain, compiles, runs the binary, publishes it under
    build/binaries and prints its path.
    """
    settings, reporter, count = read_settings(context, change), make_reporter(context), number("--jobs", jobs)
    tool_options = tools(launcher, linker, clean_env=clean_env)
    as_json = is_json(format)
    if matrix and not (backpressure and probes):
        raise UsageError("--matrix makes all combinations: leave out --no-backpressure and --no-probes.")
    tag = _source_tag(tag, repository, context)
    changes = select_changes(settings, backpressure, probes, change or ())
    recipe = make_recipe(settings, tag, changes, configure_args, configure_file, name)
    from nodekiln.pipelines.build import BuildOptions, build  # a mistyped option should not wait for it
    from nodekiln.pipelines.timings import TimingStore, report_timings

    options = BuildOptions(
        recipe=recipe,
        tools=tool_options,
        repository=repository or None,
        jobs=count,
        force=force,
        from_scratch=from_scratch,
        dry_run=dry_run,
        accept_moved_tag=accept_moved_tag,
        discard_edits=discard_edits,
    )
    if matrix:
        from nodekiln.pipelines.matrix import build_matrix

        done = build_matrix(options, settings, reporter)
        found = {made.recipe.name: made.path for made in done.recipes}
    else:
        done, found = None, {recipe.name: build(options, settings, reporter)}
    paths = {name: path for name, path in found.items() if path is not None}
    if timings:
        for made_name in paths:
            report_timings(made_name, TimingStore(settings.workspace.timings), reporter)
    _print_made(list(paths.values()), settings, as_json=as_json, as_list=matrix)
    if done is not None:
        done.raise_for()


@command(
    positional=("tag",),
    iterable=["change"],
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "change": change_help(),
        "probes": PROBES,
        "repository": REPOSITORY,
        "accept-moved-tag": MOVED,
    },
)
def patch(
    context: Context,
    tag: str = "",
    backpressure: bool = True,
    probes: bool = True,
    change: Sequence[str] | None = None,
    repository: str = "",
    accept_moved_tag: bool = False,
) -> None:
    """Print the changes to a release's source as a diff."""
    settings, reporter = read_settings(context, change), make_reporter(context)
    changes = select_changes(settings, backpressure, probes, change or ())
    recipe = make_recipe(settings, _source_tag(tag, repository, context), changes, "", "", "")
    from nodekiln.changes import diff
    from nodekiln.core.reporting import show_diff
    from nodekiln.pipelines.planning import make_plan, open_tag

    source = open_tag(recipe, repository or None, settings, reporter, accept_moved=accept_moved_tag)
    text = diff.render(make_plan(recipe, source, settings, reporter).plan)
    if not text:
        reporter.say(f"{recipe.name} is the unchanged release: there is no diff")
    show_diff(text, diff.color, settings.environment)


@command(
    name="import-tarball",
    positional=("tag", "file"),
    help={
        "tag": "release, as v22.20.0",
        "file": "source tarball of that release (.tar.gz, .tar.xz, .tar.bz2)",
        "shasums": "SHASUMS256.txt with the tarball's hash, to check it",
        "accept-moved-tag": "replace another tarball that was imported as this tag",
    },
)
def import_tarball(
    context: Context, tag: str = "", file: str = "", shasums: str = "", accept_moved_tag: bool = False
) -> None:
    """Import a release's source from a tarball."""
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import format_size
    from nodekiln.source.tarball import import_tarball

    settings = read_settings(context)
    done = import_tarball(
        settings.workspace,
        Tag.parse(require("--tag", tag, "v20.19.2")),
        settings.cwd / require("--file", file, "node-v20.19.2.tar.gz"),
        make_reporter(context),
        shasums=settings.cwd / shasums if shasums else None,
        accept_moved=accept_moved_tag,
    )
    checked = "its hash is in SHASUMS" if done.checked else "not checked against a SHASUMS file"
    print(f"{done.tag} is {done}: {done.files} files, {format_size(done.size)}, {checked}")


def _source_tag(tag: str, repository: str, context: Context) -> str:
    """Return the full tag that --tag means; only 22, lts and the like ask the repository."""
    from nodekiln.core.recipe import Tag

    word = require("--tag", tag, "v22.20.0")
    try:
        return str(Tag.parse(word))
    except UsageError:
        from nodekiln.pipelines.shorthand import source_tag

        return str(source_tag(word, repository or None, read_settings(context), make_reporter(context)))


def _print_made(paths: list[Path], settings: Settings, *, as_json: bool, as_list: bool = False) -> None:
    """Print the paths of binaries, or as JSON their names, paths, sizes and manifests."""
    if not as_json:
        for path in paths:
            print(path)
        return
    from nodekiln.binaries.store import Store
    from nodekiln.pipelines.inspect import ListedBinary

    names = [path.absolute().relative_to(settings.workspace.binaries.absolute()).parts[0] for path in paths]
    rows = [ListedBinary(Store(settings.workspace).get(name)).as_data() for name in names]
    if rows or as_list:
        print(json.dumps(rows if as_list else rows[0], indent=2))


TASKS = (graft, build, patch, import_tarball)
