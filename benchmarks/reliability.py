"""Kills commands at random moments, and checks that the next run succeeds with the same result.

    python benchmarks/reliability.py [KILLS]

Each command runs on the tests' miniature Nodes: once undisturbed, and then KILLS times (default: 50) in a new
build folder, where it is killed with all its children (SIGKILL) at a random moment and run again. That run
must succeed, give the same bytes, and leave nothing in the build folder or in TMPDIR that the undisturbed one
did not leave. Prints a table in Markdown; exits with 1 if a run failed. About a minute per 10 kills.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]
_PROGRAM = _CHECKOUT / "src" / "nodekiln" / "__main__.py"
_VARYING = re.compile(
    r"\.(json|log|html|png|svg|lock|holder)$|/(?:ran\.txt|index|\.ninja_log)$|/timings/|/mirror\.git/|/experiments/20"
)
"""Files whose content names times, or depends on what was fetched before."""


@dataclass(frozen=True)
class Command:
    """A command of nodekiln, with the environment it needs besides PATH and the build folder."""

    title: str
    words: tuple[str, ...]
    path: str
    environment: Mapping[str, str]


def run(command: Command, folder: Path, kill_after: float | None = None) -> int:
    """Run in `folder`; kill the process group after that many seconds. Returns the exit code."""
    env = {
        **command.environment,
        "PATH": command.path,
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "NODEKILN_BUILD": str(folder / "build"),
    }
    (folder / "tmp").mkdir(exist_ok=True)
    child = subprocess.Popen(
        [sys.executable, str(_PROGRAM), *command.words],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return child.wait(kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


def left_in(folder: Path) -> dict[str, str]:
    """Return the hash of each file below `folder`, "" for those whose content varies."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        name = re.sub(r"experiments/20[\d-]+", "experiments/20", name)
        if (
            path.is_file()
            and "/mirror.git/objects/" not in f"/{name}"
            and not name.startswith("build/locks/")
        ):
            varies = _VARYING.search(f"/{name}") is not None
            found[name] = "" if varies else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def measure(command: Command, kills: int, folder: Path, random_: random.Random) -> tuple[str, bool]:
    """Return the row of the table, and True if every run was as it should be."""
    whole = folder / "whole"
    whole.mkdir()
    begun = time.monotonic()
    if code := run(command, whole):
        raise SystemExit(f"{command.title} fails undisturbed, with exit code {code}")
    seconds = time.monotonic() - begun
    expected = left_in(whole)
    failed = different = leftovers = finished = 0
    for number in range(kills):
        place = folder / str(number)
        place.mkdir()
        finished += run(command, place, random_.uniform(0.05, seconds)) >= 0
        failed += run(command, place) != 0
        found = left_in(place)
        changed = [name for name, digest in expected.items() if found.get(name) != digest]
        if changed:
            print(f"{command.title}: other content: {changed[:5]}", file=sys.stderr)
        different += bool(changed)
        extra = sorted(found.keys() - expected.keys())
        if extra:
            print(f"{command.title}: left over: {extra[:5]}", file=sys.stderr)
        leftovers += bool(extra)
        shutil.rmtree(place)
    row = f"| {command.title} | {kills - finished} | {failed} | {different} | {leftovers} |"
    return row, not (failed or different or leftovers)


def commands(folder: Path) -> list[Command]:
    """Return the commands, on repositories, releases and programs made in `folder`."""
    from tests.integration.comparisons.bench import COPY, NODE
    from tests.integration.conftest import GOOD, Kiln, make_programs, make_repository
    from tests.integration.grafts.desk import ADAPTERS, TAG, WRITABLE, compile_node

    for name in ("programs", "here", "tmp", "release"):
        (folder / name).mkdir()
    kiln = Kiln(folder, make_repository(folder / "node.git"), make_programs(folder / "programs"))
    source = kiln.environment()
    compile_node(folder / "release", WRITABLE, b"'use strict';\n", ADAPTERS)
    for name in "ab":
        (folder / name).write_text(NODE)
        (folder / name).chmod(0o755)
    (folder / "mine.mjs").write_text(COPY)
    empty = str(folder / "nothing")
    compared = f"--binaries={folder / 'a'},{folder / 'b'}"
    return [
        Command(
            "graft", ("graft", str(TAG), "--no-backpressure", f"--release={folder}/release/node"), empty, {}
        ),
        Command(
            "fetch and patch", ("patch", GOOD, "--no-backpressure", "--no-probes"), source["PATH"], source
        ),
        Command("verify", ("verify", GOOD, "--recipe=no-backpressure"), source["PATH"], source),
        Command("build", ("build", GOOD, "--no-backpressure", "--no-probes"), source["PATH"], source),
        Command(
            "compare",
            (
                "compare",
                compared,
                f"--workload={folder}/mine.mjs",
                "--size=300kB",
                "--trials=2",
                "--gc-rounds=1",
            ),
            os.environ["PATH"],
            {},
        ),
    ]


def main(kills: int) -> int:
    sys.path.insert(0, str(_CHECKOUT))
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    fine = True
    rows = [
        "| command | killed | next run failed | other result | files left over |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        folder = Path(name)
        os.environ["HOME"] = name
        random_ = random.Random(20)  # noqa: S311 (moments, no secrets)
        for command in commands(folder):
            (place := folder / command.title.replace(" ", "-")).mkdir()
            row, is_fine = measure(command, kills, place, random_)
            rows.append(row)
            fine &= is_fine
    print("\n".join(rows))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
