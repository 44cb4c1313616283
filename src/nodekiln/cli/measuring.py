"""Commands that run Node to measure it."""

from __future__ import annotations

import os
import sys

from invoke.context import Context

from nodekiln.cli.options import command, number, read_settings


@command(
    help={
        "script": "gc, http, backpressure or collections",
        "binary": "name of a binary, as ./inv list shows it, or a path; what it runs follows two dashes",
        "pid": "number of a running process, instead of --binary",
        "output": "file for the tracer's lines (default: stdout)",
    }
)
def trace(context: Context, script: str, binary: str = "", pid: str = "", output: str = "") -> int:
    """Trace a program: ./inv trace gc --binary NAME -- script.js args; or ./inv trace gc --pid NUMBER."""
    from nodekiln.core.reporting import Reporter
    from nodekiln.pipelines.trace import TraceRequest, trace

    settings = read_settings(context)
    request = TraceRequest(
        script=script,
        binary=binary or None,
        words=tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else (),
        pid=number("--pid", pid),
        output=settings.here / output if output else None,
    )
    return trace(request, settings, Reporter())


@command(
    help={
        "tag": "release to graft twice, stock and without backpressure, where no binaries are named "
        "(default: v22.20.0)",
        "binaries": "names, as ./inv list shows them, or paths: A,B,...; the first is the baseline",
        "release": "official binary, or tarball with one, to graft from (default: it is downloaded)",
        "mirror": "URL of a folder like nodejs.org/dist (default: NODEKILN_MIRROR, or that one)",
        "workload": "pipeline, http, socket, objects, or a file of yours (default: pipeline)",
        "input": "file to read (default: generated data)",
        "repeat": "read it so many times over: video by ffmpeg without loss, else its bytes",
        "size": "of the generated data, as 512M or 256MiB (default: 512M); 256M,1G,4G is a series",
        "high-water-mark": "of the workload's streams, in bytes, for `objects` in objects (default: Node's); "
        "16KiB,1MiB is a series",
        "trials": "of each binary (default: 5)",
        "warm-ups": "runs of each binary before its first trial, not counted (default: 1)",
        "gc-rounds": "runs of each binary for each way of measuring collections, and for all at once "
        "(default: 1)",
        "seed": "of the generated data and the order of trials (default: 1)",
        "cold": "drop the input from memory before each run, instead of reading it once",
        "memory-limit": "end a run that takes more, as 1G, and report that",
        "dry-run": "say what would be run, and what it would take",
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
    """Compare binaries under one workload: time, memory, and garbage collections three ways."""
    from nodekiln.cli.cli_errors import show
    from nodekiln.core.errors import INTERRUPTED
    from nodekiln.core.reporting import Reporter
    from nodekiln.experiment.analysis.verdict import find_failure
    from nodekiln.experiment.compare import compare
    from nodekiln.experiment.model.request import make_request
    from nodekiln.experiment.report.tables import render
    from nodekiln.experiment.report.write import write_report

    settings, reporter = read_settings(context), Reporter()
    request = make_request(
        here=settings.here,
        tag=tag,
        binaries=binaries,
        release=release,
        mirror=mirror or os.environ.get("NODEKILN_MIRROR", ""),
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
        page = write_report(done.folder, done.results, reporter)
    except KeyboardInterrupt:
        reporter.fail(f"interrupted; what was measured is kept: ./inv report {done.folder}")
        return INTERRUPTED
    failure = find_failure(done.results)
    show(f"{render(done.results)}\n\n{page}\n")  # what failed is told after it
    if failure is not None:
        raise failure
    return INTERRUPTED if done.results.partial else 0


@command(help={"folder": "folder of a run, as in build/experiments/2026-11-23-075143"})
def report(context: Context, folder: str) -> None:
    """Draw the report of a comparison again, from its results.json."""
    from nodekiln.core.reporting import Reporter
    from nodekiln.experiment.model.results_file import read_results
    from nodekiln.experiment.report.tables import render
    from nodekiln.experiment.report.write import write_report

    place = read_settings(context).here / folder
    results = read_results(place)
    page = write_report(place, results, Reporter())
    print(f"{render(results)}\n\n{page}")
