"""The times of one build's steps, and what they show: longest steps, kinds of steps, the critical path.

Times are seconds since the build began.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nodekiln.building.weights import key_of, target_of
from nodekiln.core.errors import BuildError

_FORM = 1
"""Version of the file format."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A step that ran. `after` are the steps of the same build (by index) that it depends on."""

    description: str
    start: float
    end: float
    after: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Group:
    """All steps of one kind; `seconds` is the sum of their durations."""

    name: str
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Timings:
    """One build, its steps in the order in which they ended."""

    name: str
    jobs: int
    steps: tuple[Timed, ...]

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return max((step.end for step in self.steps), default=0.0) - self._begin

    @property
    def _begin(self) -> float:
        return min((step.start for step in self.steps), default=0.0)

    @property
    def busy(self) -> float:
        """The sum of all steps' durations."""
        return sum(step.seconds for step in self.steps)

    def longest(self, count: int) -> tuple[Timed, ...]:
        """Return the steps that took longest."""
        return tuple(sorted(self.steps, key=lambda step: -step.seconds)[:count])

    def groups(self) -> tuple[Group, ...]:
        """Return compilations by gyp's target and other steps by their verb, longest first."""
        found: dict[str, list[float]] = defaultdict(list)
        for step in self.steps:
            found[_kind(step)].append(step.seconds)
        groups = (Group(name, len(seconds), sum(seconds)) for name, seconds in found.items())
        return tuple(sorted(groups, key=lambda group: -group.seconds))

    def course(self, moments: int, kinds: int) -> tuple[list[float], dict[str, list[float]]]:
        """Return the starts of `moments` equal parts of the build, and the steps that ran in each by kind.

        The longest `kinds` have rows of their own, the rest share "other".
        """
        named = {group.name for group in self.groups()[:kinds]}
        rows = {group.name: [0.0] * moments for group in self.groups()[:kinds]} | {"other": [0.0] * moments}
        begin, width = self._begin, max(self.seconds, 0.001) / moments
        for step in self.steps:
            row = rows[kind] if (kind := _kind(step)) in named else rows["other"]
            first, last = (step.start - begin) / width, (step.end - begin) / width
            for part in range(int(first), min(moments, int(last) + 1)):
                row[part] += max(0.0, min(last, part + 1) - max(first, part))
        return [begin + part * width for part in range(moments)], rows

    def critical_path(self) -> tuple[Timed, ...]:
        """Return the longest chain of steps, each depending on the one before, first to last.

        No number of jobs makes the build shorter than that.
        """
        best: list[tuple[float, int | None]] = [(0.0, None)] * len(self.steps)
        # The steps are in the order in which they ended, so dependencies come first.
        for index, step in enumerate(self.steps):
            before = max(step.after, key=lambda each: best[each][0], default=None)
            best[index] = (step.seconds + (best[before][0] if before is not None else 0.0), before)
        at: int | None = max(range(len(best)), key=lambda each: best[each][0], default=None)
        path = []
        while at is not None:
            path.append(self.steps[at])
            at = best[at][1]
        return tuple(reversed(path))

    def as_data(self, count: int) -> dict[str, Any]:
        """Return totals, the `count` longest steps, groups and the critical path, for JSON."""
        path = self.critical_path()
        return {
            "name": self.name,
            "jobs": self.jobs,
            "steps": len(self.steps),
            "seconds": round(self.seconds, 3),
            "busy_seconds": round(self.busy, 3),
            "critical_path_seconds": round(sum(step.seconds for step in path), 3),
            "critical_path": [_step_data(step) for step in path],
            "longest": [_step_data(step) for step in self.longest(count)],
            "groups": [asdict(group) | {"seconds": round(group.seconds, 3)} for group in self.groups()],
        }

    def to_json(self) -> str:
        """Return the content of the kept file."""
        rows = [
            [step.description, round(step.start, 3), round(step.end, 3), list(step.after)]
            for step in self.steps
        ]
        facts = {"form": _FORM, "name": self.name, "jobs": self.jobs}
        # One step a line, for people and for diffs.
        listed = ",\n".join(json.dumps(row) for row in rows)
        return f'{json.dumps(facts)[:-1]}, "steps": [\n{listed}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Timings:
        """Parse a kept file; raise BuildError for other text."""
        try:
            facts = json.loads(text)
            steps = tuple(
                Timed(str(description), float(start), float(end), _earlier(after, index))
                for index, (description, start, end, after) in enumerate(facts["steps"])
            )
            if facts["form"] != _FORM:
                raise ValueError
            return cls(name=str(facts["name"]), jobs=int(facts["jobs"]), steps=steps)
        except (ValueError, KeyError, TypeError):
            raise BuildError("The timings are damaged or of another version.") from None


def _earlier(after: Sequence[int], index: int) -> tuple[int, ...]:
    found = tuple(map(int, after))
    if not all(0 <= each < index for each in found):
        raise ValueError
    return found


def _kind(step: Timed) -> str:
    key = key_of(step.description)
    target = target_of(key)
    return f"compile {target}" if target else key.partition(" ")[0]


def _step_data(step: Timed) -> dict[str, Any]:
    return {
        "step": step.description,
        "start": round(step.start, 3),
        "seconds": round(step.seconds, 3),
    }
