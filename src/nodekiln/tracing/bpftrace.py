"""bpftrace: whether it can be used on this Linux, and its command line for one process."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nodekiln.tracing.scripts import Script
from nodekiln.tracing.tracer import Tracer, UntraceableError

_UPROBES = Path("/sys/bus/event_source/devices/uprobe")
_ATTACHED = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"
_LINGERS = 20.0
"""Seconds; it sees within 0.1 that the process is gone, and then prints its maps, of 4096 keys at most."""


def check_machine(env: Mapping[str, str], *, counted: bool, uprobes: Path = _UPROBES) -> Path:
    """Return the path of bpftrace; raise UntraceableError if it is missing or the kernel does not support it.

    `counted`: the binary's probes have semaphores, which the kernel raises since 4.20 and says so in sysfs.
    """
    found = shutil.which("bpftrace", path=env.get("PATH"))
    if found is None:
        raise UntraceableError(
            "There is no bpftrace on the PATH.",
            remedy="apt install bpftrace (Debian, Ubuntu); dnf install bpftrace (Fedora); "
            "apk add bpftrace (Alpine); pacman -S bpftrace (Arch).",
        )
    if not uprobes.is_dir():
        raise UntraceableError(
            "This kernel has no uprobes, which every tracer of programs needs.",
            remedy="It takes Linux 4.17 or later with CONFIG_UPROBE_EVENTS, and /sys mounted.",
        )
    if counted and not (uprobes / "format" / "ref_ctr_offset").exists():
        raise UntraceableError(
            "This kernel does not raise the semaphores of probes, so that they would stay silent.",
            remedy="It takes Linux 4.20 or later.",
        )
    return Path(found)


def follow_with_bpftrace(program: Path, script: Script, *, pid: int, env: Mapping[str, str]) -> Tracer:
    """bpftrace on one process, which runs the program with the probes, or is stopped before its first step.

    The script gets a name of letters and digits for the file: a `*` in the real one would be a pattern.
    """
    return Tracer(
        argv=(str(program), "-q", "-B", "line", "-p", str(pid), str(script.path), f"/proc/{pid}/exe"),
        env={**env, _ATTACHED: "1"},
        attached=_ATTACHED,
        lingers=_LINGERS,
    )


def check_path(path: str) -> None:
    """Raise UntraceableError for a path that bpftrace (0.23) splits when it looks for probes."""
    if ":" in path or "\n" in path:
        raise UntraceableError(
            f"bpftrace can't find the probes of a file whose path has a colon or a line break: {path!r}.",
            remedy="Give it another name, or copy it to another folder.",
        )
