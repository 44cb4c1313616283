"""Whether a grafted binary is as fast as its release: startup, a loop that computes, and streams.

    python benchmarks/graft_speed.py TAG NODE

NODE: the official binary of TAG for this machine. It is grafted twice, with probes alone and without
backpressure as well, and copied twice: one copy stands for the release, as a file that was written at
another time may lie in other pages of memory (startup from it took 15% more), and the other says how far from
1 a binary gets that is the same. CPU time of whole processes, all threads together, in rounds that run each
once in random order; the ratio is the median of those within a round, with its 95% interval. Takes some two
minutes.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.changes.registry import Registry
from nodekiln.core.platform import cores
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.experiment.analysis.statistics import paired_ratio
from nodekiln.experiment.measure.trials import turns
from nodekiln.grafting.graft import copy
from nodekiln.grafting.platforms import Platform
from nodekiln.pipelines.graft_plan import apply_plan, plan_graft

REGISTRY = Registry((Path(__file__).resolve().parents[1] / "patches",))

_SEED = 2220
_WARM_UP = 2
"""Rounds before the first that counts, which bring the files into the page cache."""

_COMPUTE = """
let n = 0;
for (let i = 0; i < 2e7; i++) n = (n * 31 + i) | 0;
const words = new Map();
for (let i = 0; i < 1e5; i++) words.set('w' + (i % 5000), (words.get('w' + (i % 5000)) || 0) + n % 7);
"""
_STREAM = """
const { Readable, Transform, Writable, pipeline } = require('stream');
const chunk = Buffer.alloc(16 * 1024, 'x');
let left = 60000;
pipeline(
  new Readable({ read() { this.push(left-- > 0 ? chunk : null); } }),
  new Transform({ transform(data, encoding, done) { done(null, data); } }),
  new Writable({ write(data, encoding, done) { setImmediate(done); } }),
  (error) => { if (error) throw error; },
);
"""


@dataclass(frozen=True)
class Work:
    """A program, and how many rounds its spread asks for."""

    name: str
    program: str
    rounds: int


WORKS = (Work("startup", "0", 120), Work("computing", _COMPUTE, 40), Work("streams", _STREAM, 80))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def processor_time(node: Path, program: str) -> float:
    """Milliseconds of CPU time, of the user and the system, that a run takes."""
    process = subprocess.Popen([node, "-e", program], env={}, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{node} ended with exit code {process.returncode}.")
    return (used.ru_utime + used.ru_stime) * 1000


def compare(work: Work, nodes: Mapping[str, Path]) -> None:
    """Prints each binary's median and its ratio to the first."""
    times: dict[str, dict[int, float]] = {name: {} for name in nodes}
    for turn in turns(list(nodes), _WARM_UP + work.rounds, _SEED):
        taken = processor_time(nodes[turn.label], work.program)
        if turn.number > _WARM_UP:
            times[turn.label][turn.number] = taken
    say(f"{work.name}, {work.rounds} rounds:")
    first, *_ = times.values()
    for name, found in times.items():
        row = f"  {name:32}{statistics.median(found.values()):8.1f} ms"
        ratio = None if found is first else paired_ratio(found, first)
        say(row if ratio is None else f"{row}   {ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f})")


def main(tag: Tag, node: Path, folder: Path) -> None:
    here = Platform.of_machine(sys.platform, platform.machine())
    if here is None or here.os != "linux":
        sys.exit("This takes a release for Linux, x64 or arm64.")
    nodes = {"release": folder / "copy", "release, another copy": folder / "another"}
    for place in nodes.values():
        copy(node, place)
        place.chmod(0o755)
    for name, backpressure in (("graft, probes", True), ("graft, probes, no backpressure", False)):
        recipe = Recipe(
            tag=tag, changes=(*(() if backpressure else ("no-backpressure",)), "usdt"), graft=True
        )
        nodes[name] = folder / recipe.name
        apply_plan(node, nodes[name], recipe, here, plan_graft(node, recipe, here, REGISTRY))
    say(f"{platform.platform()}, {cores()} cores, load {os.getloadavg()[0]:.1f}, seed {_SEED}")
    say(f"{tag} for {here}, {node.stat().st_size / 1e6:.0f} MB; CPU time, and its ratio to the release's")
    for work in WORKS:
        compare(work, nodes)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="nodekiln-", dir=Path.cwd()) as place:
        main(Tag.parse(sys.argv[1]), Path(sys.argv[2]).absolute(), Path(place))
