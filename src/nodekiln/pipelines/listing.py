"""The published binaries as ./inv list tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodekiln.binaries.store import Published, Store
from nodekiln.core.reporting import format_size


@dataclass(frozen=True, slots=True)
class Row:
    """One binary in the list."""

    published: Published

    def cells(self) -> tuple[str, ...]:
        """Name, size, when it was made, what its write() answers, where it comes from."""
        facts, size = self.published.facts, format_size(self.published.size)
        if facts is None:
            return (self.published.name, size, "", "", self.published.trouble or "")
        checked = facts["self_check"]
        answer = "not checked" if checked is None else "true" if checked["write_answers"] else "true or false"
        made = facts["made"].replace("T", " ")[:16]
        return (self.published.name, size, made, answer, f"{facts['repository']} {facts['commit'][:12]}")

    def as_data(self) -> dict[str, Any]:
        """For machines: name, path, size in bytes, the manifest (null where it can't be read: `trouble`)."""
        return {
            "name": self.published.name,
            "path": str(self.published.binary),
            "size": self.published.size,
            "trouble": self.published.trouble,
            "manifest": self.published.facts,
        }


def rows(store: Store) -> tuple[Row, ...]:
    """All binaries, by name."""
    return tuple(map(Row, store.list()))
