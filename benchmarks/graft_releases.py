"""Graft the JavaScript of releases onto their predecessors.

    python benchmarks/graft_releases.py [OLD..NEW ...] [--write docs/grafts.md]

For each pair, as v22.17.0..v22.17.1, all modules that both have and that differ (v22.23.2-arm64 runs under
qemu). The graft must list the texts of the newer release, pass the self-check and run smoke.js. Prints a
table in Markdown. Releases are downloaded through npm and kept below build/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nodekiln.binaries.selfcheck import Expected, check
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.grafting.builtins import module_path
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import obtain
from nodekiln.pipelines.graft_plan import apply_plan, plan_texts

ROOT = Path(__file__).resolve().parents[1]
SMOKE = Path(__file__).with_name("smoke.js")
PARTS = ["http", "streams", "fs", "workers", "esm", "crypto"]
PAIRS = [
    "v20.18.1..v20.18.2",
    "v20.18.2..v20.18.3",
    "v20.19.4..v20.19.5",
    "v20.19.5..v20.19.6",
    "v20.20.1..v20.20.2",
    "v22.13.0..v22.13.1",
    "v22.17.0..v22.17.1",
    "v22.22.1..v22.22.2",
    "v22.22.2..v22.22.3",
    "v22.23.1..v22.23.2",
    "v24.14.0..v24.14.1",
    "v24.15.0..v24.16.0",
    "v24.16.0..v24.17.0",
    "v24.18.0..v24.18.1",
    "v26.3.0..v26.3.1",
    "v26.5.0..v26.5.1",
    "v26.8.1..v26.8.2",
    "v22.23.2-arm64..v22.23.3-arm64",
    "v24.22.0-arm64..v24.22.1-arm64",
]
_LIST = "require('fs').writeFileSync(process.argv[1], JSON.stringify(process.binding('natives')))"
_ARM_LIBRARIES = "/usr/aarch64-linux-gnu"
_LOCAL = frozenset({"config"})
"""Modules that the build of a release makes."""


@dataclass(frozen=True)
class Result:
    """What came of one pair."""

    modules: int
    added: int
    """Modules that only the newer release has."""
    wrong: tuple[str, ...]
    """Modules whose text is not the newer release's."""
    snapshot: bool
    smoke: str
    seconds: float


def runner(platform: Platform) -> list[str]:
    """Return what runs a binary for a platform, before its path."""
    if platform.cpu == "x64":
        return []
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None:
        raise SystemExit("arm64 needs qemu-user-static, libc6-arm64-cross and libstdc++6-arm64-cross.")
    return [qemu, "-L", _ARM_LIBRARIES]


def natives(run: Sequence[str], binary: Path) -> Mapping[str, str]:
    """Return the texts of a binary's modules, as it lists them itself."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "natives.json"
        argv = [*run, str(binary), "--no-deprecation", "-e", _LIST, str(place)]
        subprocess.run(argv, check=True, capture_output=True, timeout=300)
        listed: dict[str, str] = json.loads(place.read_text())
        return listed


def graft_pair(old: Path, new: Path, tag: Tag, platform: Platform, target: Path) -> Result:
    """Graft the texts of `new` onto `old`, which is the release `tag`, and check the result."""
    run = runner(platform)
    before, after = natives(run, old), natives(run, new)
    both = before.keys() & after.keys() - _LOCAL
    texts = {module_path(name): after[name].encode() for name in both if before[name] != after[name]}
    begun = time.monotonic()
    plan = plan_texts(old, texts)
    apply_plan(old, target, Recipe(tag=tag, changes=(), graft=True), platform, plan)
    seconds = time.monotonic() - begun
    grafted = natives(run, target)
    smoke = subprocess.run([*run, target, SMOKE], capture_output=True, text=True, timeout=300, check=False)
    works = smoke.stdout.split() == PARTS and smoke.returncode == 0
    if not run:
        expected = Expected(version=str(tag), recipe=None, plan=None, backpressure=True, texts=plan.texts)
        check(target, expected, env=os.environ)
    return Result(
        modules=len(texts),
        added=len(after.keys() - before.keys()),
        wrong=tuple(sorted(name for name in both if grafted[name] != after[name])),
        snapshot=not plan.snapshot.is_off,
        smoke="passes" if works else f"fails after {smoke.stdout.split()}: {smoke.stderr[-200:]}",
        seconds=seconds,
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="*", default=PAIRS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    reporter, folder = Reporter(Console(stderr=True)), ROOT / "build" / "releases"
    rows, failed = [], 0

    def node(version: str) -> tuple[Tag, Platform, Path]:
        number, _, cpu = version.partition("-")
        tag, platform = Tag.parse(number), Platform("linux", cpu or "x64")
        release = obtain(
            tag, platform, folder=folder, file=None, mirror=None, env=os.environ, reporter=reporter
        )
        return tag, platform, release.path

    for pair in options.pairs:
        old, _, new = pair.partition("..")
        (tag, platform, before), (_, _, after) = node(old), node(new)
        with tempfile.TemporaryDirectory() as place:
            result = graft_pair(before, after, tag, platform, Path(place) / "node")
        failed += bool(result.wrong) or result.smoke != "passes"
        snapshot = "kept" if result.snapshot else "off"
        equal = "all" if not result.wrong else f"not {', '.join(result.wrong)}"
        rows.append(
            f"| {old} | {new} | {result.modules} | {result.added} | {equal} | {snapshot} | {result.smoke} |"
            f" {result.seconds:.1f} s |"
        )
        sys.stdout.write(rows[-1] + "\n")
        sys.stdout.flush()
    if options.write is not None:
        options.write.write_text(_PAGE + "\n".join(rows) + "\n")
    return 1 if failed else 0


_PAGE = """\
# Releases grafted onto their predecessors

Made by `python benchmarks/graft_releases.py --write docs/grafts.md`: official binaries from npm get the texts
of all modules that differ in the next release, and that both have. "Equal": the texts that
`process.binding('natives')` then lists are those of the newer release. The self-check passes too (x64 only;
arm64 runs under qemu), and `benchmarks/smoke.js` uses http, streams, fs, workers, ESM and crypto. Times are
those of planning and writing, on 2 busy cores with Debian 12.

Modules may need C++ of their release. Where the newer ones call a function that the older binary does not
have, the graft fails its check (from 22.20.0 to 22.21.0 the smoke program, from 24.13.0 to 24.13.1 the
start) and is not published.

| onto | texts of | modules | added, left out | equal | snapshot | smoke.js | time |
|---|---|---|---|---|---|---|---|
"""


if __name__ == "__main__":
    sys.exit(main())
