"""Commands that run Node to measure it."""

from __future__ import annotations

import os
import sys

from invoke.context import Context

from nodekiln.cli.command import command, make_reporter, number, read_settings, require, show


@command(
    positional=("script",),
    help={
        "script": "gc, http, backpressure or collections",
        "binary": "name of a binary, as ./inv list shows it, or a path; its arguments follow two dashes",
        "pid": "ID of a running process, instead of --binary",
        "output": "file for the tracer's output (default: stdout)",
    },
)
def trace(context: Context, script: str = "", binary: str = "", pid: str = "", output: str = "") -> int:
    """Trace a program with bpftrace or dtrace (needs root).

    ./inv trace gc --binary NAME -- app.js runs one, ./inv trace gc --pid NUMBER attaches to one.
    """
    from nodekiln.core.errors import UsageError
    from nodekiln.pipelines.trace import TraceRequest, trace
    from nodekiln.tracing.tracer import script_names

    if script not in script_names():  # before anything about the process, which a mistyped script hides
        unknown = f"unknown script {script!r}; " if script else ""
        raise UsageError(
            f"{unknown}trace requires one of {', '.join(script_names())}.",
            remedy="One is run as ./inv trace gc --binary NAME -- app.js",
        )
    settings = read_settings(context)
    request = TraceRequest(
        script=script,
        binary=binary or None,
        words=tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else (),
        pid=number("--pid", pid),
        output=settings.cwd / output if output else None,
    )
    return trace(request, settings, make_reporter(context))


@command(
    variadic="binaries",
    help={
        "tag": "release to graft twice, stock and without backpressure, if no binaries are named"
        " (default: v22.20.0); 22, 22.20, lts and latest mean the newest of these",
        "binaries": "names or paths of binaries: A,B,... (or the words A B); the first is the baseline",
        "release": "official binary, or tarball with one, to graft from (default: download it)",
        "mirror": "URL of a folder like nodejs.org/dist (default: NODEKILN_MIRROR, or nodejs.org)",
        "workload": "pipeline, http, socket, objects, or a file of yours (default: pipeline)",
        "input": "file to read (default: generated data)",
        "repeat": "read the file this many times over; video is repeated by ffmpeg, without loss",
        "size": "size of the generated data, as 512M or 256MiB (default: 512M); 256M,1G,4G is a series",
        "high-water-mark": "highWaterMark of the streams in bytes, `objects` in objects (default: Node's);"
        " 16KiB,1MiB is a series",
        "trials": "number of trials of each binary (default: 5)",
        "warm-ups": "runs of each binary before the first trial, not counted (default: 1)",
        "gc-rounds": "runs of each binary for each method of measuring collections, and for all at once "
        "(default: 1)",
        "seed": "seed of the generated data and of the order of trials (default: 1)",
        "cold": "drop the input from the page cache before each run, instead of reading it once",
        "memory-limit": "end a run that takes more memory than this, as 1G, and report that",
        "dry-run": "print what would be run, and how much time and space it would take",
    },
    optional=[],
)
def compare(
    context: Context,
    tag: str = "",
    binaries: str = "",
    release: str = "",
    mirror: str = "",
    workload: str = "pipeline",
    input: str = "",  # noqa: A002 (the option's name)
    repeat: str = "",
    size: str = "",
    high_water_mark: str = "",
    trials: str = "",
    warm_ups: str = "",
    gc_rounds: str = "",
    seed: str = "",
    cold: bool = False,
    memory_limit: str = "",
    dry_run: bool = False,
) -> int:
    """Measure binaries: time, memory, garbage collection.

    Runs them in interleaved trials under one workload and writes a report with plots. Without binaries, one
    release is grafted twice: stock, and without backpressure.
    """
    from nodekiln.core.errors import INTERRUPTED, interrupts_kept
    from nodekiln.experiment.analysis.analyze import analyze
    from nodekiln.experiment.analysis.verdict import find_failure
    from nodekiln.experiment.compare import compare
    from nodekiln.experiment.model.request import make_request
    from nodekiln.experiment.report.page import write_report
    from nodekiln.experiment.report.tables import render
    from nodekiln.pipelines.shorthand import is_shorthand, release_tag

    settings, reporter = read_settings(context), make_reporter(context)
    mirror = mirror or os.environ.get("NODEKILN_MIRROR", "")
    if tag and is_shorthand(tag):
        tag = str(release_tag(tag, None, mirror or None, settings, reporter))
    request = make_request(
        cwd=settings.cwd,
        tag=tag,
        binaries=binaries,
        release=release,
        mirror=mirror,
        workload=workload,
        source=input,
        repeat=repeat,
        size=size,
        high_water_mark=high_water_mark,
        trials=trials,
        warm_ups=warm_ups,
        gc_rounds=gc_rounds,
        seed=seed,
        cold=cold,
        memory_limit=memory_limit,
        dry_run=dry_run,
    )
    done = compare(request, settings, reporter)
    if done is None:
        return 0
    try:
        with interrupts_kept():  # numpy is imported
            analysis = analyze(done.results)
        page = write_report(done.folder, analysis, reporter)
    except KeyboardInterrupt:
        reporter.fail(f"interrupted; the measurements are kept: ./inv report {done.folder}")
        return INTERRUPTED
    failure = find_failure(analysis)
    show(f"{render(analysis)}\n\n{page}\n")  # errors are printed after it
    if failure is not None:
        raise failure
    return INTERRUPTED if done.results.partial else 0


@command(
    positional=("folder",), help={"folder": "folder of a run, as in build/experiments/2026-11-23-075143"}
)
def report(context: Context, folder: str) -> None:
    """Render the report of a comparison again."""
    from nodekiln.experiment.analysis.analyze import analyze
    from nodekiln.experiment.model.results import read_results
    from nodekiln.experiment.report.page import write_report
    from nodekiln.experiment.report.tables import render

    place = read_settings(context).cwd / folder
    analysis = analyze(read_results(place))
    page = write_report(place, analysis, make_reporter(context))
    print(f"{render(analysis)}\n\n{page}")


@command(
    help={
        "good": "release on which the command succeeds",
        "bad": "release on which it fails",
        "mirror": "URL of a folder like nodejs.org/dist (default: NODEKILN_MIRROR, or nodejs.org)",
        "timeout": "seconds after which a run of the command counts as failed (default: none)",
        "restart": "ignore the results of an interrupted search",
    },
)
def bisect(
    context: Context,
    good: str = "",
    bad: str = "",
    mirror: str = "",
    timeout: str = "",
    restart: bool = False,
) -> None:
    """Find the release, module and lines that broke a program.

    ./inv bisect --good v24.15.0 --bad v24.16.0 -- node test.js runs the command on releases between the two,
    then on grafts with some modules of the one and some of the other. `node`, NODE and PATH name the binary.
    Exit code 0 of the command means good, 125 skip, others up to 127 bad.
    """
    from nodekiln.changes.diff import color
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import show_diff
    from nodekiln.pipelines.bisect import BisectRequest, bisect

    settings, reporter = read_settings(context), make_reporter(context)
    request = BisectRequest(
        good=Tag.parse(require("--good", good, "v24.15.0")),
        bad=Tag.parse(require("--bad", bad, "v24.16.0")),
        command=tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else (),
        mirror=mirror or os.environ.get("NODEKILN_MIRROR") or None,
        timeout=number("--timeout", timeout),
        restart=restart,
    )
    found = bisect(request, settings, reporter)
    print(found.text, flush=True)
    if found.diff:
        show_diff(found.diff, color, settings.environment)


TASKS = (compare, report, trace, bisect)
