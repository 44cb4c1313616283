"""Measure the CPU time that binaries take to start."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from nodekiln.core.errors import CheckError, KilnError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture, error_line, without_node_options

_ROUNDS = 5
_PROGRAM = "const used = process.cpuUsage(); console.log(used.user + used.system)"
"""Prints microseconds since the start of the process."""


def startup_cpu(binaries: Sequence[Path], *, env: Mapping[str, str]) -> tuple[float, ...]:
    """Return the median of the CPU seconds that each binary takes to start; the binaries take turns.

    Raises CheckError if one does not run.
    """
    clean = without_node_options(env)
    seconds: list[list[float]] = [[] for _ in binaries]
    with temporary_directory() as folder:
        for _ in range(_ROUNDS):
            for binary, found in zip(binaries, seconds, strict=True):
                try:
                    done = capture([str(binary.absolute()), "-e", _PROGRAM], env=clean, cwd=folder)
                except (KilnError, OSError) as error:
                    raise CheckError(f"{binary} can't be run: {error}") from None
                try:
                    found.append(int(done.stdout) / 1e6)
                except ValueError:
                    raise CheckError(f"{binary} does not start: {error_line(done.text)}") from None
    return tuple(map(statistics.median, seconds))
