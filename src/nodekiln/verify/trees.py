"""The files of many tags, read from git objects in large batches, and a memo of what was computed from them.

Neighboring tags share most of their files, so the memo goes by blob ids: a result for the same blobs costs a
look-up. Both caches are bounded, so that 800 tags take no more memory than 100.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nodekiln.core import limits
from nodekiln.core.edit import Part, Read, Remember
from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.source.mirror import Header
from nodekiln.source.tagset import Snapshot, TagSet

Value = TypeVar("Value")

_MAX_CONTENTS = 16 * 2**20
_MAX_MEMO = 16 * 2**20
"""Bytes of the files that memoized results were computed from; a result holds them before and after."""
_ENTRY_OVERHEAD = 2000
"""Bytes that a small entry takes besides its content."""


@dataclass(slots=True)
class BoundedCache(Generic[Value]):
    """A mapping that drops the least recently used entries when it holds more than `limit` bytes."""

    limit: int
    _entries: OrderedDict[Hashable, tuple[Value, int]] = field(default_factory=OrderedDict)
    _size: int = 0

    def get(self, key: Hashable) -> Value | None:
        """Return the value, or None if it was never added or has been dropped."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def add(self, key: Hashable, value: Value, size: int) -> None:
        """Add a value of `size` bytes under a new key."""
        self._entries[key] = (value, size + _ENTRY_OVERHEAD)
        self._size += size + _ENTRY_OVERHEAD
        while self._size > self.limit and len(self._entries) > 1:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed


@dataclass(slots=True)
class Trees:
    """Reads the files of tags; `headers` has the type and size of every blob that was fetched."""

    tags: TagSet
    headers: Mapping[str, Header]
    _contents: BoundedCache[bytes] = field(default_factory=lambda: BoundedCache(_MAX_CONTENTS))
    _memo: BoundedCache[tuple[Any]] = field(default_factory=lambda: BoundedCache(_MAX_MEMO))
    _seen: set[str] = field(default_factory=set)

    def prefetch(self, snapshots: Iterable[Snapshot]) -> None:
        """Read in one batch the files of these tags that no earlier tag had."""
        blobs = dict.fromkeys(blob for snapshot in snapshots for blob in snapshot.blobs.values())
        new = {
            blob: self.headers[blob] for blob in blobs if blob not in self._seen and self._is_readable(blob)
        }
        self._seen.update(new)
        for blob, content in self.tags.contents(new):
            if content is not None:
                self._contents.add(blob, content, len(content))

    def reader(self, tag: Tag, snapshot: Snapshot) -> Read:
        """Return a function that reads files of one tag.

        It raises SourceError for a file that is missing, damaged, larger than 2 MiB, or not UTF-8.
        """

        def read(path: str) -> bytes | None:
            blob = snapshot.blobs.get(path)
            if blob is None:
                return None
            content = self._contents.get(blob)
            if content is None:
                content = self._read(tag, path, blob)
                self._contents.add(blob, content, len(content))
            if path.endswith(".js") and not _is_utf8(content):
                raise SourceError(f"{path} of {tag} is not UTF-8, which Node's js2c requires.")
            return content

        return read

    def memo(self, snapshot: Snapshot) -> Remember:
        """Return a function that computes a result once for the same key and the same blobs."""

        def remember(key: Hashable, paths: tuple[str, ...], work: Callable[[], Part]) -> Part:
            ids = tuple(snapshot.blobs.get(path) for path in paths)
            entry = (key, paths, ids)
            found = self._memo.get(entry)
            if found is None:
                found = (work(),)
                size = sum(
                    self.headers[name].size for name in ids if name is not None and name in self.headers
                )
                self._memo.add(entry, found, size)
            result: Part = found[0]
            return result

        return remember

    def _read(self, tag: Tag, path: str, blob: str) -> bytes:
        header = self.headers.get(blob)
        if header is not None and header.size > limits.SOURCE_FILE:
            raise SourceError(
                f"{path} of {tag} has {header.size} bytes, and the limit is {limits.SOURCE_FILE}."
            )
        content = None
        if self._is_readable(blob):
            [(_, content)] = self.tags.contents({blob: self.headers[blob]})
        if content is None:
            raise self.tags.unreadable(f"{path} of {tag} (blob {blob[:12]})", blob)
        return content

    def _is_readable(self, blob: str) -> bool:
        header = self.headers.get(blob)
        return header is not None and header.kind == "blob" and header.size <= limits.SOURCE_FILE


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
