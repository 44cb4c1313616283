"""Commands that only look: at this machine, at binaries, at releases."""

from __future__ import annotations

import json
from collections.abc import Sequence

from invoke.context import Context

from nodekiln.cli.command import (
    CONFIGURE_ARGS,
    CONFIGURE_FILE,
    FORMAT,
    LAUNCHER,
    LINKER,
    MOVED,
    REPOSITORY,
    TAG,
    change_help,
    command,
    is_json,
    known_changes,
    make_reporter,
    more_arguments,
    number,
    read_settings,
    show,
    tools,
)


@command(
    positional=("tag",),
    help={
        "tag": TAG + "; without it, only the machine is checked",
        "probes": "check for a build without probes",
        "repository": REPOSITORY,
        "configure-args": CONFIGURE_ARGS,
        "configure-file": CONFIGURE_FILE,
        "launcher": LAUNCHER,
        "linker": LINKER,
        "clean-env": "check the environment that --clean-env would leave",
        "format": FORMAT,
    },
)
def doctor(
    context: Context,
    tag: str = "",
    probes: bool = True,
    repository: str = "",
    configure_args: str = "",
    configure_file: str = "",
    launcher: str = "",
    linker: str = "",
    clean_env: bool = False,
    format: str = "text",  # noqa: A002 (the option's name)
) -> int:
    """Check this machine for what would stop a build.

    Exit code 3 if something would stop it; warnings do not count.
    """
    from nodekiln.core.errors import ToolchainError
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import print_lines
    from nodekiln.pipelines.checking import examine
    from nodekiln.pipelines.shorthand import is_shorthand, source_tag

    settings = read_settings(context)
    more = more_arguments(settings, configure_args, configure_file)
    as_json = is_json(format)
    tool_options = tools(launcher, linker, clean_env=clean_env)
    reporter = make_reporter(context)
    if tag and is_shorthand(tag):
        tag = str(source_tag(tag, repository or None, settings, reporter))
    found = examine(
        settings,
        reporter,
        tag=Tag.parse(tag) if tag else None,
        repository=repository or None,
        configure_args=settings.configure_args + more,
        probes=probes,
        tools=tool_options,
    )
    if as_json:
        print(json.dumps(found.as_data(), indent=2))
    else:
        for finding in found.findings:
            print_lines(f"{finding.severity.value:8}{finding}".splitlines())
        print_lines([found.summary])
    return ToolchainError.exit_code if found.errors else 0


