"""What a graft costs.

    python benchmarks/graft.py TAG NODE

NODE: the official binary of TAG for this machine. Prints medians and the quarter and three-quarter marks:
copying the file against locating, rewriting and writing; and the whole ./inv graft, which runs the binary,
and traces it where it may.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nodekiln.changes.registry import Registry
from nodekiln.core.platform import cores
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.grafting.graft import copy
from nodekiln.grafting.platforms import Platform
from nodekiln.pipelines.graft_plan import apply_plan, plan_graft

REGISTRY = Registry((Path(__file__).resolve().parents[1] / "patches",))

_ROUNDS = 15
_PROGRAM = Path(__file__).resolve().parents[1] / "src" / "nodekiln" / "__main__.py"
"""What ./inv runs, once its packages are installed."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(works: Sequence[tuple[str, Callable[[], object]]]) -> list[float]:
    """Prints and returns each one's median in seconds; a round before the first warms the page cache."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(_ROUNDS + 1):
        for (_, work), found in zip(works, times, strict=True):
            seconds = timed(work)
            if number:
                found.append(seconds)
    for (name, _), found in zip(works, times, strict=True):
        low, middle, high = statistics.quantiles(found, n=4)
        say(f"  {name:32}{middle * 1000:8.1f} ms   ({low * 1000:.1f} to {high * 1000:.1f})")
    return [statistics.median(found) for found in times]


def run(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    subprocess.run(argv, env=env, check=True, capture_output=True)


def main(tag: Tag, node: Path, folder: Path) -> None:
    here = Platform.of_machine(sys.platform, platform.machine())
    if here is None:
        sys.exit("There is no release for this machine.")
    recipe = Recipe(
        tag=tag, changes=("no-backpressure", *(("usdt",) if here.os == "linux" else ())), graft=True
    )
    made = folder / "grafted"

    def whole() -> None:
        apply_plan(node, made, recipe, here, plan_graft(node, recipe, here, REGISTRY))

    say(f"{platform.platform()}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    say(f"{tag} for {here}, {node.stat().st_size / 1e6:.0f} MB, {_ROUNDS} rounds")
    say("the binary:")
    copied, grafted = in_turns(
        [("copy", lambda: copy(node, folder / "copy")), ("locate, rewrite, write", whole)]
    )
    say(f"  {grafted / copied:.1f} times the copy")

    env = {**os.environ, "NODEKILN_BUILD": str(folder / "build")}
    words = ["graft", f"--tag={tag}", "--no-backpressure", f"--release={node}"]
    words += [] if "usdt" in recipe.changes else ["--no-probes"]
    command = [sys.executable, str(_PROGRAM), *words]
    say("the whole command, with hashes and self-check:")
    in_turns(
        [
            ("./inv graft --force", lambda: run(*command, "--force", env=env)),
            ("./inv graft, already there", lambda: run(*command, env=env)),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="nodekiln-", dir=Path.cwd()) as place:
        main(Tag.parse(sys.argv[1]), Path(sys.argv[2]).absolute(), Path(place))
