"""Settings of a run, read once at the edge, and the layout and locks of the build folder."""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import filelock

from nodekiln.core.errors import ToolchainError, UsageError
from nodekiln.core.files import atomic_write, read_json
from nodekiln.core.ownership import is_ours, owner_of, untrusted
from nodekiln.core.process import child_environment
from nodekiln.core.recipe import check_arguments, parse_argument_lines

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The build folder; its folders are created when first used."""

    root: Path

    @property
    def mirror(self) -> Path:
        """The bare git repository for everything fetched or imported."""
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
        """Downloaded official binaries."""
        return self.root / "releases"

    @property
    def timings(self) -> Path:
        """Build times by recipe, and the times of all steps."""
        return self.root / "timings"

    @property
    def experiments(self) -> Path:
        """A folder for each comparison."""
        return self.root / "experiments"

    @property
    def inputs(self) -> Path:
        """Inputs of comparisons, generated or repeated, kept for the next one."""
        return self.experiments / "inputs"

    @property
    def locks(self) -> Path:
        """Lock files, outside the folders they protect so that those can be removed."""
        return self.root / "locks"

    @property
    def _folders(self) -> tuple[Path, ...]:
        folders = (self.root, self.mirror, self.trees, self.binaries, self.releases, self.timings)
        return (*folders, self.experiments, self.inputs, self.locks)

    def check_owner(self, sudo_uid: str = "") -> None:
        """Raise ToolchainError if somebody else could put files into the build folder or lead us out of it.

        `sudo_uid` is the variable of that name, "" if it is not set.

        What is in there is run and obeyed: binaries, git's configuration, the scripts of working trees. The
        folder itself may be a link, or be like /tmp, where others may add files but not replace ours; the
        folders in it may not.
        """
        for folder in self._folders:
            try:
                found = folder.stat() if folder == self.root else folder.lstat()
            except OSError:  # it does not exist yet, or the step that needs it reports why
                continue
            if (reason := untrusted(found, sudo_uid, allow_sticky=folder == self.root)) is not None:
                raise ToolchainError(
                    f"{folder} {reason}, so its content can't be trusted.",
                    remedy="Make it yours alone (chown, chmod go-w), or name another with NODEKILN_BUILD.",
                )

    def prepare(self) -> None:
        """Create the build folder; raises ToolchainError if it can't be written."""
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None
        for folder in self._folders:
            if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK) and not is_ours(folder):
                raise self._unwritable(PermissionError(errno.EACCES, "permission denied", str(folder)))

    @contextmanager
    def lock(self, name: str, purpose: str, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock `name`; if another run holds it, report which, and wait.

        Raises ToolchainError if the build folder can't be written.
        """
        self.prepare()
        holder = self.locks / f"{name}.holder.json"
        lock = filelock.FileLock(self.locks / f"{name}.lock")
        if not self._acquire(lock, timeout=0):
            say(f"waiting for {_describe(holder)}, which holds lock {name}")
            self._acquire(lock)
        try:
            with suppress(OSError):  # `clean` must work on a full disk
                atomic_write(holder, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode())
            yield
        finally:
            with suppress(OSError):
                holder.unlink()
            lock.release()

    @contextmanager
    def moment(self, name: str) -> Iterator[None]:
        """Hold the lock `name` for a moment: waits without a message."""
        self.prepare()
        lock = filelock.FileLock(self.locks / f"{name}.lock")
        self._acquire(lock)
        try:
            yield
        finally:
            lock.release()

    def _acquire(self, lock: filelock.BaseFileLock, *, timeout: float = -1) -> bool:
        """Return False if another run still holds it after `timeout` seconds (-1: no limit)."""
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise self._unwritable(error) from None
        return True

    def _unwritable(self, error: OSError) -> ToolchainError:
        what = f"The build folder {self.root} can't be written"
        place = Path(error.filename)
        place = next((folder for folder in (place, *place.parents) if os.path.lexists(folder)), self.root)
        if isinstance(error, PermissionError) and not is_ours(place):
            return ToolchainError(
                f"{what}: {place} belongs to {owner_of(place)}, as after a run as that user.",
                remedy=f"sudo chown -R {os.geteuid()}:{os.getegid()} {shlex.quote(str(self.root))}",
            )
        return ToolchainError(
            f"{what}: {error.strerror} ({error.filename}).",
            remedy="Make it writable, or set NODEKILN_BUILD to another folder.",
        )


def _describe(holder: Path) -> str:
    try:
        owner = read_json(holder)
        return f"process {owner['pid']} ({owner['purpose']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one run."""

    workspace: Workspace
    repository: str | None
    """From NODEKILN_REPOSITORY, otherwise from invoke.yaml; None means the official one."""
    configure_args: tuple[str, ...]
    """From invoke.yaml, followed by those of the file in NODEKILN_CONFIGURE_FILE."""
    patches: Path
    """The folder of the built-in changes."""
    more_patches: Path | None = None
    """Another folder of changes, from NODEKILN_PATCHES."""
    change_folders: tuple[Path, ...] = ()
    """Folders of single changes, from --change PATH."""
    environment: Mapping[str, str]
    """For child processes."""
    cwd: Path
    """The folder that the user's relative paths refer to."""

    @property
    def patch_folders(self) -> tuple[Path, ...]:
        """The folders whose sub-folders are changes, the built-in ones first."""
        return (self.patches,) if self.more_patches is None else (self.patches, self.more_patches)

    @classmethod
    def read(
        cls,
        *,
        environ: Mapping[str, str],
        config: object,
        root: Path,
        cwd: Path,
        venv: Path | None,
        patches: Path | None = None,
    ) -> Settings:
        """Return the settings; `config` is the section `nodekiln` of invoke.yaml.

        Raises UsageError for an invalid value.
        """
        section = _section(config)
        args = check_arguments(section.get("configure_args", []), "invoke.yaml, configure_args")
        if named := environ.get("NODEKILN_CONFIGURE_FILE"):
            args += read_configure_file(cwd / named, "NODEKILN_CONFIGURE_FILE")
        repository = environ.get("NODEKILN_REPOSITORY") or section.get("repository")
        if repository is not None and not isinstance(repository, str):
            raise UsageError(f"Invalid repository in invoke.yaml: {repository!r} is not a string.")
        build = environ.get("NODEKILN_BUILD")
        return cls(
            workspace=Workspace(cwd / build if build else root / "build"),
            repository=repository,
            configure_args=args,
            patches=patches or root / "patches",
            more_patches=cwd / more if (more := environ.get("NODEKILN_PATCHES")) else None,
            environment=child_environment(environ, venv=venv),
            cwd=cwd,
        )


def read_configure_file(path: Path, origin: str) -> tuple[str, ...]:
    """Return the configure arguments in a file, one per line; raises UsageError if it can't be read."""
    try:
        return parse_argument_lines(path.read_text(), f"{origin} ({path})")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"{origin}: reading {path} failed: {reason}.") from None


def _section(config: object) -> Mapping[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise UsageError("Invalid invoke.yaml: `nodekiln` must be a mapping.")
    unknown = set(config) - {"repository", "configure_args"}
    if unknown:
        raise UsageError(
            f"Unknown settings in invoke.yaml: {', '.join(sorted(map(str, unknown)))}.",
            remedy="Use `repository` and `configure_args`.",
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
