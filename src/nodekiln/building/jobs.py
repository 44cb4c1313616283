"""How many steps run at once, and how many of them may need much memory (memory.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """The peak memory of a step of each class in bytes, and the globs of the targets with heavy objects."""

    heavy: int
    light: int
    heavy_targets: tuple[str, ...]


@cache
def memory_needs() -> MemoryNeeds:
    """Return the figures of memory.toml."""
    facts = tomllib.loads(Path(__file__).with_name("memory.toml").read_text())
    return MemoryNeeds(facts["heavy"], facts["light"], tuple(facts["heavy_targets"]))


def is_heavy(output: str) -> bool:
    """Return True if compiling this object takes much memory; `output` as ninja spells it."""
    target = output.rpartition("/")[2].partition(".")[0]
    return any(fnmatchcase(target, pattern) for pattern in memory_needs().heavy_targets)


@dataclass(frozen=True, slots=True)
class Load:
    """The number of steps at once, and the number of heavy ones among them; at least one of each."""

    jobs: int
    heavy: int

    def halved(self) -> Load:
        """Return the load to retry with after the system killed a compiler."""
        jobs = max(1, self.jobs // 2)
        return Load(jobs, min(jobs, self.heavy))


def default_jobs(cores: int, available_memory: int) -> int:
    """Return as many jobs as fit into memory (bytes), heavy ones first; at most one per core.

    Heavy steps are nine tenths of a build (8120 of 8831 CPU seconds for 20.19.2), so they come first: with
    4 GB and 8 cores it is two heavy steps and one light one.
    """
    heavy = heavy_steps(cores, available_memory)
    left = max(0, available_memory - heavy * memory_needs().heavy)
    return min(cores, heavy + left // memory_needs().light)


def heavy_steps(jobs: int, available_memory: int) -> int:
    """Return how many of `jobs` steps may be heavy at once, at least one."""
    return max(1, min(jobs, available_memory // memory_needs().heavy))
