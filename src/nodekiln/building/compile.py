"""Compiles the target `node` with ninja or make; retries with fewer jobs if the system kills a compiler."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.building.ninja import (
    MAIN,
    Load,
    NinjaLog,
    Step,
    read_descriptions,
    read_files,
    read_graph,
    write_pool,
)
from nodekiln.building.progress import MakeProgress, NinjaProgress, make_steps, ninja_steps
from nodekiln.building.timings import Timed
from nodekiln.building.weights import Weights
from nodekiln.core.errors import BuildError, ToolchainError
from nodekiln.core.process import capture, run_logged, with_english_messages
from nodekiln.core.reporting import Meter

_OUT = Path("out/Release")
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a generator that was killed itself, as with all of its control group."""
_DRY_RUN_TIMEOUT = 300
"""Seconds; make needs some in a fresh tree."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A finished compilation: the steps that ran (0: nothing to do), the duration, the last number of jobs.

    `timed` has each step's times with ninja, and is empty with make.
    """

    steps: int
    seconds: float
    jobs: int
    timed: tuple[Timed, ...]


@dataclass(frozen=True)
class Callbacks:
    """What a compilation calls while it runs.

    `was_killed` takes the log of a failed run and returns True if the system killed a program for its memory;
    `keep` gets the times of all steps that ended, on success and on failure.
    """

    meter: Meter
    warn: Callable[[str], None]
    was_killed: Callable[[Path], bool]
    keep: Callable[[tuple[Timed, ...]], None]


@dataclass(frozen=True)
class Compiler:
    """Builds the target `node` in `source` with `generator`, "ninja" or "make"."""

    source: Path
    log: Path
    generator: str
    program: str

    @property
    def output(self) -> Path:
        """The binary that the build links."""
        return self.source / _OUT / "node"

    def argv(self, jobs: int, *, file: str = MAIN) -> list[str]:
        """Return the command line. Plain `make` would build tests and documentation as well."""
        if self.generator == "ninja":
            other = [] if file == MAIN else ["-f", file]
            return [self.program, "-C", str(_OUT), *other, "-j", str(jobs), "node"]
        return [self.program, "-C", "out", f"-j{jobs}", "BUILDTYPE=Release", "node"]

    def run(self, *, env: Mapping[str, str], load: Load, weights: Weights, callbacks: Callbacks) -> Compiled:
        """Build; after a run in which a program was killed, continue with half the jobs, down to one.

        Raises BuildError if a step fails (the log is kept).
        """
        env = {**with_english_messages(env), "NINJA_STATUS": "[%f/%t] "}  # known failures are in English
        for name in ("GNUMAKEFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            env.pop(name, None)  # options and jobs of a make that runs us are not meant for this one
        steps, seconds = 0, 0.0
        timed: tuple[Timed, ...] = ()
        try:
            while True:
                run = _Run(self, env, load, weights, callbacks.meter)
                try:
                    returncode, taken = run.finish()
                finally:
                    timed = _concatenated(timed, run.progress.timed(), seconds)
                steps, seconds = steps + run.progress.done, seconds + taken
                if returncode == 0:
                    return Compiled(steps, seconds, load.jobs, timed)
                load = self._lighter(load, returncode, callbacks)
        finally:
            callbacks.keep(timed)

    def _lighter(self, load: Load, returncode: int, callbacks: Callbacks) -> Load:
        """Return the load for a retry; raise BuildError if a retry would not help."""
        if returncode not in _KILLED and not callbacks.was_killed(self.log):
            raise BuildError(f"{self.generator} failed with exit code {returncode}.")
        if load.jobs == 1:
            raise BuildError("The system killed a compiler or linker, though it was the only job.")
        half = load.halved()
        callbacks.warn(
            "the system killed a compiler or linker, most likely for lack of memory;"
            f" continuing with {half.jobs} job{'s' * (half.jobs != 1)} instead of {load.jobs}"
        )
        return half


class _Run:
    """One run of ninja or make."""

    def __init__(
        self, compiler: Compiler, env: Mapping[str, str], load: Load, weights: Weights, meter: Meter
    ) -> None:
        self._compiler, self._env = compiler, env
        self._out = compiler.source / _OUT
        if compiler.generator == "ninja":
            file = MAIN if load.heavy >= load.jobs else write_pool(self._out, load.heavy)
            self._argv = compiler.argv(load.jobs, file=file)
        else:  # make has no pools
            load = replace(load, jobs=min(load.jobs, load.heavy))
            self._argv = compiler.argv(load.jobs)
        self.progress: NinjaProgress | MakeProgress
        if compiler.generator == "make":
            planned = make_steps(self._capture([*self._argv, "--dry-run"]))
            self._idle = False
            self.progress = MakeProgress(planned=planned, weights=weights, jobs=load.jobs, meter=meter)
        else:
            dry_run = self._capture([*self._argv, "-n"])
            self._idle = "ninja: no work to do." in dry_run
            self.progress = NinjaProgress(
                graph=self._graph,
                planned=ninja_steps(dry_run),
                log=NinjaLog(self._out / ".ninja_log"),
                weights=weights,
                jobs=load.jobs,
                meter=meter,
            )

    def finish(self) -> tuple[int, float]:
        """Return the exit code and the duration. ninja is not run again if the dry run had nothing to do."""
        if self._idle:
            return 0, 0.0
        compiler = self._compiler
        finished = run_logged(
            self._argv,
            env=self._env,
            cwd=compiler.source,
            log=compiler.log,
            on_line=self.progress.line,
        )
        return finished.returncode, finished.seconds

    def _graph(self) -> tuple[Step, ...]:
        """Empty if ninja prints none: the build goes on without an estimate and without times."""
        try:
            dot = self._capture([self._compiler.program, "-C", str(_OUT), "-t", "graph", "node"])
        except (OSError, ToolchainError):
            return ()
        return read_graph(dot, read_descriptions(read_files(self._out).values()))

    def _capture(self, argv: list[str]) -> str:
        answer = capture(argv, env=self._env, cwd=self._compiler.source, timeout=_DRY_RUN_TIMEOUT)
        return answer.stdout.decode(errors="replace")


def _concatenated(before: tuple[Timed, ...], after: tuple[Timed, ...], seconds: float) -> tuple[Timed, ...]:
    """Return the steps of two runs as one: the second began `seconds` after the first."""
    first = len(before)
    return before + tuple(
        Timed(
            step.description,
            step.start + seconds,
            step.end + seconds,
            tuple(each + first for each in step.after),
        )
        for step in after
    )
