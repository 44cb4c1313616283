"""What a working tree holds and what was begun in it, kept in state.json.

It tells what a killed run left from edits made by hand. Knows neither git nor the files themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nodekiln.core.edit import Plan
from nodekiln.core.errors import SourceError
from nodekiln.core.files import atomic_write

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """git's ids of one file that a plan changes: `before` is None where the plan adds it."""

    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The files of a commit with a plan applied to them, by path."""

    commit: str
    applied: Mapping[str, Applied]

    @classmethod
    def of(cls, commit: str, plan: Plan) -> Self:
        """The layer that `plan` makes of `commit`."""
        return cls(commit, {edit.path: Applied(edit.base_id, edit.after_id) for edit in plan.edits})


@dataclass(frozen=True, slots=True)
class Record:
    """`current` was completed last (None: nothing yet); parts of those `begun` since may be there too."""

    current: Layer | None = None
    begun: tuple[Layer, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Everything whose files may be found in the tree."""
        return self.begun if self.current is None else (self.current, *self.begun)

    def beginning(self, target: Layer) -> Record:
        """The record to keep while `target` is written."""
        return self if target in self.begun else Record(self.current, (*self.begun, target))

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads a record; one that is missing or unreadable is empty, so that every file is compared anew.

        Raises SourceError for the record of a later version, OSError where the file can't be read.
        """
        try:
            told = json.loads(file.read_bytes())
            if told["schema"] > _SCHEMA:
                raise SourceError(
                    f"The working tree {file.parent} was made by a later version of nodekiln.",
                    remedy="Use that version, or delete the folder.",
                )
            current = None if told["current"] is None else _parse(told["current"])
            return cls(current, tuple(_parse(layer) for layer in told["begun"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def save(self, file: Path) -> None:
        """Writes the record; raises OSError."""
        told = {
            "schema": _SCHEMA,
            "current": None if self.current is None else _told(self.current),
            "begun": [_told(layer) for layer in self.begun],
        }
        atomic_write(file, (json.dumps(told, indent=1) + "\n").encode("ascii"))


def _told(layer: Layer) -> dict[str, Any]:
    applied = {path: {"before": ids.before, "after": ids.after} for path, ids in layer.applied.items()}
    return {"commit": layer.commit, "applied": applied}


def _parse(told: dict[str, Any]) -> Layer:
    applied = {path: Applied(ids["before"], ids["after"]) for path, ids in told["applied"].items()}
    return Layer(told["commit"], applied)
