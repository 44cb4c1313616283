"""Check that the probes of a new binary fire: notes alone prove nothing (nodejs/node#43651)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nodekiln.core.elf.file import ElfError, open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.errors import CheckError, UsageError
from nodekiln.core.files import temporary_directory
from nodekiln.tracing.child import hold
from nodekiln.tracing.session import attach
from nodekiln.tracing.tracer import (
    Language,
    Script,
    UntraceableError,
    check_machine,
    check_path,
    find_script,
    follow_with_bpftrace,
    require_probes,
)

_COLLECT = "for (let i = 0; i < 3; i++) gc();"
_COUNTED = re.compile(r"@duration_us_by_type\[4\]: count [1-9]")
"""What the script gc prints for full collections. Misread types count as others."""
_TIMEOUT = 20.0
"""Seconds for the tracer to attach, and for the program to end; together they take about 1."""


def prove(binary: Path, env: Mapping[str, str]) -> str:
    """Run three collections in `binary` under bpftrace; return what was seen.

    The result says that the probes fired, or why that could not be tried ("unproven: ...").

    Raises CheckError only where the tracer was attached, the program ended well, and nothing fired.
    """
    script = find_script("gc", Language.BPFTRACE)
    try:
        with open_elf(binary) as elf:
            probes = [probe for probe in read_probes(elf) if probe.provider == "node"]
        require_probes(script, {probe.name for probe in probes}, str(binary))
        check_path(str(binary.resolve()))
        program = check_machine(env, counted=any(probe.semaphore for probe in probes))
        output, returncode = _trace(binary, program, script, env)
    except (ElfError, UntraceableError, UsageError) as error:
        return f"unproven: {error.message}"
    except subprocess.TimeoutExpired:
        return f"unproven: {binary} did not end within {_TIMEOUT:.0f} seconds."
    if returncode != 0:
        return f"unproven: {binary} ended with exit code {returncode}."
    if not any(_COUNTED.match(line) for line in output):
        raise CheckError(
            f"{binary} has probes, and none fired: bpftrace was attached, and saw no full collection.",
            remedy="Build again with --from-scratch, or with --no-probes to do without.",
        )
    return "node:gc__start and node:gc__done fired under bpftrace"


def _trace(binary: Path, program: Path, script: Script, env: Mapping[str, str]) -> tuple[list[str], int]:
    """Return the tracer's output and the binary's exit code."""
    lines: list[str] = []
    argv = [str(binary.absolute()), "--expose-gc", "-e", _COLLECT]
    with (
        temporary_directory() as folder,
        hold(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL) as held,
    ):
        held.stop_at_exec()
        tracer = follow_with_bpftrace(program, script, pid=held.process.pid, env=env)
        with attach(tracer, lines.append, privileged="", patience=_TIMEOUT):
            held.let_go()
            returncode = held.process.wait(_TIMEOUT)
    return lines, returncode
