"""Compiles the target `node` with ninja or make; where the system kills a compiler, again with fewer jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.building.following import MakeFollower, NinjaFollower, make_steps, ninja_steps
from nodekiln.building.jobs import Load
from nodekiln.building.ninjafiles import MAIN, read_files, write_pool
from nodekiln.building.ninjalog import NinjaLog
from nodekiln.building.stepgraph import Step, read_descriptions, read_graph
from nodekiln.building.timings import Timed
from nodekiln.building.weights import Weights
from nodekiln.core.errors import BuildError, ToolchainError
from nodekiln.core.process import capture, run_logged
from nodekiln.core.reporting import Meter

_OUT = Path("out/Release")
_DRY_RUN_PATIENCE = 300
"""Seconds; make takes some, on a fresh tree."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The steps that ran (0: nothing was to do), how long they took, and with how many jobs in the end.

    `timed` has each step's times, where the build system tells them (ninja).
    """

    steps: int
    seconds: float
    jobs: int
    timed: tuple[Timed, ...]


@dataclass(frozen=True)
class Watch:
    """Who hears of a compilation while it runs.

    `was_killed` looks at the log of a failed run and says whether the system killed a program for its memory;
    `keep` gets the times of all steps that ended, however the compilation ends.
    """

    meter: Meter
    warn: Callable[[str], None]
    was_killed: Callable[[Path], bool]
    keep: Callable[[tuple[Timed, ...]], None]


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
        return self.source / _OUT / "node"

    def argv(self, jobs: int, *, file: str = MAIN) -> list[str]:
        """The command line. Plain `make` would build tests and documentation as well."""
        if self.generator == "ninja":
            other = [] if file == MAIN else ["-f", file]
            return [self.program, "-C", str(_OUT), *other, "-j", str(jobs), "node"]
        return [self.program, "-C", "out", f"-j{jobs}", "BUILDTYPE=Release", "node"]

    def run(self, *, env: Mapping[str, str], load: Load, weights: Weights, watch: Watch) -> Compiled:
        """Builds; a run in which a program was killed is gone on with at half the jobs, down to one.

        Raises BuildError where a step fails (the log is kept).
        """
        env = {**env, "NINJA_STATUS": "[%f/%t] "}
        for name in ("GNUMAKEFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            env.pop(name, None)  # a make around us would have its options and its jobs taken over
        steps, seconds = 0, 0.0
        timed: tuple[Timed, ...] = ()
        try:
            while True:
                run = _Run(self, env, load, weights, watch.meter)
                try:
                    returncode, taken = run.to_its_end()
                finally:
                    timed = _joined(timed, run.timed(), seconds)
                steps, seconds = steps + run.done, seconds + taken
                if returncode == 0:
                    return Compiled(steps, seconds, load.jobs, timed)
                load = self._lighter(load, returncode, watch)
        finally:
            watch.keep(timed)

    def _lighter(self, load: Load, returncode: int, watch: Watch) -> Load:
        """What to go on with after a failed run; raises BuildError where that is no use."""
        if not watch.was_killed(self.log):
            raise BuildError(f"{self.generator} failed with exit code {returncode}.")
        if load.jobs == 1:
            raise BuildError("The system killed a compiler or linker, though it was the only job.")
        half = load.halved()
        watch.warn(
            "the system killed a compiler or linker, most likely for lack of memory;"
            f" going on with {half.jobs} job{'s' * (half.jobs != 1)} instead of {load.jobs}"
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
        else:  # make knows no pools
            load = replace(load, jobs=min(load.jobs, load.heavy))
            self._argv = compiler.argv(load.jobs)
        self._follower = self._follow(load, weights, meter)

    def _follow(self, load: Load, weights: Weights, meter: Meter) -> NinjaFollower | MakeFollower:
        dry = "--dry-run" if self._compiler.generator == "make" else "-n"
        answer = self._ask([*self._argv, dry])
        self._idle = "ninja: no work to do." in answer
        if self._compiler.generator == "make":
            return MakeFollower(planned=make_steps(answer), weights=weights, jobs=load.jobs, meter=meter)
        return NinjaFollower(
            graph=self._graph,
            planned=ninja_steps(answer),
            log=NinjaLog(self._out / ".ninja_log"),
            weights=weights,
            jobs=load.jobs,
            meter=meter,
        )

    @property
    def done(self) -> int:
        """Steps that ended."""
        return self._follower.done

    def timed(self) -> tuple[Timed, ...]:
        """Their times, in seconds since the run began; none where the build system keeps no log of them."""
        return self._follower.timed()

    def to_its_end(self) -> tuple[int, float]:
        """The exit code, and the seconds that it took. Where nothing is to do, ninja is not asked again."""
        if self._idle:
            return 0, 0.0
        compiler = self._compiler
        finished = run_logged(
            self._argv,
            env=self._env,
            cwd=compiler.source,
            log=compiler.log,
            on_line=self._follower.line,
        )
        return finished.returncode, finished.seconds

    def _graph(self) -> tuple[Step, ...]:
        """Empty where ninja does not tell: the build goes on, without an estimate and without times."""
        try:
            dot = self._ask([self._compiler.program, "-C", str(_OUT), "-t", "graph", "node"])
        except (OSError, ToolchainError):
            return ()
        return read_graph(dot, read_descriptions(read_files(self._out).values()))

    def _ask(self, argv: list[str]) -> str:
        answer = capture(argv, env=self._env, cwd=self._compiler.source, timeout=_DRY_RUN_PATIENCE)
        return answer.stdout.decode(errors="replace")


def _joined(before: tuple[Timed, ...], after: tuple[Timed, ...], seconds: float) -> tuple[Timed, ...]:
    """The steps of two runs as one: the second began `seconds` after the first."""
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
