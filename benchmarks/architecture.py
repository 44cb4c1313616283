"""Counts the modules of nodekiln that one command touches, and the calls between them.

    python benchmarks/architecture.py

Runs a first build, a build with nothing to do, a graft and a comparison on the tests' miniature Nodes,
each under a profiler. A module is touched if one of its functions ran. A switch is a call from a function
of one nodekiln module to a function of another; resuming a generator is no call. Prints both with their
limits; exits with 1 if one is exceeded. --details lists the switches. About 15 seconds.
"""

from __future__ import annotations

import inspect
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

_CHECKOUT = Path(__file__).resolve().parents[1]
_PACKAGE = str(_CHECKOUT / "src" / "nodekiln") + os.sep
_PROGRAM = _CHECKOUT / "src" / "nodekiln" / "__main__.py"
_OUTPUT = "ARCHITECTURE_OUTPUT"
"""Environment variable with the file that a child process writes its counts to."""
_LIMITS = {
    "build": (50, 450),
    "nothing to do": (35, 240),
    "graft": (35, 350),
    "compare": (45, 600),
}
"""Modules and switches."""


class Counts:
    """The modules of nodekiln in which a function ran, and the number of calls from one to another."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.switches: Counter[tuple[str, str]] = Counter()

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or (callee := _module(frame.f_code)) is None or _resumes(frame):
            return
        self.modules.add(callee)
        if frame.f_back is None or (caller := _module(frame.f_back.f_code)) is None:
            return
        if caller != callee:
            self.switches[caller, callee] += 1

    def write(self, path: Path) -> None:
        switches = [[*pair, count] for pair, count in self.switches.most_common()]
        path.write_text(json.dumps({"modules": sorted(self.modules), "switches": switches}))

    @classmethod
    def read(cls, path: Path) -> Counts:
        data, counts = json.loads(path.read_text()), cls()
        counts.modules.update(data["modules"])
        counts.switches.update({(caller, callee): count for caller, callee, count in data["switches"]})
        return counts


def _module(code: CodeType) -> str | None:
    """Return the module of a function of nodekiln; None for other code, module and class bodies included."""
    if not code.co_filename.startswith(_PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
        return None
    return code.co_filename.removeprefix(_PACKAGE)


def _resumes(frame: FrameType) -> bool:
    """Return True where a generator goes on after a yield, which the profiler reports as a call, too."""
    code = frame.f_code
    # The argument of RESUME is 0 at the start of a function only.
    return bool(code.co_flags & inspect.CO_GENERATOR and code.co_code[frame.f_lasti + 1])


@contextmanager
def counted(counts: Counts) -> Iterator[None]:
    sys.setprofile(counts.profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def run_child() -> None:
    """Run the program in this process with its arguments, and write the counts."""
    counts = Counts()
    sys.argv[0] = str(_PROGRAM)
    sys.path[0] = str(_CHECKOUT)
    try:
        with counted(counts):
            runpy.run_path(str(_PROGRAM), run_name="__main__")
    finally:
        counts.write(Path(os.environ[_OUTPUT]))


def count_child(words: Sequence[str], env: Mapping[str, str], folder: Path) -> Counts:
    """Return the counts of a command that runs in a process of its own."""
    output = folder / "counts.json"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *words],
        env={**env, "PYTHONPATH": str(_CHECKOUT / "src"), _OUTPUT: str(output)},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    return Counts.read(output)


def count_builds(folder: Path) -> Iterator[tuple[str, Counts]]:
    from tests.integration.conftest import GOOD, Kiln, make_programs, make_repository

    for name in ("programs", "here", "tmp"):
        (folder / name).mkdir()
    kiln = Kiln(folder, make_repository(folder / "node.git"), make_programs(folder / "programs"))
    for title in ("build", "nothing to do"):
        words = ("build", f"--tag={GOOD}", "--no-backpressure", "--no-probes")
        yield title, count_child(words, kiln.environment(), folder)


def count_graft(folder: Path) -> Counts:
    from tests.integration.grafts.desk import ADAPTERS, TAG, WRITABLE, compile_node

    release = folder / "release"
    release.mkdir()
    compile_node(release, WRITABLE, b"'use strict';\n", ADAPTERS)
    env = {"PATH": str(folder / "nothing"), "HOME": str(folder), "NODEKILN_BUILD": str(folder / "build")}
    words = ("graft", f"--tag={TAG}", "--no-backpressure", f"--release={release / 'node'}")
    return count_child(words, env, folder)


def count_compare(folder: Path) -> Counts:
    from tests.integration.comparisons.bench import COPY, NODE

    for name in "ab":
        (folder / name).write_text(NODE)
        (folder / name).chmod(0o755)
    (folder / "mine.mjs").write_text(COPY)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "NODEKILN_BUILD": str(folder / "build")}
    words = (
        "compare",
        "--binaries=a,b",
        "--workload=mine.mjs",
        "--size=300kB",
        "--trials=2",
        "--gc-rounds=1",
    )
    return count_child(words, env, folder)


def main(*, details: bool) -> int:
    sys.path.insert(0, str(_CHECKOUT))
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    exceeded = False
    with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder:
        places = {name: Path(folder, name) for name in ("build", "graft", "compare")}
        for place in places.values():
            place.mkdir()
        os.environ["HOME"] = folder
        found = dict(count_builds(places["build"]))
        found["graft"] = count_graft(places["graft"])
        found["compare"] = count_compare(places["compare"])
    print(f"{'':14}{'modules':>8}{'limit':>7}{'switches':>10}{'limit':>7}")
    for title, counts in found.items():
        modules, switches = len(counts.modules), counts.switches.total()
        most_modules, most_switches = _LIMITS[title]
        exceeded |= modules > most_modules or switches > most_switches
        print(f"{title:14}{modules:8}{most_modules:7}{switches:10}{most_switches:7}")
        if details:
            for (caller, callee), count in counts.switches.most_common():
                print(f"{count:6} {caller} -> {callee}")
    return int(exceeded)


if __name__ == "__main__":
    if _OUTPUT in os.environ:
        run_child()
    else:
        sys.exit(main(details="--details" in sys.argv))
