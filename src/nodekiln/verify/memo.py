"""Keeps contents and parts of plans while tags are gone through, never more than a fixed number of bytes.

Neighbours share most of their files: of a part that two tags have in common, the second costs a look-up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nodekiln.core.edit import Part, Remember

Value = TypeVar("Value")

_OVERHEAD = 2000
"""Bytes that a small entry takes beside its content."""


@dataclass(slots=True)
class Bounded(Generic[Value]):
    """A mapping that forgets what was used longest ago once it holds more than `limit` bytes."""

    limit: int
    _kept: OrderedDict[Hashable, tuple[Value, int]] = field(default_factory=OrderedDict)
    _size: int = 0

    def get(self, key: Hashable) -> Value | None:
        """None where it was never kept, or is forgotten."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: Value, size: int) -> None:
        """Takes a value of some `size` in bytes, under a key that it has not."""
        self._kept[key] = (value, size + _OVERHEAD)
        self._size += size + _OVERHEAD
        while self._size > self.limit and len(self._kept) > 1:
            _, (_, freed) = self._kept.popitem(last=False)
            self._size -= freed


@dataclass(slots=True)
class Parts:
    """Parts of plans by what they depend on: the question, and the blobs of the files that it reads."""

    sizes: Mapping[str, int]
    kept: Bounded[tuple[Any]]

    def of_tree(self, blobs: Mapping[str, str]) -> Remember:
        """What the planner asks for one tree."""

        def remember(key: Hashable, paths: tuple[str, ...], work: Callable[[], Part]) -> Part:
            ids = tuple(blobs.get(path) for path in paths)
            full_key = (key, paths, ids)
            found = self.kept.get(full_key)
            if found is None:
                found = (work(),)
                self.kept.keep(
                    full_key, found, sum(self.sizes.get(name, 0) for name in ids if name is not None)
                )
            part: Part = found[0]
            return part

        return remember
