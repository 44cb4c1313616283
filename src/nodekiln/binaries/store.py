"""Publish, find, list and remove the binaries under build/binaries.

Names change hands only under one lock, "binaries", which is held for renames and no longer: binaries of one
name can come from two trees, and be removed meanwhile.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from nodekiln.binaries.manifest import Manifest, read_facts
from nodekiln.core.errors import CheckError, KilnError, UsageError
from nodekiln.core.files import hash_file, read_regular
from nodekiln.core.recipe import check_name, is_name
from nodekiln.core.settings import Workspace


def disk_usage(folder: Path, counted: set[tuple[int, int]]) -> int:
    """Return the disk usage of a folder in bytes, as du does; files removed meanwhile are not counted.

    Nor does what has been `counted` (device and inode), which this adds to: the headers of a graft are hard
    links to those of its release.
    """
    paths = [folder]
    for place, folders, files in os.walk(folder):
        paths += (Path(place, name) for name in (*folders, *files))
    size = 0
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) not in counted:
            counted.add((status.st_dev, status.st_ino))
            size += status.st_blocks * 512
    return size


def delete(folder: Path) -> None:
    """Remove a folder, even if another process removes it at the same time; raise OSError."""
    while folder.exists():
        with suppress(FileNotFoundError):  # of a file that the other one took first: there is one less now
            shutil.rmtree(folder)


PREFIX = ".staging-"
_HOLD = "held"
_YOUNG = 3600.0
"""Seconds for which one without a lock may still be in use."""


def make_staging(store: Path) -> tuple[Path, filelock.BaseFileLock]:
    """Create a staging directory in the folder `store` and return it with its lock."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=store))
    hold = filelock.FileLock(folder / _HOLD)
    hold.acquire()
    return folder, hold


def find_dead_stagings(store: Path) -> tuple[Path, ...]:
    """Return the staging directories in `store` without an owner. One being created looks so for a moment."""
    return tuple(
        folder
        for folder in sorted(store.glob(f"{PREFIX}*"))
        if folder.is_dir() and not folder.is_symlink() and not _is_held(folder)
    )


def _is_held(folder: Path) -> bool:
    file = folder / _HOLD
    if not file.exists():  # by an older nodekiln, or killed before it could hold it
        try:
            return time.time() - folder.stat().st_mtime < _YOUNG
        except OSError:  # gone meanwhile
            return True
    hold = filelock.FileLock(file)
    try:
        hold.acquire(timeout=0)
    except OSError:  # a timeout, or another user's lock, whose state is unknown
        return True
    hold.release()
    return False


FORMER = ".former-"
"""Prefix of the name of a binary that is being replaced."""
_FILES = ("node", "node.exe")


@dataclass(frozen=True, slots=True)
class Published:
    """A published binary; `facts` is its manifest, None if that can't be read (`trouble` says why)."""

    name: str
    binary: Path
    """The executable, in its own folder."""
    facts: dict[str, Any] | None
    trouble: str | None

    @property
    def folder(self) -> Path:
        """Bytes of the binary and everything in its folder."""
        return self.binary.parent

    @property
    def size(self) -> int:
        """Bytes of the whole folder on the disk."""
        return disk_usage(self.folder, set())


def file_name(platform: str) -> str:
    """Return the file name of a binary for "linux-x64" or "win-x64"."""
    return _FILES[platform.startswith("win-")]


