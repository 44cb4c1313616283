"""What git does for a working tree: an index that follows a commit, files that differ from it, files written.

Nothing here knows plans or what somebody edited by hand. No configuration or attributes file of the user's is
read: only the .gitattributes of the tree itself decide how its files are written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.reporting import Meter
from nodekiln.source.git_runner import GitError, GitRunner

LINK = "120000"
FOLDER = "040000"

_CHUNK = 500
"""Files between two updates of the meter: some 30 ms, half of them to start git and to write the index."""

_BLOCK = 4096
"""Bytes that file systems give out at a time."""

_ORPHAN_PATIENCE = 5.0
"""Seconds that a git which outlived a killed run gets to end. It writes one chunk: 1 s on a slow disk."""

_SEALED = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A path of a commit: git's mode ("100644", "100755", LINK, FOLDER) and object id."""

    mode: str
    id: str

    @property
    def executable(self) -> bool:
        """Whether it is a program."""
        return self.mode == "100755"


class Checkout:
    """Runs git for the folder `source` with the index file `index`, on the objects of `mirror`.

    Every method raises GitError where git fails.
    """

    def __init__(self, mirror: Path, index: Path, source: Path) -> None:
        self._index, self._source = index.absolute(), source.absolute()
        self._objects = GitRunner(mirror.absolute(), _SEALED)
        where = {"GIT_INDEX_FILE": str(self._index), "GIT_WORK_TREE": str(self._source)}
        self._files = GitRunner(mirror.absolute(), {**_SEALED, **where})

    def entries(self, commit: str, paths: Collection[str]) -> dict[str, Entry]:
        """The entries of those of `paths` that the commit has."""
        if not paths:
            return {}
        answer = self._objects.run("ls-tree", "-t", "-z", "--full-tree", "--", commit, *sorted(paths))
        return {path: Entry(mode, name) for mode, _, name, path in map(_entry_fields, _split(answer))}

    def disk_needed(self, commit: str) -> dict[str, int]:
        """Bytes of disk that each file of the commit takes: its size, rounded up to blocks of 4 KiB."""
        answer = self._objects.run("ls-tree", "-r", "-l", "-z", "--full-tree", "--", commit)
        needed = {}
        for line in _split(answer):
            fields, _, path = line.partition("\t")
            size = fields.split()[3]
            needed[path] = 0 if size == "-" else -(-int(size) // _BLOCK) * _BLOCK
        return needed

    def point_at(self, commit: str) -> None:
        """Makes the index hold the commit, keeping the times of files that are the same; writes no file."""
        try:
            self._run("read-tree", "-i", "-m", commit)
        except GitError:  # an index that lost its end with the power: it is a cache and can be made anew
            self._index.unlink(missing_ok=True)
            self._run("read-tree", commit)

    def tracked(self) -> set[str]:
        """The paths in the index."""
        return set(_split(self._run("ls-files", "-z")))

    def differing(self) -> set[str]:
        """Paths whose file is missing or, by the tree's .gitattributes, other than in the index.

        Reads only files whose size or times changed since git looked last: 25 ms for 15,000 files.
        """
        answer = self._run("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
        return set(_split(answer))

    def untracked(self, leaving_out: Collection[str]) -> set[str]:
        """Paths of files that the index lacks, but for those that patterns as in a .gitignore leave out.

        A folder that is a git repository of its own is told as one path that ends with a slash. Lists every
        folder, without looking at files: 20 ms for 15,000 files.
        """
        excluded = (f"--exclude={pattern}" for pattern in leaving_out)
        return set(_split(self._run("ls-files", "--others", "-z", *excluded)))

    def write(self, paths: Sequence[str], meter: Meter | None = None) -> None:
        """Writes files of the index into the source folder over whatever lies there."""
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            self._run("checkout-index", "-f", "-u", "-q", "-z", "--stdin", stdin=_join(chunk))
            if meter is not None:
                meter.update(start + len(chunk), len(paths))

    def export(self, paths: Collection[str], folder: Path) -> None:
        """Writes files of the index into another folder, just as `write` would."""
        if not paths:
            return
        prefix = f"{folder.absolute()}{os.sep}"
        self._run("checkout-index", "-f", "-q", f"--prefix={prefix}", "-z", "--stdin", stdin=_join(paths))

    def release(self) -> None:
        """Takes away the lock of a git that was killed; one that still runs gets some time to end."""
        lock = self._index.with_name(self._index.name + ".lock")
        with suppress(FileNotFoundError):
            while 0 <= time.time() - lock.stat().st_mtime < _ORPHAN_PATIENCE:
                time.sleep(0.02)
            lock.unlink()

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        # -C: paths are meant from the top, wherever in the tree the caller stands.
        settings = ("-c", f"core.attributesFile={os.devnull}")
        return self._files.run("-C", str(self._source), *settings, *arguments, stdin=stdin)


def _split(answer: bytes) -> list[str]:
    return [os.fsdecode(line) for line in answer.split(b"\0") if line]


def _join(paths: Collection[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def _entry_fields(line: str) -> tuple[str, str, str, str]:
    fields, _, path = line.partition("\t")
    mode, kind, name = fields.split()
    return mode, kind, name, path
