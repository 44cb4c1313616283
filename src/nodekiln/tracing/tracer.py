"""Tracers and their scripts: needed probes, how to start, when it is attached, why it failed.

Nothing here is started. A script names its target by a number or a file of ours that the tracer puts in
($1); nothing of a user's becomes part of a program.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from nodekiln.core.errors import ToolchainError, UsageError
from nodekiln.core.process import error_line

_UPROBES = Path("/sys/bus/event_source/devices/uprobe")
_ATTACHED = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"
_LINGERS = 20.0
"""Seconds; it sees within 0.1 that the process is gone, and then prints its maps, of 4096 keys at most."""
_DTRACE_ATTACHED = "nodekiln: attached"
_FOLDER = Path(__file__).with_name("scripts")
_NAMED = re.compile(r"^(?:usdt:\$1:node:|node\$1:::)([\w-]+)", re.MULTILINE)


class UntraceableError(ToolchainError):
    """Tracing is impossible on this machine or for this user; `remedy` says what would change that."""


@dataclass(frozen=True, kw_only=True)
class Tracer:
    """A tracer's command line for one process.

    `attached` is the line that it prints, on either stream, once every probe is in place. `lingers`: seconds
    that it may take to end by itself after the process has; 0 for one that waits for a signal.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    attached: str
    lingers: float


def diagnose(said: str, *, privileged: str) -> UntraceableError:
    """Why a tracer gave up, from what it said; the last line that is no warning where nothing is known.

    `privileged` is the command to type for a user who lacks the rights.
    """
    for pattern, why, remedy in _known():
        if pattern.search(said):
            return UntraceableError(why, remedy=remedy.replace("PRIVILEGED", privileged))
    lines = [line for line in said.splitlines() if not line.startswith("WARNING")]
    return UntraceableError(f"The tracer could not attach: {error_line(chr(10).join(lines))}")


@cache
def _known() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    rows = tomllib.loads(Path(__file__).with_name("failures.toml").read_text())["failure"]
    return tuple((re.compile(row["pattern"]), row["why"], row["remedy"]) for row in rows)


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


def follow_with_bpftrace(
    program: Path, script: Script, *, pid: int, is_elsewhere: bool = False, env: Mapping[str, str]
) -> Tracer:
    """bpftrace on one process, which runs the program with the probes, or is stopped before its first step.

    The script gets a name of letters and digits for the file: a `*` in the real one would be a pattern. With
    -p, bpftrace looks for the file below the process's own root; for a process that `is_elsewhere` (in a
    container or chroot, or of a deleted file) it then finds none, or another, and counts nothing (0.23).
    There the script gets the process's number, and takes events of that process only.
    """
    target = f"/proc/{pid}/exe"
    words = (
        (str(script.path), target, str(pid)) if is_elsewhere else ("-p", str(pid), str(script.path), target)
    )
    return Tracer(
        argv=(str(program), "-q", "-B", "line", *words),
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
    say = f'dtrace:::BEGIN {{ printf("{_DTRACE_ATTACHED}\\n"); }}'
    return Tracer(
        argv=(str(program), "-Z", "-n", say, "-s", str(script.path), str(pid)),
        env=env,
        attached=_DTRACE_ATTACHED,
        lingers=0,
    )


class Language(StrEnum):
    """The language of a script, by its file's suffix."""

    BPFTRACE = "bt"
    DTRACE = "d"


@dataclass(frozen=True, slots=True)
class Script:
    """A tracer program, and the names of the probes that it needs as Linux writes them (gc__start)."""

    name: str
    path: Path
    probes: frozenset[str]


def script_names() -> tuple[str, ...]:
    """Return the names of all scripts, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob(f"*.{Language.BPFTRACE}")))


def find_script(name: str, language: Language) -> Script:
    """Return the script of that name; raise UsageError, naming the available ones, if it is unknown."""
    if name not in script_names():
        raise UsageError(
            f"Unknown script {name!r}.",
            remedy=f"Available scripts: {', '.join(script_names())}.",
        )
    path = _FOLDER / f"{name}.{language}"
    named = _NAMED.findall(path.read_text())
    return Script(name, path, frozenset(probe.replace("-", "__") for probe in named))


def require_probes(script: Script, there: Collection[str], file: str) -> None:
    """Raise UsageError if `file`, whose probes of the provider node are `there`, lacks some of them."""
    missing = sorted(script.probes - set(there))
    if missing:
        raise UsageError(
            f"{script.name} needs probes that {file} does not have: {', '.join(missing)}.\n"
            f"  It has: {', '.join(sorted(there)) or 'none'}.",
            remedy="./inv build --tag TAG makes a binary with all of them; a grafted one has gc's only.",
        )
