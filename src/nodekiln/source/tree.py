"""Keep a working tree: a folder with exactly the files of a commit with a plan applied.

Everything is computed and checked before the first write. Build outputs beside the files are ignored; files
added by hand where a build would use them are not (untracked.toml). The caller holds the tree's lock and has
fetched the blobs of the commit.
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from nodekiln.core.edit import Edit, Plan
from nodekiln.core.errors import SourceError
from nodekiln.core.files import disk_full_error, is_disk_full
from nodekiln.core.platform import free_disk
from nodekiln.core.reporting import Meter, escape_unprintable, format_size
from nodekiln.core.settings import Workspace
from nodekiln.source.checkout import FOLDER, Checkout, Entry
from nodekiln.source.git_errors import damaged, is_damage
from nodekiln.source.git_runner import GitError
from nodekiln.source.survey import Applied, Layer, Record, Survey, Surveyor, parents, printable

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_INDEX = 8 << 20
"""Bytes that git needs beside the files: an index of 50,000 paths, twice while it is replaced."""
_MAX_LISTED = 10
"""Paths that an error names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths `written` by the plan, `restored` to the commit's state and `removed` from the tree.

    `checked_out` is the number of files written because the tree had another commit before.
    """

    written: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    checked_out: int = 0


@dataclass(frozen=True, slots=True)
class HandEdits:
    """What was changed by hand in a tree: contents by path, None for a deleted file.

    `applied` has git's ids of the files that a plan had changed before: base (None: added) and result.
    """

    commit: str
    contents: Mapping[str, bytes | None]
    applied: Mapping[str, Applied]


class WorkingTree:
    """The tree `name` of a workspace: `source/`, git's `index` for it, and `state.json`."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.folder = workspace.trees / name
        self.source = self.folder / "source"
        self._staging = self.folder / "staging"
        self._state = self.folder / "state.json"
        self._mirror = workspace.mirror
        self._checkout = Checkout(workspace.mirror, self.folder / "index", self.source)
        self._surveyor = Surveyor(self.source, self._staging, self._checkout)

    def disk_needed(self, commit: str) -> int:
        """Return the bytes that the files of `commit` take on disk, in blocks of 4 KiB.

        Raises SourceError if the mirror lacks the commit.
        """
        with self._source_errors(commit):
            return sum(self._checkout.disk_needed(commit).values())

    def bring_to(
        self, commit: str, plan: Plan, *, discard_edits: bool = False, meter: Meter | None = None
    ) -> Changes:
        """Make `source` contain exactly the files of `commit` (a full id) with `plan` applied.

        Files that already have the right bytes keep their times. Raises SourceError, before anything is
        written, for edits made by hand (unless `discard_edits`, which also deletes added files) and for
        symbolic links in paths to write; also if git or the disk fails, in which case the next call completes
        the work. Raises ValueError for a plan that is not for this commit.
        """
        if not _COMMIT.fullmatch(commit):
            raise ValueError(f"{commit!r} is not a full commit id")
        for edit in plan.edits:
            _check_path(edit.path)
        with self._source_errors(commit):
            entries = self._check_bases(commit, plan)
            record = self._prepare()
            try:
                return self._bring(record, commit, plan, entries, discard_edits, meter)
            finally:
                shutil.rmtree(self._staging, ignore_errors=True)

    def hand_edits(self) -> HandEdits:
        """Return what was changed by hand since the tree was last completed.

        Raises SourceError if there is no complete tree, or for an edited symbolic link.
        """
        record = Record.load(self._state)
        if record.current is None or record.begun or not self.source.is_dir():
            raise SourceError(
                f"There is no complete working tree in {self.folder}.",
                remedy=f"Make it first: ./inv build {self.folder.name}",
            )
        with self._source_errors(record.current.commit):
            survey = self._surveyor.survey(record, record.current)
            paths = sorted({*survey.by_hand, *survey.added})
            contents = {path: self._content(path) for path in paths}
        return HandEdits(record.current.commit, contents, record.current.applied)

    def _content(self, path: str) -> bytes | None:
        mode = self._surveyor.mode(path)
        if mode and not stat.S_ISREG(mode):
            raise SourceError(f"{printable(path)} in {self.source} is a link or a folder, not a file.")
        return (self.source / path).read_bytes() if mode else None

    def remove(self) -> None:
        """Delete the whole folder. Raises SourceError if that fails."""
        try:
            if self.source.exists():  # in one step: half a tree looks like files deleted by hand
                self._clear_staging()
                self.source.rename(self._staging)
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise SourceError(
                f"Deleting the working tree {self.folder} failed: {error.strerror} ({error.filename}).",
                remedy="Make the folder writable and run again.",
            ) from None

    def _bring(
        self,
        record: Record,
        commit: str,
        plan: Plan,
        entries: Mapping[str, Entry],
        discard_edits: bool,
        meter: Meter | None,
    ) -> Changes:
        target = Layer.of(commit, plan)
        survey = self._surveyor.survey(record, target)
        writes = [edit for edit in plan.edits if not self._surveyor.holds(edit, entries)]
        checkouts = sorted(survey.differing - target.applied.keys())
        leaving = sorted(survey.leaving | survey.added)
        self._surveyor.check_obstructions([*checkouts, *(edit.path for edit in writes)], survey.leaving)
        if (survey.by_hand or survey.added) and not discard_edits:
            raise self._edited(survey)
        self._stage(writes)

        if writes or checkouts or leaving:
            record.beginning(target).save(self._state)
        for path in leaving:
            self._delete(path)
        if checkouts:
            self._checkout.write(checkouts, meter)
            self._check_written(commit, target)
        for edit in writes:
            place = self.source / edit.path
            place.parent.mkdir(parents=True, exist_ok=True)
            (self._staging / edit.path).replace(place)
        if writes or checkouts or leaving or record != Record(target):
            Record(target).save(self._state)

        held = record.current is not None and record.current.commit == commit
        return Changes(
            written=tuple(edit.path for edit in writes),
            restored=tuple(checkouts) if held else (),
            removed=tuple(leaving),
            checked_out=0 if held else len(checkouts),
        )

    def _check_bases(self, commit: str, plan: Plan) -> Mapping[str, Entry]:
        above = {parent for edit in plan.edits for parent in parents(edit.path)}
        entries = self._checkout.entries(commit, {edit.path for edit in plan.edits} | above)
        self._surveyor.check_entries((edit.path for edit in plan.edits), entries)
        for edit in plan.edits:
            entry = entries.get(edit.path)
            if (None if entry is None else entry.id) != edit.base_id:
                raise ValueError(f"{edit.path}: the plan starts from other bytes than {commit} has")
        for folder in above & entries.keys():
            if entries[folder].mode != FOLDER:
                raise ValueError(f"{folder}: the plan adds a file below a file of {commit}")
        return entries

    def _prepare(self) -> Record:
        # A user who deleted the whole folder wants it back, not a list of 15,000 deleted files.
        fresh = not self.source.exists()
        self.source.mkdir(parents=True, exist_ok=True)
        self._clear_staging()
        self._checkout.release()
        return Record() if fresh else Record.load(self._state)

    def _stage(self, writes: list[Edit]) -> None:
        """Write the plan's files to the staging directory, with the mode that git gives them."""
        self._checkout.export([edit.path for edit in writes if edit.base is not None], self._staging)
        for edit in writes:
            place = self._staging / edit.path
            if edit.base is not None and place.read_bytes() != edit.base:
                raise SourceError(
                    f"Editing {printable(edit.path)} failed: the tree's .gitattributes make git write it with"
                    " other line endings than it is stored with.",
                    remedy="Leave this file out of the patches.",
                )
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(edit.after)

    def _check_written(self, commit: str, target: Layer) -> None:
        left = self._checkout.differing() - target.applied.keys()
        left -= self._surveyor.compare(left)[0]
        if left:
            paths = [printable(path) for path in sorted(left)]
            raise self._git_failed(commit, f"git did not write {_format_paths(paths)} as in the commit")

    def _delete(self, path: str) -> None:
        (self.source / path).unlink()
        for parent in parents(path):
            try:
                (self.source / parent).rmdir()
            except OSError:  # something is left in it
                break

    def _clear_staging(self) -> None:
        if self._staging.exists():
            shutil.rmtree(self._staging)

    @contextmanager
    def _source_errors(self, commit: str) -> Iterator[None]:
        """Convert errors of git and of the file system into SourceError."""
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise self._full(commit) from None
            raise self._failed(f"{error.strerror} ({error.filename})") from None
        except GitError as error:
            if is_damage(error, self._mirror):
                raise damaged(self._mirror, error) from None
            raise self._git_failed(commit, _first_line(error)) from None

    def _git_failed(self, commit: str, reason: str) -> SourceError:
        try:
            # git does not always report a full disk as the reason.
            full = self._missing(commit) + _INDEX > free_disk(self.folder)
        except GitError:
            full = False
        return self._full(commit) if full else self._failed(reason)

    def _missing(self, commit: str) -> int:
        """Return the bytes that the missing files of `commit` take on disk."""
        sizes = self._checkout.disk_needed(commit)
        return sum(size for path, size in sizes.items() if not self._surveyor.mode(path))

    def _full(self, commit: str) -> SourceError:
        return disk_full_error(
            self.folder,
            f"the working tree {self.folder} takes about {format_size(self._missing(commit))} more",
            remedy="Free some disk space and run the same command again: it resumes.",
        )

    def _failed(self, reason: str) -> SourceError:
        return SourceError(
            f"Creating the working tree {self.folder} failed: {reason}.",
            remedy="Fix that and run the same command again.",
        )

    def _edited(self, survey: Survey) -> SourceError:
        paths = [
            printable(path) + ("" if self._surveyor.mode(path) else " (deleted)") for path in survey.by_hand
        ]
        paths += [f"{printable(path)} (added)" for path in sorted(survey.added)]
        return SourceError(
            f"Files in {self.source} were changed by hand: {_format_paths(paths)}.",
            remedy="Copy what you want to keep elsewhere, then run again with --discard-edits, which discards"
            " the changes.",
        )


def _check_path(path: str) -> None:
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} is not a path inside a tree")


def _first_line(error: GitError) -> str:
    lines = (
        line for line in error.stderr.splitlines() if line and not line.startswith(("warning:", "hint:"))
    )
    reason = next(lines, f"git exited with code {error.status}")
    return escape_unprintable(reason.removeprefix("fatal: ").rstrip("."))


def _format_paths(paths: Collection[str]) -> str:
    more = len(paths) - _MAX_LISTED
    return ", ".join([*paths][:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
