"""Compilations whose compiler is killed, what is kept of their times, and pools with a real ninja."""

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

from nodekiln.building.compile import Compiled, Compiler, Watch
from nodekiln.building.jobs import Load
from nodekiln.building.ninjafiles import write_pool
from nodekiln.building.timings import Timed
from nodekiln.building.weights import Weights, shipped
from nodekiln.core.errors import BuildError
from nodekiln.pipelines.explaining import tells_of_a_kill

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
# Tells like gcc how cc1plus ended, as often as there are files named kill-*; each is used up.
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
class Told:
    """Takes what a compilation tells."""

    warnings: list[str] = field(default_factory=list)
    kept: list[tuple[Timed, ...]] = field(default_factory=list)
    meter: list[tuple[int, int | None, float | None]] = field(default_factory=list)

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        self.meter.append((done, total, left))

    @property
    def watch(self) -> Watch:
        return Watch(self, self.warnings.append, tells_of_a_kill, self.kept.append)


@dataclass(frozen=True)
class Bench:
    """A tree whose node is six files put together."""

    folder: Path
    generator: str

    @property
    def out(self) -> Path:
        return self.folder / "source" / "out" / ("Release" if self.generator == "ninja" else "")

    @property
    def ran(self) -> list[str]:
        """The compilations that were begun."""
        return (self.out / "ran").read_text().split()

    def kill(self, times: int) -> None:
        for number in range(times):
            (self.out / f"kill-{number}").touch()

    def compile(self, told: Told, *, jobs: int, heavy: int | None = None) -> Compiled:
        program = shutil.which(self.generator)
        assert program is not None
        compiler = Compiler(self.folder / "source", self.folder / "build.log", self.generator, program)
        load = Load(jobs, jobs if heavy is None else heavy)
        return compiler.run(
            env={"PATH": os.environ["PATH"]}, load=load, weights=Weights({}, shipped()), watch=told.watch
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


def test_after_a_kill_the_build_goes_on_with_half_the_jobs(bench: Bench) -> None:
    bench.kill(1)
    told = Told()
    compiled = bench.compile(told, jobs=4)
    assert compiled.jobs == 2
    assert len(told.warnings) == 1
    assert told.warnings[0].endswith("going on with 2 jobs instead of 4")
    assert (bench.out / "node").is_file()


def test_what_was_compiled_before_the_kill_is_not_compiled_again(ninja: Bench) -> None:
    ninja.kill(1)
    ninja.compile(Told(), jobs=2)
    assert len(ninja.ran) == len(FILES) + 1


def test_a_compiler_that_is_killed_alone_ends_the_build(bench: Bench) -> None:
    bench.kill(20)
    told = Told()
    with pytest.raises(BuildError, match="the only job"):
        bench.compile(told, jobs=4)
    assert [text.rpartition("with ")[2] for text in told.warnings] == [
        "2 jobs instead of 4",
        "1 job instead of 2",
    ]


def test_any_other_failure_is_not_tried_again(bench: Bench) -> None:
    (bench.out / "compile").write_text("#!/bin/sh\necho no such type >&2; exit 1\n")
    told = Told()
    with pytest.raises(BuildError, match="failed with exit code"):
        bench.compile(told, jobs=4)
    assert told.warnings == []


def test_the_times_of_all_steps_are_kept(ninja: Bench) -> None:
    told = Told()
    compiled = ninja.compile(told, jobs=2)
    (steps,) = told.kept
    assert compiled.steps == len(steps) == len(FILES) + 1
    assert steps[-1].description == "LINK node"
    assert steps[-1].after == tuple(range(len(FILES)))


def test_the_times_of_a_build_that_failed_are_kept(ninja: Bench) -> None:
    (ninja.out / "f.cc").unlink()
    (ninja.out / "f.cc").mkdir()  # which cp refuses
    told = Told()
    with pytest.raises(BuildError):
        ninja.compile(told, jobs=1)
    (steps,) = told.kept
    assert "CXX obj/deps/v8/src/v8_base.a.o" in {step.description for step in steps}


def test_a_build_that_was_gone_on_with_is_kept_as_one(ninja: Bench) -> None:
    ninja.kill(1)
    told = Told()
    ninja.compile(told, jobs=2)
    (steps,) = told.kept
    assert [step.end for step in steps] == sorted(step.end for step in steps)
    assert {step.description for step in steps} >= {"LINK node", "CXX obj/deps/v8/src/v8_base.a.o"}


def test_only_what_this_build_ran_is_kept(ninja: Bench) -> None:
    ninja.compile(Told(), jobs=2)
    (ninja.out / "a.cc").write_text("another")
    told = Told()
    assert ninja.compile(told, jobs=2).steps == 2
    assert [step.description for step in told.kept[0]] == ["CXX obj/deps/v8/src/v8_base.a.o", "LINK node"]


def test_nothing_to_do_runs_nothing(ninja: Bench) -> None:
    ninja.compile(Told(), jobs=2)
    told = Told()
    assert ninja.compile(told, jobs=2).steps == 0
    assert told.kept == [()]


def test_the_last_step_is_told_with_nothing_left(bench: Bench) -> None:
    told = Told()
    bench.compile(told, jobs=2)
    done, total, left = told.meter[-1]
    assert done == total == len(FILES) + 1
    assert left is not None


def ninja_says(bench: Bench, words: Sequence[str]) -> str:
    return subprocess.run(
        ["ninja", "-C", bench.out, *words], check=True, capture_output=True, text=True
    ).stdout


def test_a_pool_makes_nothing_again(ninja: Bench) -> None:
    ninja.compile(Told(), jobs=2)
    assert write_pool(ninja.out, 1) == "nodekiln.pooled"
    assert "no work to do" in ninja_says(ninja, ["-f", "nodekiln.pooled", "-n", "node"])


def test_what_a_pool_built_is_built_without_it(ninja: Bench) -> None:
    ninja.compile(Told(), jobs=2, heavy=1)
    assert "no work to do" in ninja_says(ninja, ["-n", "node"])


def test_in_a_pool_of_one_no_two_heavy_steps_run_at_once(ninja: Bench) -> None:
    alone = '#!/bin/sh\nmkdir alone || exit 1\nsleep 0.02\nrmdir alone\ncp "$1" "$2"\n'
    (ninja.out / "compile").write_text(alone)
    told = Told()
    ninja.compile(told, jobs=4, heavy=1)
    assert (ninja.out / "node").is_file()


@pytest.mark.slow
def test_timings_of_a_build_are_kept_by_name(kiln: Kiln) -> None:
    done = kiln.run("build", "--tag=v20.1.0", "--no-probes")
    assert done.code == 0, done.stderr
    kept = json.loads((kiln.build / "timings" / "v20.1.0.json").read_text())
    assert (kept["name"], len(kept["steps"])) == ("v20.1.0", 2)
