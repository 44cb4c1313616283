"""Generates src/nodekiln/building/weights.toml from recorded builds.

    python benchmarks/weights.py COLD HITS >weights.toml

Both are timings of whole builds of one tag, as build/timings/NAME.json keeps them (or that, compressed
with xz): COLD without a compiler cache, HITS with everything from one. Steps that are never cached
are taken from COLD.
"""

from __future__ import annotations

import json
import lzma
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from nodekiln.building.timings import Timings
from nodekiln.building.weights import group_of, is_compilation, key_of, target_of

_SHRINK = 2
"""A folder's mean includes this many files with its target's mean: some have one file."""
_A_HIT = 0.1
"""A compilation above this share of its time without a cache was no hit: for example, the code of the
snapshot differs in each build."""


def read(path: Path) -> dict[str, float]:
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode()
    return {key_of(step.description): step.seconds for step in Timings.from_json(text).steps}


def means(times: dict[str, float]) -> tuple[dict[str, float], float]:
    """Return the mean seconds of a compilation by group and by target, and of all."""
    targets, groups = defaultdict(list), defaultdict(list)
    for key, seconds in times.items():
        if is_compilation(key):
            targets[target_of(key)].append(seconds)
            groups[group_of(key)].append(seconds)
    found = {target: statistics.mean(seconds) for target, seconds in targets.items()}
    for group, members in groups.items():
        mean = found[group.partition(" ")[0]]
        found[group] = (sum(members) + _SHRINK * mean) / (len(members) + _SHRINK)
    return found, statistics.mean(each for members in targets.values() for each in members)


def main(cold: dict[str, float], hits: dict[str, float]) -> None:
    never = {key for key, each in hits.items() if is_compilation(key) and each > cold[key] * _A_HIT}
    compiled, any_compiled = means(cold)
    answered, any_answered = means({key: each for key, each in hits.items() if key not in never})
    others = {key: each for key, each in cold.items() if key in never or not is_compilation(key)}
    verbs = defaultdict(list)
    for key, seconds in others.items():
        if key not in never:
            verbs[key.partition(" ")[0]].append(seconds)
    say = sys.stdout.write
    say("# Seconds per step, made by benchmarks/weights.py from two builds of 20.19.2 on two cores\n")
    say("# of an AMD EPYC with gcc 14. Only ratios count: the first steps show the speed of a machine.\n\n")
    say("# Any compilation, without and with a hit in a compiler cache; any other step.\n")
    say(f"compilation = [{any_compiled:.2f}, {any_answered:.4f}]\n")
    say(f"other = {statistics.median(others.values()):.3f}\n\n")
    say("# Compilations of a target, and of one of its folders.\n[groups]\n")
    for group in sorted(compiled):
        say(f"{json.dumps(group)} = [{compiled[group]:.2f}, {answered.get(group, any_answered):.4f}]\n")
    say("\n# Other steps, medians by kind, and compilations that are never cached.\n[steps]\n")
    named = {key: seconds for key, seconds in others.items() if seconds >= 0.05}
    for key, seconds in sorted((named | {v: statistics.median(s) for v, s in verbs.items()}).items()):
        say(f"{json.dumps(key)} = {seconds:.3f}\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(read(Path(sys.argv[1])), read(Path(sys.argv[2])))
