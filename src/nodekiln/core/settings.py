"""Settings of a run, read once at the edge, and the layout and locks of the build folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import filelock

from nodekiln.core.errors import ToolchainError, UsageError
from nodekiln.core.process import child_environment
from nodekiln.core.recipe import check_arguments, parse_argument_lines

T = TypeVar("T")


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for every task of one run."""

    workspace: Workspace
    repository: str | None
    """From NODEKILN_REPOSITORY, else from invoke.yaml, else None: the official one."""
    configure_args: tuple[str, ...]
    """From invoke.yaml, then from the file that NODEKILN_CONFIGURE_FILE names."""
    patches: Path
    """The folder of the patch series."""
    environment: Mapping[str, str]
    """For the programs that we start."""
    here: Path
    """The folder that relative paths of the user's are meant from."""

    @classmethod
    def read(
        cls,
        *,
        environ: Mapping[str, str],
        config: object,
        root: Path,
        here: Path,
        venv: Path | None,
        patches: Path | None = None,
    ) -> Settings:
        """`config` is the section `nodekiln` of invoke.yaml. Raises UsageError for what can't be taken."""
        section = _section(config)
        args = check_arguments(section.get("configure_args", []), "invoke.yaml, configure_args")
        if named := environ.get("NODEKILN_CONFIGURE_FILE"):
            args += read_configure_file(here / named, "NODEKILN_CONFIGURE_FILE")
        repository = environ.get("NODEKILN_REPOSITORY") or section.get("repository")
        if repository is not None and not isinstance(repository, str):
            raise UsageError(f"invoke.yaml: repository is {repository!r}, and should be a text.")
        build = environ.get("NODEKILN_BUILD")
        return cls(
            workspace=Workspace(here / build if build else root / "build"),
            repository=repository,
            configure_args=args,
            patches=patches or root / "patches",
            environment=child_environment(environ, venv=venv),
            here=here,
        )


def read_configure_file(path: Path, origin: str) -> tuple[str, ...]:
    """The configure arguments in a file, one a line; raises UsageError where it can't be read."""
    try:
        return parse_argument_lines(path.read_text(), f"{origin} ({path})")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{origin}: {path} can't be read: {why}.") from None


def _section(config: object) -> Mapping[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise UsageError("invoke.yaml: `nodekiln` should hold names with values.")
    unknown = set(config) - {"repository", "configure_args"}
    if unknown:
        raise UsageError(
            f"invoke.yaml: nodekiln knows no {', '.join(sorted(map(str, unknown)))}.",
            remedy="It takes `repository` and `configure_args`.",
        )
    return config


def parse_list(text: str, parse: Callable[[str], T], option: str) -> tuple[T, ...]:
    """Return the parsed values of a comma-separated list.

    Raises UsageError for an empty value, and whatever `parse` raises.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(
            f"{option} {text!r} has an empty value.", remedy="Separate values with single commas: A,B,C"
        )
    return tuple(map(parse, words))
