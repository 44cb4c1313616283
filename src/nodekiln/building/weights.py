"""How long each step of a build takes: as this machine's own builds took, else as weights.toml says.

A compilation has two times, with and without a hit in a compiler cache, some 400 to 1. All times are seconds.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodekiln.core.files import atomic_write

_STEP = re.compile(r"([A-Z]+(?:-STATIC)?)(?:\(\w+\))? (.*)")
_COMPILERS = ("CC", "CXX")
_HASH = re.compile(r"_[0-9a-f]{32}$")
_TORQUE = "torque-generated"
_TINY = 0.001
"""A step that took no measurable time: ninja counts milliseconds."""


def key_of(description: str) -> str:
    """What names a step in tables of times, the same for ninja and make and in every tree.

    "CXX obj/deps/v8/src/api/v8_base.api.o" (ninja) and
    "CXX(target) /x/obj.target/v8_base/deps/v8/src/api/api.o" (make) are "CXX v8_base src/api api"; of other
    steps the hash of a path goes, and of files their folder.
    """
    if (step := _STEP.fullmatch(description)) is None:
        return description
    verb, what = step.groups()
    folder, _, name = what.rpartition("/")
    if verb not in _COMPILERS:
        return f"{verb} {_HASH.sub('', what if verb == 'ACTION' else name)}"
    if made_by_make := re.search(r"/obj\.(?:target|host)/([^/]+)/?(.*)", folder):
        target, folder, file = made_by_make[1], made_by_make[2], name.removesuffix(".o")
    else:
        target, _, file = name.removesuffix(".o").partition(".")
        folder = folder.removeprefix("obj/")
    return f"{verb} {target} {_place(folder)} {file}"


def group_of(key: str) -> str:
    """Target and folder of a compilation, by which weights.toml gives times; "" for any other step."""
    return key.split(" ", 1)[1].rpartition(" ")[0] if is_compilation(key) else ""


def target_of(key: str) -> str:
    """gyp's target that a compilation belongs to; "" for any other step."""
    return group_of(key).partition(" ")[0]


def _place(folder: str) -> str:
    """A folder of V8's or of what torque makes, without what stands before it in this tree."""
    before, torque, after = folder.partition(_TORQUE)
    return torque + after or before.removeprefix("deps/v8/") or "."


def is_compilation(key: str) -> bool:
    """Whether a compiler cache can answer for the step of this key."""
    return key.partition(" ")[0] in _COMPILERS


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds that a step takes, and takes with a hit; `hit` is None where no cache can answer for it."""

    seconds: float
    hit: float | None = None

    def is_hit(self, seconds: float, pace: float = 1.0) -> bool:
        """Whether a step that took so long was a hit: whether it is nearer to that time, as a ratio.

        The middle is at about 0.2 s for a file of V8, which no compiler reaches and any hit does; `pace` is
        how many times longer than here both take today.
        """
        return self.hit is not None and max(seconds, _TINY) < pace * math.sqrt(self.hit * self.seconds)


@dataclass(frozen=True, slots=True)
class Shipped:
    """weights.toml: compilations by target and folder, by target, or any; others by key, verb."""

    groups: Mapping[str, Expected]
    steps: Mapping[str, float]
    compilation: Expected
    other: float

    def expect(self, key: str) -> Expected:
        """What the step of this key takes on the machine that the file was made on."""
        if key in self.steps or not is_compilation(key):
            return Expected(self.steps.get(key, self.steps.get(key.partition(" ")[0], self.other)))
        group = group_of(key)
        found = self.groups.get(group) or self.groups.get(target_of(key))
        return found or self.compilation


@cache
def shipped() -> Shipped:
    """The times that come with the program."""
    facts = tomllib.loads(Path(__file__).with_name("weights.toml").read_text())
    return Shipped(
        groups={group: Expected(*times) for group, times in facts["groups"].items()},
        steps=facts["steps"],
        compilation=Expected(*facts["compilation"]),
        other=facts["other"],
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """What to expect of each step: this machine's `own` times by key, the shipped ones for the rest."""

    own: Mapping[str, Expected]
    """`seconds` is NaN where only hits were seen."""
    base: Shipped

    def expect(self, key: str) -> Expected:
        """What the step of this key will take."""
        ours, theirs = self.own.get(key), self.base.expect(key)
        if ours is None:
            return theirs
        return Expected(
            theirs.seconds if math.isnan(ours.seconds) else ours.seconds,
            theirs.hit if ours.hit is None else ours.hit,
        )

    def after(self, ran: Iterable[tuple[str, float]]) -> Weights:
        """With the steps of another build, as (key, seconds), the newest counting."""
        own = dict(self.own)
        for key, taken in ran:
            seconds, expected = max(taken, _TINY), self.expect(key)
            before = own.get(key, Expected(math.nan))
            own[key] = (
                Expected(before.seconds, seconds)
                if expected.is_hit(seconds)
                else Expected(seconds, before.hit)
            )
        return Weights(own, self.base)


def read_weights(path: Path) -> Weights:
    """The times kept in the file `path`; only the shipped ones where it is missing or can't be taken."""
    try:
        rows = json.loads(path.read_text())["steps"]
        own = {
            str(key): Expected(math.nan if seconds is None else float(seconds), hit and float(hit))
            for key, (seconds, hit) in rows.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = {}
    return Weights(own, shipped())


def write_weights(path: Path, weights: Weights) -> None:
    """Keeps this machine's own times."""
    rows = {
        key: [None if math.isnan(own.seconds) else own.seconds, own.hit]
        for key, own in sorted(weights.own.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"steps": rows}, indent=0).encode())
