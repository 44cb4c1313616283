"""Compilations whose compiler is killed, the kept times of steps, and pools with a real ninja."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodekiln.building.compile import Callbacks, Compiled, Compiler
from nodekiln.building.ninja import Load, write_pool
from nodekiln.building.timings import Timed
from nodekiln.building.weights import Weights, shipped
from nodekiln.core.errors import BuildError
from nodekiln.toolchain.diagnosis import was_killed

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

FILES = "abcdef"
NINJA = """\
rule cxx
  command = ./compile $in $out
  description = CXX $out
rule link
  command = cat $in > $out
  description = LINK $out
subninja v8.ninja
build node: link OBJECTS
"""
V8 = "".join(f"build obj/deps/v8/src/v8_base.{name}.o: cxx $\n    {name}.cc\n" for name in FILES)
MAKEFILE = """\
node: OBJECTS
\t@printf '%s\\n' '  LINK(target) node'
\t@cat $^ > $@
obj/%.o: %.cc
\t@printf '%s\\n' '  CXX(target) $@'
\t@mkdir -p obj && ./compile $< $@
"""
# Fails like gcc with a killed cc1plus, once for each file named kill-*.
COMPILE = """\
#!/bin/sh
echo "$1" >>ran
for kill in kill-*; do
  if rm "$kill" 2>/dev/null; then
    echo "g++: fatal error: Killed signal terminated program cc1plus" >&2
    exit 1
  fi
