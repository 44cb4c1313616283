"""Compiles the target `node` with ninja or make, and reads their progress."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.errors import BuildError
from nodekiln.process import capture, run_logged
from nodekiln.reporting import Meter

_NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\] (.*)")
_MAKE_STEP = re.compile(r"  (?:CC|CXX|AR|LINK|ACTION|COPY|TOUCH|SOLINK|LIBTOOL-STATIC)\S* .*")


@dataclass(frozen=True, slots=True)
class Compiled:
    """The steps that ran (0: nothing was to do) and how long they took."""

    steps: int
    seconds: float


@dataclass(frozen=True)
class Compiler:
    """Builds the target `node` in `source` with `generator` ("ninja" or "make", found on `env`'s PATH)."""

    source: Path
    log: Path
    generator: str
    program: str

    @property
    def output(self) -> Path:
        """The binary that the build links."""
        return self.source / "out" / "Release" / "node"

    def argv(self, jobs: int) -> list[str]:
        """The command line. Plain `make` would build tests and documentation as well."""
        if self.generator == "ninja":
            return [self.program, "-C", "out/Release", "-j", str(jobs), "node"]
        return [self.program, "-C", "out", f"-j{jobs}", "BUILDTYPE=Release", "node"]

    def run(self, *, env: Mapping[str, str], jobs: int, meter: Meter) -> Compiled:
        """Builds; raises BuildError where a step fails (the log is kept)."""
        env = {**env, "NINJA_STATUS": "[%f/%t] "}
        for name in ("GNUMAKEFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            env.pop(name, None)  # a make around us would have its options and its jobs taken over
        total = self._count_make_steps(env) if self.generator == "make" else None
        steps = 0

        def follow(line: str) -> None:
            nonlocal steps
            if match := _NINJA_STEP.match(line):
                steps = int(match[1])
                meter.update(steps, int(match[2]), match[3])
            elif total is not None and _MAKE_STEP.match(line):
                steps += 1
                meter.update(min(steps, total), total, line.strip())

        finished = run_logged(self.argv(jobs), env=env, cwd=self.source, log=self.log, on_line=follow)
        if finished.returncode != 0:
            raise BuildError(f"{self.generator} failed with exit code {finished.returncode}.")
        return Compiled(steps, finished.seconds)

    def _count_make_steps(self, env: Mapping[str, str]) -> int:
        """make knows no total; a dry run names the steps that it would take (seconds, on a fresh tree)."""
        answer = capture([*self.argv(1), "--dry-run"], env=env, cwd=self.source, timeout=300).stdout.decode(
            errors="replace"
        )
        return sum(1 for line in answer.splitlines() if _MAKE_STEP.search(line))
