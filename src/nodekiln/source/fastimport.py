"""Writes blobs and a commit into a repository as a stream to git fast-import: one pack, no files on the way.

Whoever writes says what is in them; nothing here knows where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nodekiln.source.gitrun import GitError, GitRunner

# Fewer than 100 objects would become loose ones, and no single pack could be handed on.
# Level 1 without deltas: v20 takes 3 s and 45 MB; with git's own choice 6 s and 35 MB.
_SETTINGS = ("-c", "fastimport.unpackLimit=0", "-c", "pack.compression=1", "-c", "core.compression=1")
_COMMAND = ("fast-import", "--quiet", "--done", "--depth=0", "--date-format=raw")


class Stream:
    """What goes into the repository. Each call raises GitError where git has ended."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def blob(self, mark: int, size: int, pieces: Iterable[bytes]) -> None:
        """A file's content of `size` bytes, to be named by `mark` (1 or more)."""
        self._write(b"blob\nmark :%d\ndata %d\n" % (mark, size))
        for piece in pieces:
            self._write(piece)

    def commit(self, ref: str, message: str, files: Iterable[tuple[str, str, int]]) -> None:
        """A commit without parents, named by `ref`; `files` are paths, modes and marks of blobs.

        It is dated 1970 and signed by us, so that the same content is the same commit anywhere.
        """
        told = message.encode()
        self._write(f"commit {ref}\ncommitter nodekiln <nodekiln@localhost> 0 +0000\n".encode())
        self._write(b"data %d\n%s" % (len(told), told))
        for path, mode, mark in files:
            quoted = path.replace("\\", "\\\\").replace('"', '\\"')
            self._write(f'M {mode} :{mark} "{quoted}"\n'.encode())
        self._write(b"\n")


@contextmanager
def fast_import(repository: Path) -> Iterator[Stream]:
    """Answers what takes the content; it is in the repository once the block has ended well.

    Raises GitError where git fails, with the line that says why.
    """
    try:
        with GitRunner(repository).feed(*_SETTINGS, *_COMMAND) as write:
            yield Stream(write)
            write(b"done\n")
    except GitError as error:
        # The rest is about a crash report in the repository.
        fatal = next((line for line in error.stderr.splitlines() if line.startswith("fatal:")), error.stderr)
        raise GitError(_COMMAND[:1], error.status, fatal) from None
