"""Where everything lies under build/, and the locks that keep two runs apart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from nodekiln.core.errors import ToolchainError


@dataclass(frozen=True, slots=True)
class Workspace:
    """The build folder. Nothing is made before it is needed."""

    root: Path

    @property
    def mirror(self) -> Path:
        """The bare git repository with everything that was fetched or imported."""
        return self.root / "mirror.git"

    @property
    def trees(self) -> Path:
        """A folder for each working tree."""
        return self.root / "trees"

    @property
    def binaries(self) -> Path:
        """A folder for each published binary."""
        return self.root / "binaries"

    @property
    def releases(self) -> Path:
        """Official binaries that were downloaded."""
        return self.root / "releases"

    @property
    def timings(self) -> Path:
        """What builds took, by recipe, and the times of all their steps."""
        return self.root / "timings"

    @property
    def experiments(self) -> Path:
        """A folder for each comparison."""
        return self.root / "experiments"

    @property
    def inputs(self) -> Path:
        """What comparisons read: generated or repeated, kept for the next one."""
        return self.experiments / "inputs"

    @property
    def locks(self) -> Path:
        """Lock files, outside the folders they guard so that those can be removed."""
        return self.root / "locks"

    def prepare(self) -> None:
        """Makes the build folder; raises ToolchainError where that can't be written."""
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    @contextmanager
    def lock(self, name: str, purpose: str, say: Callable[[str], None]) -> Iterator[None]:
        """Holds the lock `name`; where another run has it, says for whom we wait, and waits.

        Raises ToolchainError where the build folder can't be written.
        """
        self.prepare()
        holder = self.locks / f"{name}.holder.json"
        lock = filelock.FileLock(self.locks / f"{name}.lock")
        if not self._acquire(lock, timeout=0):
            say(f"waiting for {_describe(holder)}, which works on {name}")
            self._acquire(lock)
        try:
            with suppress(OSError):  # who needs room on a full disk has to get at it
                holder.write_text(json.dumps({"pid": os.getpid(), "purpose": purpose}))
            yield
        finally:
            with suppress(OSError):
                holder.unlink()
            lock.release()

    @contextmanager
    def moment(self, name: str) -> Iterator[None]:
        """The same for what takes a moment: nobody needs to be told who is waited for."""
        self.prepare()
        lock = filelock.FileLock(self.locks / f"{name}.lock")
        self._acquire(lock)
        try:
            yield
        finally:
            lock.release()

    def _acquire(self, lock: filelock.BaseFileLock, *, timeout: float = -1) -> bool:
        """False where another run still has it after `timeout` seconds (-1: however long that takes)."""
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise self._unwritable(error) from None
        return True

    def _unwritable(self, error: OSError) -> ToolchainError:
        return ToolchainError(
            f"The build folder {self.root} can't be written: {error.strerror} ({error.filename}).",
            remedy="Make it writable, or name another one with NODEKILN_BUILD.",
        )


def _describe(holder: Path) -> str:
    try:
        told = json.loads(holder.read_text())
        return f"process {told['pid']} ({told['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
