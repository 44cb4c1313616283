"""Commands that look: at this machine, at a binary, at what is there."""

from __future__ import annotations

import json

from invoke.context import Context

from nodekiln.cli.options import (
    CONFIGURE_ARGS,
    CONFIGURE_FILE,
    FORMAT,
    LAUNCHER,
    LINKER,
    MOVED,
    REPOSITORY,
    TAG,
    command,
    more_arguments,
    number,
    output_format,
    read_settings,
    tools,
)


@command(
    help={
        "tag": TAG + "; without it, only what needs no tag is looked at",
        "probes": "with --no-probes, look as for a build without probes",
        "repository": REPOSITORY,
        "configure-args": CONFIGURE_ARGS,
        "configure-file": CONFIGURE_FILE,
        "launcher": LAUNCHER,
        "linker": LINKER,
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
    launcher: str = "",
    linker: str = "",
    clean_env: bool = False,
    format: str = "text",  # noqa: A002 (the option's name)
) -> int:
    """Say what would stop or disturb a build on this machine; exit code 3 where something would stop it."""
    from nodekiln.core.errors import ToolchainError
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import Reporter
    from nodekiln.pipelines.checking import examine

    settings = read_settings(context)
    more = more_arguments(settings, configure_args, configure_file)
    as_json = output_format(format) == "json"
    wanted_launcher, wanted_linker = tools(launcher, linker)
    found = examine(
        settings,
        Reporter(),
        tag=Tag.parse(tag) if tag else None,
        repository=repository or None,
        configure_args=settings.configure_args + more,
        clean_env=clean_env,
        probes=probes,
        launcher=wanted_launcher,
        linker=wanted_linker,
    )
    if as_json:
        print(json.dumps(found.as_data(), indent=2))
    else:
        for finding in found.findings:
            print(f"{finding.severity.value:8}{finding}")
        print(found.summary)
    return ToolchainError.exit_code if found.errors else 0


@command(help={"file": "a binary, from wherever", "format": FORMAT})
def inspect(context: Context, file: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Say what a binary is: grafted or built here, or neither; recipe, probes, hash. Runs nothing of it."""
    from nodekiln.pipelines.inspect import inspect

    as_json = output_format(format) == "json"
    found = inspect(read_settings(context).here / file)
    print(json.dumps(found.as_data(), indent=2) if as_json else "\n".join(found.lines()))


@command(help={"binary": "name of a binary, or any ELF file", "format": FORMAT})
def probes(context: Context, binary: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """List the USDT probes of a binary with their arguments; no root needed, nothing is run."""
    from nodekiln.core.reporting import Reporter, show_table
    from nodekiln.pipelines.probes import HEADINGS, find_binary, probes

    as_json = output_format(format) == "json"
    path = find_binary(binary, read_settings(context))
    found = probes(path)
    if as_json:
        print(json.dumps([row.as_data() for row in found], indent=2))
    elif not found:
        Reporter().say(f"{path} has no probes")
    else:
        show_table(HEADINGS, [row.cells() for row in found])


@command(help={"name": "name of a binary, as ./inv list shows it"})
def path(context: Context, name: str) -> None:
    """Print where a binary is, for $(./inv path NAME) app.js."""
    from nodekiln.binaries.store import Store

    settings = read_settings(context)
    print(Store(settings.workspace).get(name).binary)


@command(name="list", help={"format": FORMAT})
def list_binaries(context: Context, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Show the binaries that are there."""
    from nodekiln.binaries.store import Store
    from nodekiln.core.reporting import Reporter, show_table
    from nodekiln.pipelines.listing import rows

    settings = read_settings(context)
    found = rows(Store(settings.workspace))
    if output_format(format) == "json":
        print(json.dumps([row.as_data() for row in found], indent=2))
    elif not found:
        Reporter().say("no binaries yet: ./inv build --tag v22.20.0 --no-backpressure makes one")
    else:
        show_table(("name", "size", "made", "write()", "source"), [row.cells() for row in found])


@command(help={"name": "name of a binary whose build is meant, as ./inv list shows it", "format": FORMAT})
def timings(context: Context, name: str, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """Show what took the time in the last build: longest steps, kinds of steps, critical path (*)."""
    from nodekiln.core.reporting import Reporter, show_table
    from nodekiln.pipelines.timings import Shown, store_of, write_pictures

    as_json = output_format(format) == "json"
    store, reporter = store_of(read_settings(context).workspace), Reporter()
    shown = Shown(store.get(name))
    if as_json:
        print(json.dumps(shown.as_data(), indent=2))
        return
    for line in shown.summary:
        reporter.say(line)
    show_table(("step", "took", "critical"), shown.rows)
    for picture in write_pictures(shown.timings, store):
        reporter.say(str(picture))


@command(
    resumes=True,
    help={
        "tags": "v22.20.0, v22.*, '>=20,<25', latest-per-major, all, with commas (default: newest of each"
        " major from 18 on)",
        "since": "leave out tags before this one",
        "recipe": "stock, usdt, no-backpressure, no-backpressure-usdt, with commas (default: all four)",
        "depth": "plan, compile (syntax of the files that patches touch) or build",
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
    recipe: str = "",
    depth: str = "plan",
    explain: bool = False,
    format: str = "table",  # noqa: A002 (the option's name)
    output: str = "",
    repository: str = "",
    jobs: str = "",
    accept_moved_tag: bool = False,
) -> int:
    """Say which tags the change fits; exit code 4 where it does not fit. No checkout, no compiler."""
    from nodekiln.cli.cli_errors import show
    from nodekiln.core.reporting import Reporter
    from nodekiln.verify.outcome import Depth, read_kinds
    from nodekiln.verify.report.publish import check_format, check_output, publish
    from nodekiln.verify.run import VerifyRequest, verify
    from nodekiln.verify.tagspec import TagSpec

    settings, reporter = read_settings(context), Reporter()
    form, file = check_format(format), check_output(settings.here / output) if output else None
    request = VerifyRequest(
        tags=TagSpec.parse(tags or None, since or None),
        kinds=read_kinds(recipe or None),
        depth=Depth.read(depth),
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
