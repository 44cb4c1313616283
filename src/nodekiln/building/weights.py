"""The expected time of each step of a build: from this machine's own builds, else from weights.toml.

A compilation has two times, with and without a hit in the compiler cache, about 1 to 400. All times are
seconds.
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

from nodekiln.core.files import atomic_write, read_json

_STEP = re.compile(r"([A-Z]+(?:-STATIC)?)(?:\(\w+\))? (.*)")
_COMPILERS = ("CC", "CXX")
_HASH = re.compile(r"_[0-9a-f]{32}$")
_TORQUE = "torque-generated"
_TINY = 0.001
"""The shortest time that ninja measures."""


def key_of(description: str) -> str:
    """Return the name of a step in tables of times, the same for ninja and make and in every tree.

    "CXX obj/deps/v8/src/api/v8_base.api.o" (ninja) and
    "CXX(target) /x/obj.target/v8_base/deps/v8/src/api/api.o" (make) are "CXX v8_base src/api api"; other
    steps lose the hash of a path, and the folder of a file.
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
    return f"{verb} {target} {_short_folder(folder)} {file}"


def group_of(key: str) -> str:
    """Return target and folder of a compilation, the keys of weights.toml; "" for any other step."""
    return key.split(" ", 1)[1].rpartition(" ")[0] if is_compilation(key) else ""


def target_of(key: str) -> str:
    """Return gyp's target of a compilation; "" for any other step."""
    return group_of(key).partition(" ")[0]


def _short_folder(folder: str) -> str:
    """Return a folder relative to V8 or to torque's output, without its prefix in this tree."""
    before, torque, after = folder.partition(_TORQUE)
    return torque + after or before.removeprefix("deps/v8/") or "."


def is_compilation(key: str) -> bool:
    """Return True if a compiler cache may have the result of this step."""
    return key.partition(" ")[0] in _COMPILERS


@dataclass(frozen=True, slots=True)
class Expected:
    """The time of a step, and its time with a cache hit; `hit` is None if no cache may have its result."""

    seconds: float
    hit: float | None = None

    def is_hit(self, seconds: float, pace: float = 1.0) -> bool:
        """Return True if a step of this duration was a hit: if its ratio to the time of a hit is smaller.

        The threshold is about 0.2 s for a file of V8, which is too short for any compiler and enough for any
        hit; `pace` scales both times.
        """
        return self.hit is not None and max(seconds, _TINY) < pace * math.sqrt(self.hit * self.seconds)


@dataclass(frozen=True, slots=True)
class Shipped:
    """weights.toml: compilations by target and folder, by target, or any; other steps by key or verb."""

    groups: Mapping[str, Expected]
    steps: Mapping[str, float]
    compilation: Expected
    other: float

    def expect(self, key: str) -> Expected:
        """Return the time of a step on the machine on which the file was made."""
        if key in self.steps or not is_compilation(key):
            return Expected(self.steps.get(key, self.steps.get(key.partition(" ")[0], self.other)))
        group = group_of(key)
        found = self.groups.get(group) or self.groups.get(target_of(key))
        return found or self.compilation


@cache
def shipped() -> Shipped:
    """Return the times in weights.toml."""
    facts = tomllib.loads(Path(__file__).with_name("weights.toml").read_text())
    return Shipped(
        groups={group: Expected(*times) for group, times in facts["groups"].items()},
        steps=facts["steps"],
        compilation=Expected(*facts["compilation"]),
        other=facts["other"],
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """The expected time of each step: this machine's `own` times by key, the shipped ones for the rest."""

    own: Mapping[str, Expected]
    """`seconds` is NaN for steps that were always hits."""
    base: Shipped

    def expect(self, key: str) -> Expected:
        """Return the expected time of a step."""
        ours, theirs = self.own.get(key), self.base.expect(key)
        if ours is None:
            return theirs
        return Expected(
            theirs.seconds if math.isnan(ours.seconds) else ours.seconds,
            theirs.hit if ours.hit is None else ours.hit,
        )

    def after(self, ran: Iterable[tuple[str, float]]) -> Weights:
        """Return these weights updated with the steps of a build, as (key, seconds)."""
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
    """Return the times kept in the file `path`; only the shipped ones if it is missing or damaged."""
    try:
        rows = read_json(path)["steps"]
        own = {
            str(key): Expected(math.nan if seconds is None else float(seconds), hit and float(hit))
            for key, (seconds, hit) in rows.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = {}
    return Weights(own, shipped())


def write_weights(path: Path, weights: Weights) -> None:
    """Write this machine's own times."""
    rows = {
        key: [None if math.isnan(own.seconds) else own.seconds, own.hit]
        for key, own in sorted(weights.own.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"steps": rows}, indent=0).encode())
