"""The files of many tags, read in large groups from git's objects and kept as long as memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodekiln.core.edit import Read
from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.source.mirror import Header
from nodekiln.source.tagset import Snapshot, TagSet
from nodekiln.verify.memo import Bounded

LARGEST = 2 * 2**20
"""Bytes: the largest file that is looked at in Node has 0.1 MB; one 20 times as large is none of Node's."""


@dataclass(slots=True)
class Trees:
    """Reads what was fetched; `headers` tells which blobs those are."""

    tags: TagSet
    headers: Mapping[str, Header]
    kept: Bounded[bytes]
    _seen: set[str] = field(default_factory=set)

    def prefetch(self, snapshots: Iterable[Snapshot]) -> None:
        """Reads the files of these tags that no tag before had; of others parts are known, mostly."""
        blobs = dict.fromkeys(blob for snapshot in snapshots for blob in snapshot.blobs.values())
        fresh = {
            blob: self.headers[blob] for blob in blobs if blob not in self._seen and self._is_usable(blob)
        }
        self._seen.update(fresh)
        for blob, content in self.tags.contents(fresh):
            if content is not None:
                self.kept.keep(blob, content, len(content))

    def reader(self, tag: Tag, snapshot: Snapshot) -> Read:
        """Answers for one tag; raises SourceError for a file that is missing, damaged, huge or no text."""

        def read(path: str) -> bytes | None:
            blob = snapshot.blobs.get(path)
            if blob is None:
                return None
            content = self.kept.get(blob)
            if content is None:
                content = self._read(tag, path, blob)
                self.kept.keep(blob, content, len(content))
            if path.endswith(".js") and not _is_utf8(content):
                raise SourceError(f"{path} of {tag} is no UTF-8 text, and Node's js2c takes nothing else.")
            return content

        return read

    def _read(self, tag: Tag, path: str, blob: str) -> bytes:
        header = self.headers.get(blob)
        if header is not None and header.size > LARGEST:
            size = header.size / 2**20
            raise SourceError(f"{path} of {tag} has {size:.0f} MB: that is no file of Node's.")
        content = None
        if self._is_usable(blob):
            [(_, content)] = self.tags.contents({blob: self.headers[blob]})
        if content is None:
            raise self.tags.unreadable(f"{path} of {tag} (blob {blob[:12]})", blob)
        return content

    def _is_usable(self, blob: str) -> bool:
        header = self.headers.get(blob)
        return header is not None and header.kind == "blob" and header.size <= LARGEST


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