@dataclass(frozen=True, slots=True)
class Store:
    """The binaries of a workspace."""

    workspace: Workspace

    @property
    def folder(self) -> Path:
        return self.workspace.binaries

    def find(self, name: str) -> Published | None:
        """Return the binary of that name or None; raise UsageError for an invalid name."""
        # A kill between the two renames of a replacement leaves only the former folder, and in it what was
        # published. It can be used there; only `publish`, which has the lock, moves it. The last
        # look is for what came to its name since the first one.
        place = self.folder / check_name(name)
        for folder in (place, self.folder / f"{FORMER}{name}", place):
            for binary in (folder / file for file in _FILES):
                if binary.is_file():
                    return _read(name, binary)
        return None

    def get(self, name: str) -> Published:
        """Return the binary of that name; raise UsageError, naming the others, if it does not exist."""
        published = self.find(name)
        if published is None:
            there = ", ".join(other.name for other in self.list()) or "none yet"
            raise UsageError(
                f"Binary {name} not found. Existing ones: {there}.",
                remedy="./inv build --tag TAG makes one; ./inv list shows them.",
            )
        return published

    def list(self) -> tuple[Published, ...]:
        """Return all binaries, sorted by name."""
        if not self.folder.is_dir():
            return ()
        names = sorted({path.name.removeprefix(FORMER) for path in self.folder.iterdir()})
        found = (self.find(name) for name in names if is_name(name))
        return tuple(published for published in found if published is not None)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a temporary folder on the store's disk, to make and check a binary in before `publish`.

        What runs that were killed left of theirs goes as well.
        """
        with self._moment():
            self.folder.mkdir(parents=True, exist_ok=True)
            dead = find_dead_stagings(self.folder)
            place, hold = make_staging(self.folder)
        try:
            for left in dead:
                shutil.rmtree(left, ignore_errors=True)
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            hold.release()

    def publish(
        self,
        binary: Path,
        manifest: Manifest,
        *,
        patch: bytes,
        fill: Callable[[Path], None],
        bring: Callable[[Path, Path], object] = shutil.copy2,
    ) -> Path:
        """Publish a checked binary in one rename and return its path. It keeps its file name.

        `fill` adds what belongs beside it (headers) to the folder it is given; `bring` takes the
        binary there: os.replace will do for a caller who has no more use for it. The folder appears under its
        name complete or not at all; a binary that was there before stays until then.
        """
        with self.staging() as place:
            folder = place / manifest.name
            folder.mkdir()
            folder.chmod(0o755)
            fill(folder)
            published = folder / binary.name
            bring(binary, published)
            (folder / "patch.diff").write_bytes(patch)
            (folder / "manifest.json").write_text(manifest.to_json())
            if hash_file(published) != manifest.sha256:
                raise CheckError(f"{binary} changed while it was published; build again.")
            _flush(published)
            target, former = self.folder / manifest.name, self.folder / f"{FORMER}{manifest.name}"
            with self._moment():
                if target.exists():
                    _move(former, place / "left")  # a kill just before the end of this left both
                    target.rename(former)
                folder.rename(target)
                _move(former, place / "former")
        return target / binary.name

    def remove(self, name: str) -> None:
        """Remove a binary; its name is free at once. A missing one is no error."""
        check_name(name)
        # Renamed to what a kill leaves, so that a kill leaves nothing that could be taken for the binary.
        folders = [self.folder / name, self.folder / f"{FORMER}{name}"]
        leftovers = [self.folder / f"{PREFIX}{secrets.token_hex(8)}" for _ in folders]
        with self._moment():
            for folder, leftover in zip(folders, leftovers, strict=True):
                _move(folder, leftover)
        for leftover in leftovers:
            delete(leftover)

    def leftovers(self) -> tuple[Path, ...]:
        """Return the staging directories of killed runs, without waiting for running ones."""
        return find_dead_stagings(self.folder)

    def sweep(self) -> None:
        """Remove them; raise OSError if that fails."""
        with self._moment():
            dead = self.leftovers()
        for left in dead:
            delete(left)

    def _moment(self) -> AbstractContextManager[None]:
        return self.workspace.moment("binaries")


def _move(old: Path, new: Path) -> None:
    """Renames what may not be there."""
    with suppress(FileNotFoundError):
        old.rename(new)


def _read(name: str, binary: Path) -> Published:
    try:
        return Published(name, binary, read_facts(read_regular(binary.parent / "manifest.json")), None)
    except FileNotFoundError:
        return Published(name, binary, None, "manifest.json is missing.")
    except OSError as error:
        return Published(name, binary, None, f"manifest.json can't be read: {error.strerror}.")
    except KilnError as error:
        return Published(name, binary, None, error.message)


def _flush(path: Path) -> None:
    """Flush to disk: a binary emptied by a power failure after its rename would look complete."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
