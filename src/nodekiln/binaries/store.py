"""The published binaries under build/binaries: publish, find, list, remove."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekiln.binaries.manifest import Manifest, read_facts
from nodekiln.errors import CheckError, KilnError, UsageError
from nodekiln.recipe import check_name, is_name

_FILES = ("node", "node.exe")
_STAGING = ".staging-"
_FORMER = ".former-"


@dataclass(frozen=True, slots=True)
class Published:
    """A binary that is there. `facts` is its manifest, None where that can't be read (`trouble` says why)."""

    name: str
    binary: Path
    """The executable, in a folder of its own."""
    facts: dict[str, Any] | None
    trouble: str | None

    @property
    def folder(self) -> Path:
        """The binary's, with all that belongs to it."""
        return self.binary.parent

    @property
    def size(self) -> int:
        """Bytes of the whole folder."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*") if not path.is_dir())


def file_name(platform: str) -> str:
    """What the file of a binary for "linux-x64" or "win-x64" is called."""
    return _FILES[platform.startswith("win-")]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Store:
    """The folder build/binaries."""

    folder: Path

    def find(self, name: str) -> Published | None:
        """The binary of that name; raises UsageError for a text that no binary could be named."""
        # A kill between the two renames of a replacement leaves only the former folder, and in it what was
        # published. That can be used where it stands; only `publish`, which has the lock, moves it.
        for folder in (self.folder / check_name(name), self.folder / f"{_FORMER}{name}"):
            for binary in (folder / file for file in _FILES):
                if binary.is_file():
                    return _read(name, binary)
        return None

    def get(self, name: str) -> Published:
        """The binary of that name; raises UsageError, naming those that are there, where it is not."""
        published = self.find(name)
        if published is None:
            there = ", ".join(other.name for other in self.list()) or "none yet"
            raise UsageError(
                f"There is no binary {name}. There are: {there}.",
                remedy="./inv build --tag TAG makes one; ./inv list shows them.",
            )
        return published

    def list(self) -> tuple[Published, ...]:
        """All binaries, by name."""
        if not self.folder.is_dir():
            return ()
        names = sorted({path.name.removeprefix(_FORMER) for path in self.folder.iterdir()})
        found = (self.find(name) for name in names if is_name(name))
        return tuple(published for published in found if published is not None)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on the store's disk, gone at the end, to make and check a binary in before `publish`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=self.folder) as folder:
            yield Path(folder)

    def publish(
        self,
        binary: Path,
        manifest: Manifest,
        *,
        patch: bytes,
        fill: Callable[[Path], None],
        bring: Callable[[Path, Path], object] = shutil.copy2,
    ) -> Path:
        """Puts a checked binary where users find it, in one rename; returns its path. Its file name stays.

        `fill` adds what belongs beside it (headers) to the folder it is given; `bring` takes the
        binary there: os.replace will do for a caller who has no more use for it. The folder appears under its
        name complete or not at all; a binary that was there before stays until then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.folder))
        try:
            staging.chmod(0o755)
            fill(staging)
            published = staging / binary.name
            bring(binary, published)
            (staging / "patch.diff").write_bytes(patch)
            (staging / "manifest.json").write_text(manifest.to_json())
            if sha256_of(published) != manifest.sha256:
                raise CheckError(f"{binary} changed while it was published; build again.")
            _flush(published)
            target = self.folder / manifest.name
            former = self.folder / f"{_FORMER}{manifest.name}"
            if target.exists():
                shutil.rmtree(former, ignore_errors=True)  # a kill just before the end of this left both
                target.rename(former)
            staging.rename(target)
            shutil.rmtree(former, ignore_errors=True)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return target / binary.name

    def remove(self, name: str) -> None:
        """Removes a binary; it is gone from its name at once."""
        former = self.folder / f"{_FORMER}{check_name(name)}"
        if (self.folder / name).exists():
            shutil.rmtree(former, ignore_errors=True)
            (self.folder / name).rename(former)
        shutil.rmtree(former)


def _read(name: str, binary: Path) -> Published:
    try:
        return Published(name, binary, read_facts((binary.parent / "manifest.json").read_text()), None)
    except OSError:
        return Published(name, binary, None, "manifest.json is missing.")
    except KilnError as error:
        return Published(name, binary, None, error.message)


def _flush(path: Path) -> None:
    """A binary that a power cut emptied after its rename would look complete."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
