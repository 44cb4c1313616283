"""Which steps need much memory, and how many steps fit into what there is (memory.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that one step of each class takes at most, and the targets whose objects are heavy (as globs)."""

    heavy: int
    light: int
    heavy_targets: tuple[str, ...]


@cache
def needs() -> Needs:
    """The figures of memory.toml."""
    facts = tomllib.loads(Path(__file__).with_name("memory.toml").read_text())
    return Needs(facts["heavy"], facts["light"], tuple(facts["heavy_targets"]))


def is_heavy(output: str) -> bool:
    """Whether making this object takes much memory; `output` as ninja spells it."""
    target = output.rpartition("/")[2].partition(".")[0]
    return any(fnmatchcase(target, pattern) for pattern in needs().heavy_targets)