@command(positional=("file",), help={"file": "name or path of a binary", "format": FORMAT})
def inspect(context: Context, file: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Print what a binary is: recipe, probes, hash.

    Does not run it.
    """
    from nodekiln.changes.registry import Registry
    from nodekiln.core.reporting import print_lines
    from nodekiln.pipelines.inspect import find_binary, inspect

    as_json = is_json(format)
    settings = read_settings(context)
    found = inspect(find_binary(file, settings), Registry.of(settings))
    if as_json:
        print(json.dumps(found.as_data(), indent=2))
    else:
        print_lines(found.lines())


@command(positional=("binary",), help={"binary": "name of a binary, or any ELF file", "format": FORMAT})
def probes(context: Context, binary: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """List the USDT probes of a binary, with arguments.

    Needs no root and does not run it.
    """
    from nodekiln.core.reporting import show_table
    from nodekiln.pipelines.inspect import HEADINGS, find_binary, probes

    as_json = is_json(format)
    path = find_binary(binary, read_settings(context))
    found = probes(path)
    if as_json:
        print(json.dumps([row.as_data() for row in found], indent=2))
        return
    show_table(HEADINGS, [row.cells() for row in found])
    if not found:
        make_reporter(context).say(f"{path} has no probes")


@command(positional=("name",), help={"name": "name of a binary, as ./inv list shows it", "format": FORMAT})
def path(context: Context, name: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Print the path of a binary.

    Use it as in "$(./inv path v22.20.0-usdt)" app.js.
    """
    from nodekiln.binaries.store import Store
    from nodekiln.pipelines.inspect import ListedBinary

    as_json = is_json(format)
    found = Store(read_settings(context).workspace).get(name)
    print(json.dumps(ListedBinary(found).as_data(), indent=2) if as_json else found.binary)


@command(name="list", help={"format": FORMAT})
def list_binaries(context: Context, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """List the binaries made so far."""
    from nodekiln.binaries.store import Store
    from nodekiln.core.reporting import show_table
    from nodekiln.pipelines.inspect import list_binaries

    settings = read_settings(context)
    found = list_binaries(Store(settings.workspace))
    if is_json(format):
        print(json.dumps([row.as_data() for row in found], indent=2))
        return
    show_table(("name", "size", "made", "backpressure", "source"), [row.cells() for row in found])
    if not found:
        make_reporter(context).say(
            "no binaries yet; this makes one in seconds: ./inv graft v22.20.0 --no-backpressure"
        )


@command(positional=("name",), help={"name": "name of a binary, as ./inv list shows it", "format": FORMAT})
def timings(context: Context, name: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Print what took the time in a build.

    Shows the longest steps, the kinds of steps, and the critical path (*).
    """
    from nodekiln.core.reporting import show_table
    from nodekiln.pipelines.timings import TimingStore, as_data, rows, summary, write_pictures

    as_json = is_json(format)
    store = TimingStore(read_settings(context).workspace.timings)
    reporter = make_reporter(context)
    found = store.get(name)
    if as_json:
        print(json.dumps(as_data(found), indent=2))
        return
    for line in summary(found):
        reporter.say(line)
    show_table(("step", "took", "critical"), rows(found))
    for picture in write_pictures(found, store):
        reporter.say(str(picture))


@command(
    resumes=True,
    positional=("tags",),
    iterable=["change"],
    help={
        "tags": "v22.20.0, v22.*, '>=20,<25', latest-per-major, all, comma-separated (default: the newest of"
        " each major from 18 on)",
        "since": "skip tags before this one",
        "pre": "include pre-releases (v27.0.0-alpha.1); one that does not fit is a warning",
        "recipe": "stock, or changes joined with -, as no-backpressure-usdt; comma-separated (default: the"
        " changes of --change in their order, else all combinations of the standard ones)",
        "change": change_help(),
        "depth": "plan, compile (syntax of patched files) or build",
        "explain": "show each hunk that does not fit beside the tag's lines",
        "format": "table, json, junit or github",
        "output": "file for the report (default: stdout)",
        "repository": REPOSITORY,
        "jobs": "compilers at once, for compile and build (default: cores, as far as memory allows)",
        "accept-moved-tag": MOVED,
    },
)
def verify(
    context: Context,
    tags: str = "",
    since: str = "",
    pre: bool = False,
    recipe: str = "",
    change: Sequence[str] | None = None,
    depth: str = "plan",
    explain: bool = False,
    format: str = "table",  # noqa: A002 (the option's name)
    output: str = "",
    repository: str = "",
    jobs: str = "",
    accept_moved_tag: bool = False,
) -> int:
    """Check which releases the changes fit.

    Needs no checkout and no compiler. Exit code 4 if a change does not fit a release.
    """
    from nodekiln.changes.registry import Registry
    from nodekiln.verify.outcome import Depth, parse_kinds
    from nodekiln.verify.reports import check_format, check_output, publish
    from nodekiln.verify.run import VerifyRequest, verify
    from nodekiln.verify.tagspec import TagSpec

    settings, reporter = read_settings(context, change), make_reporter(context)
    form, file = check_format(format), check_output(settings.cwd / output) if output else None
    request = VerifyRequest(
        tags=TagSpec.parse(tags or None, since or None, pre=pre),
        kinds=parse_kinds(recipe or None, Registry.of(settings), known_changes(settings, change or ())),
        depth=Depth.parse(depth),
        repository=repository or None,
        jobs=number("--jobs", jobs),
        accept_moved_tag=accept_moved_tag,
    )
    report = verify(request, settings, reporter)
    publish(
        report,
        form=form,
        explain=explain,
        output=file,
        environment=settings.environment,
        show=show,
    )
    if file is not None:
        reporter.say(f"{report.summary}; written to {file}")
    return report.exit_code


TASKS = (doctor, inspect, probes, path, list_binaries, timings, verify)
