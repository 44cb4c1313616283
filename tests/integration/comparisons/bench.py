"""A place to compare in: stand-ins for Node run workloads that are Python in disguise."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.experiment.compare import Compared, compare
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import Experiment
from tests.change_folders import PATCHES

SIZE = 300_000

NODE = f"""#!{sys.executable} -IS
import os, sys, time
if sys.argv[1:] == ["--version"]:
    sys.exit(print("v22.20.0"))
if sys.argv[1] == "-e":
    sys.exit(open(sys.argv[0] + ".first", "a").write("run "))
me, words, options = os.path.basename(sys.argv[0]), sys.argv[1:], []
while words[0].startswith("--"):
    options.append(words.pop(0))
    if options[-1] == "--require":
        options.append(words.pop(0))
program, source, output = words[:3]
if "--trace-gc" in options:
    print("[7:0x1]  40 ms: Scavenge 1.0 (2.0) -> 0.5 (2.0) MB, pooled: 0 MB, 0.25 / 0.00 ms  (", flush=True)
if "NODEKILN_COLLECTIONS" in os.environ:
    open(os.environ["NODEKILN_COLLECTIONS"], "a").write("1,39,0.5\\n4,50,2\\n")
def tell(length, times=1):
    os.write(int(os.environ["NODEKILN_STREAMS"]), b"%d\\n" % length * times)
def copy():
    open(output, "wb").write(open(source, "rb").read())
exec(open(program).read())
"""

COPY = "copy()"


@dataclass(frozen=True)
class Bench:
    """A folder with two stand-ins, `a` and `b`, and what was said to the user."""

    folder: Path
    said: io.StringIO

    def workload(self, text: str) -> str:
        (self.folder / "mine.mjs").write_text(text)
        return "mine.mjs"

    def settings(self) -> Settings:
        environ = {
            "NODEKILN_BUILD": str(self.folder / "build"),
            "PATH": os.environ["PATH"],
            "NODE_OPTIONS": "--no",
        }
        return Settings.read(
            environ=environ, config=None, root=self.folder, patches=PATCHES, cwd=self.folder, venv=None
        )

    def compare(self, text: str = COPY, **wanted: Any) -> Compared | None:
        words: dict[str, Any] = {
            "binaries": ("a", "b"),
            "sizes": (SIZE,),
            "trials": 1,
            "warm_ups": 0,
            "gc_rounds": 0,
        }
        request = CompareRequest(workload=self.workload(text), **{**words, **wanted})
        return compare(request, self.settings(), Reporter(Console(file=self.said, soft_wrap=True)))

    def results(self, text: str = COPY, **wanted: Any) -> Experiment:
        done = self.compare(text, **wanted)
        assert done is not None
        assert isinstance(done.results, Experiment)
        return done.results

    def experiments(self) -> list[str]:
        """The folders of runs."""
        folder = self.folder / "build" / "experiments"
        return (
            sorted(path.name for path in folder.iterdir() if path.name != "inputs") if folder.is_dir() else []
        )
