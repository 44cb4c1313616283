"""How many steps run at once, and how many of them may be heavy."""

from __future__ import annotations

from dataclasses import dataclass

from nodekiln.building.memory import needs


@dataclass(frozen=True, slots=True)
class Load:
    """Steps at once, and how many of those may be heavy; at least one of each."""

    jobs: int
    heavy: int

    def halved(self) -> Load:
        """What to try next where this was too much."""
        jobs = max(1, self.jobs // 2)
        return Load(jobs, min(jobs, self.heavy))


def default_jobs(cores: int, available_memory: int) -> int:
    """As many heavy steps as memory (bytes) holds, and light ones in what is left; at most one step a core.

    Heavy steps are nine tenths of a build (8120 of 8831 CPU seconds for 20.19.2), so they come first: with
    4 GB and 8 cores it is two heavy steps and one light one.
    """
    heavy = heavy_steps(cores, available_memory)
    left = max(0, available_memory - heavy * needs().heavy)
    return min(cores, heavy + left // needs().light)


def heavy_steps(jobs: int, available_memory: int) -> int:
    """How many of `jobs` steps may be heavy at once, never less than one."""
    return max(1, min(jobs, available_memory // needs().heavy))