done
cp "$1" "$2"
"""


@dataclass
class Recorder:
    """Records the callbacks of a compilation."""

    warnings: list[str] = field(default_factory=list)
    kept: list[tuple[Timed, ...]] = field(default_factory=list)
    meter: list[tuple[int, int | None, float | None]] = field(default_factory=list)

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        self.meter.append((done, total, left))

    @property
    def callbacks(self) -> Callbacks:
        return Callbacks(self, self.warnings.append, was_killed, self.kept.append)


@dataclass(frozen=True)
class Bench:
    """A tree whose node is the concatenation of six files."""

    folder: Path
    generator: str

    @property
    def out(self) -> Path:
        return self.folder / "source" / "out" / ("Release" if self.generator == "ninja" else "")

    @property
    def ran(self) -> list[str]:
        """The compilations that were started."""
        return (self.out / "ran").read_text().split()

    def kill(self, times: int) -> None:
        for number in range(times):
            (self.out / f"kill-{number}").touch()

    def compile(self, recorder: Recorder, *, jobs: int, heavy: int | None = None) -> Compiled:
        program = shutil.which(self.generator)
        assert program is not None
        compiler = Compiler(self.folder / "source", self.folder / "build.log", self.generator, program)
        load = Load(jobs, jobs if heavy is None else heavy)
        return compiler.run(
            env={"PATH": os.environ["PATH"]},
            load=load,
            weights=Weights({}, shipped()),
            callbacks=recorder.callbacks,
        )


def make_bench(folder: Path, generator: str) -> Bench:
    bench = Bench(folder, generator)
    bench.out.mkdir(parents=True)
    (bench.out / "compile").write_text(COMPILE)
    (bench.out / "compile").chmod(0o755)
    for name in FILES:
        (bench.out / f"{name}.cc").write_text(name)
    if generator == "ninja":
        objects = " ".join(f"obj/deps/v8/src/v8_base.{name}.o" for name in FILES)
        (bench.out / "build.ninja").write_text(NINJA.replace("OBJECTS", objects))
        (bench.out / "v8.ninja").write_text(V8)
    else:
        objects = " ".join(f"obj/{name}.o" for name in FILES)
        (bench.out / "Makefile").write_text(MAKEFILE.replace("OBJECTS", objects))
    return bench


@pytest.fixture(params=["ninja", "make"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return make_bench(tmp_path, request.param)


@pytest.fixture
def ninja(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, "ninja")


def test_killed_compiler_halves_the_jobs(bench: Bench) -> None:
    bench.kill(1)
    recorder = Recorder()
    compiled = bench.compile(recorder, jobs=4)
    assert compiled.jobs == 2
    assert len(recorder.warnings) == 1
    assert recorder.warnings[0].endswith("continuing with 2 jobs instead of 4")
    assert (bench.out / "node").is_file()


def test_killed_compiler_keeps_finished_objects(ninja: Bench) -> None:
    ninja.kill(1)
    ninja.compile(Recorder(), jobs=2)
    assert len(ninja.ran) == len(FILES) + 1


def test_killed_only_job_fails_the_build(bench: Bench) -> None:
    bench.kill(20)
    recorder = Recorder()
    with pytest.raises(BuildError, match="the only job"):
        bench.compile(recorder, jobs=4)
    assert [text.rpartition("with ")[2] for text in recorder.warnings] == [
        "2 jobs instead of 4",
        "1 job instead of 2",
    ]


def test_other_failure_is_not_retried(bench: Bench) -> None:
    (bench.out / "compile").write_text("#!/bin/sh\necho no such type >&2; exit 1\n")
    recorder = Recorder()
    with pytest.raises(BuildError, match="failed with exit code"):
        bench.compile(recorder, jobs=4)
    assert recorder.warnings == []


def test_times_of_all_steps_are_kept(ninja: Bench) -> None:
    recorder = Recorder()
    compiled = ninja.compile(recorder, jobs=2)
    (steps,) = recorder.kept
    assert compiled.steps == len(steps) == len(FILES) + 1
    assert steps[-1].description == "LINK node"
    assert steps[-1].after == tuple(range(len(FILES)))


def test_times_of_a_failed_build_are_kept(ninja: Bench) -> None:
    (ninja.out / "f.cc").unlink()
    (ninja.out / "f.cc").mkdir()  # which cp refuses
    recorder = Recorder()
    with pytest.raises(BuildError):
        ninja.compile(recorder, jobs=1)
    (steps,) = recorder.kept
    assert "CXX obj/deps/v8/src/v8_base.a.o" in {step.description for step in steps}


def test_times_of_a_retried_build_are_kept_as_one(ninja: Bench) -> None:
    ninja.kill(1)
    recorder = Recorder()
    ninja.compile(recorder, jobs=2)
    (steps,) = recorder.kept
    assert [step.end for step in steps] == sorted(step.end for step in steps)
    assert {step.description for step in steps} >= {"LINK node", "CXX obj/deps/v8/src/v8_base.a.o"}


def test_times_of_earlier_builds_are_left_out(ninja: Bench) -> None:
    ninja.compile(Recorder(), jobs=2)
    (ninja.out / "a.cc").write_text("another")
    recorder = Recorder()
    assert ninja.compile(recorder, jobs=2).steps == 2
    assert [step.description for step in recorder.kept[0]] == ["CXX obj/deps/v8/src/v8_base.a.o", "LINK node"]


def test_nothing_to_do_runs_no_step(ninja: Bench) -> None:
    ninja.compile(Recorder(), jobs=2)
    recorder = Recorder()
    assert ninja.compile(recorder, jobs=2).steps == 0
    assert recorder.kept == [()]


def test_last_step_is_reported_with_the_total(bench: Bench) -> None:
    recorder = Recorder()
    bench.compile(recorder, jobs=2)
    done, total, left = recorder.meter[-1]
    assert done == total == len(FILES) + 1
    assert left is not None


def run_ninja(bench: Bench, words: Sequence[str]) -> str:
    return subprocess.run(
        ["ninja", "-C", bench.out, *words], check=True, capture_output=True, text=True
    ).stdout


def test_pool_added_later_rebuilds_nothing(ninja: Bench) -> None:
    ninja.compile(Recorder(), jobs=2)
    assert write_pool(ninja.out, 1) == "nodekiln.pooled"
    assert "no work to do" in run_ninja(ninja, ["-f", "nodekiln.pooled", "-n", "node"])


def test_pool_removed_later_rebuilds_nothing(ninja: Bench) -> None:
    ninja.compile(Recorder(), jobs=2, heavy=1)
    assert "no work to do" in run_ninja(ninja, ["-n", "node"])


def test_pool_of_one_runs_one_heavy_step_at_a_time(ninja: Bench) -> None:
    alone = '#!/bin/sh\nmkdir alone || exit 1\nsleep 0.02\nrmdir alone\ncp "$1" "$2"\n'
    (ninja.out / "compile").write_text(alone)
    recorder = Recorder()
    ninja.compile(recorder, jobs=4, heavy=1)
    assert (ninja.out / "node").is_file()


@pytest.mark.slow
def test_build_keeps_timings_by_name(kiln: Kiln) -> None:
    done = kiln.run("build", "--tag=v20.1.0", "--no-probes")
    assert done.code == 0, done.stderr
    kept = json.loads((kiln.build / "timings" / "v20.1.0.json").read_text())
    assert (kept["name"], len(kept["steps"])) == ("v20.1.0", 2)


@pytest.mark.slow
def test_timings_of_a_build_lists_its_steps(kiln: Kiln) -> None:
    assert kiln.run("build", "--tag=v20.1.0", "--no-backpressure", "--no-probes").code == 0
    done = kiln.run("timings", "v20.1.0-no-backpressure")
    assert done.code == 0, done.stderr
    assert {"pack", "cc"} <= set(done.stdout.split())
