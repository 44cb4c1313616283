"""dtrace, on macOS, FreeBSD and illumos: its command line for one process."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nodekiln.tracing.scripts import Script
from nodekiln.tracing.tracer import Tracer, UntraceableError

_ATTACHED = "nodekiln: attached"


def find_dtrace(env: Mapping[str, str]) -> Path:
    """Return the path of dtrace; raise UntraceableError if it is missing."""
    found = shutil.which("dtrace", path=env.get("PATH"))
    if found is None:
        raise UntraceableError(
            "There is no dtrace on the PATH.",
            remedy="macOS has /usr/sbin/dtrace; on FreeBSD, kldload dtraceall; on Linux, bpftrace is used.",
        )
    return Path(found)


def follow_with_dtrace(program: Path, script: Script, *, pid: int, env: Mapping[str, str]) -> Tracer:
    """dtrace on one process, whose probes may come later (-Z).

    Not by -p: that stops the process by the debugger's means, which macOS refuses for its own Python, in
    which a program waits to be let go. BEGIN fires when everything is enabled.
    """
    say = f'dtrace:::BEGIN {{ printf("{_ATTACHED}\\n"); }}'
    return Tracer(
        argv=(str(program), "-Z", "-n", say, "-s", str(script.path), str(pid)),
        env=env,
        attached=_ATTACHED,
        lingers=0,
    )
