"""Commands that run Node to measure it."""

from __future__ import annotations

import sys

from invoke.context import Context

from commands.options import command, number, read_settings


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

    settings = read_settings(context)
    request = TraceRequest(
        script=script,
        binary=binary or None,
        words=tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else (),
        pid=number("--pid", pid),
        output=settings.here / output if output else None,
    )
    return trace(request, settings, Reporter())
