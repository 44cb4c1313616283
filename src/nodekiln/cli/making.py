"""Commands that make binaries, or show what would be made."""

from __future__ import annotations

import os

from invoke.context import Context

from nodekiln.cli.options import (
    BACKPRESSURE,
    CONFIGURE_ARGS,
    CONFIGURE_FILE,
    LAUNCHER,
    LINKER,
    MOVED,
    PROBES,
    REPOSITORY,
    TAG,
    command,
    make_recipe,
    needed,
    number,
    read_settings,
    tools,
)
from nodekiln.core.errors import UsageError


@command(
    resumes=True,
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
        "matrix": "make all four recipes of the tag, in the cheapest order; prints four paths",
        "timings": "say afterwards what took the time, and draw it (SVG and PNG)",
        "launcher": LAUNCHER,
        "linker": LINKER,
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
    matrix: bool = False,
    timings: bool = False,
    launcher: str = "",
    linker: str = "",
    discard_edits: bool = False,
) -> None:
    """Make a Node binary from a release's source, checked and published under build/binaries."""
    settings, count = read_settings(context), number("--jobs", jobs)
    recipe = make_recipe(settings, tag, backpressure, probes, configure_args, configure_file, name)
    wanted_launcher, wanted_linker = tools(launcher, linker)
    if matrix and not (backpressure and probes):
        raise UsageError("--matrix makes all four recipes: leave out --no-backpressure and --no-probes.")
    from nodekiln.core.reporting import Reporter  # a mistyped option need not wait for what a build imports
    from nodekiln.pipelines.build import BuildRequest, build
    from nodekiln.pipelines.matrix import Made, Matrix, build_matrix
    from nodekiln.pipelines.timings import store_of, tell

    request = BuildRequest(
        recipe=recipe,
        repository=repository or None,
        jobs=count,
        launcher=wanted_launcher,
        linker=wanted_linker,
        force=force,
        from_scratch=from_scratch,
        clean_env=clean_env,
        dry_run=dry_run,
        accept_moved_tag=accept_moved_tag,
        discard_edits=discard_edits,
    )
    reporter = Reporter()
    if matrix:
        done = build_matrix(request, settings, reporter)
    else:
        done = Matrix((Made(recipe, build(request, settings, reporter)),))
    for made in done.recipes:
        if made.path is None:
            continue
        if timings:
            tell(made.recipe.name, store_of(settings.workspace), reporter)
        print(made.path)
    done.raise_for()


@command(
    resumes=True,
    help={
        "tag": TAG,
        "backpressure": BACKPRESSURE,
        "probes": "with --no-probes, no GC probes are added; macOS and Windows take none",
        "platform": "what the binary is for, as linux-arm64, darwin-x64, win-x64 (default: this machine)",
        "release": "official binary, or tarball with one, to start from (default: it is downloaded)",
        "mirror": "URL of a folder like nodejs.org/dist (default: NODEKILN_MIRROR, or that one)",
        "force": "make it although it is there",
    },
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
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import Reporter
    from nodekiln.grafting.platforms import Platform
    from nodekiln.pipelines.graft import GraftRequest, graft

    settings = read_settings(context)
    request = GraftRequest(
        tag=Tag.parse(needed("--tag", tag, "v22.20.0")),
        backpressure=backpressure,
        probes=probes,
        platform=Platform.parse(platform) if platform else None,
        file=settings.here / release if release else None,
        mirror=mirror or os.environ.get("NODEKILN_MIRROR") or None,
        force=force,
    )
    print(graft(request, settings, Reporter()))


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
    from nodekiln.changes import diff
    from nodekiln.core.reporting import Reporter, show_diff
    from nodekiln.pipelines.planning import make_plan, open_tag

    settings, reporter = read_settings(context), Reporter()
    recipe = make_recipe(settings, tag, backpressure, probes, "", "", "")
    source = open_tag(recipe, repository or None, settings, reporter, accept_moved=accept_moved_tag)
    text = diff.render(make_plan(recipe, source, settings, reporter).plan)
    if not text:
        reporter.say(f"{recipe.name} is the release as it stands: nothing to change")
    show_diff(text, diff.color, settings.environment)


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
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import Reporter, format_size
    from nodekiln.source.tarball import import_tarball

    settings, reporter = read_settings(context), Reporter()
    done = import_tarball(
        settings.workspace,
        Tag.parse(needed("--tag", tag, "v20.19.2")),
        settings.here / needed("--file", file, "node-v20.19.2.tar.gz"),
        reporter,
        shasums=settings.here / shasums if shasums else None,
        accept_moved=accept_moved_tag,
    )
    checked = "its hash stands in SHASUMS" if done.checked else "checked against no SHASUMS"
    print(f"{done.tag} is {done}: {done.files} files, {format_size(done.size)}, {checked}")
