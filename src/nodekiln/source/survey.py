"""Compares a working tree with all it may hold: finds what is missing, what goes, what was edited by hand.

Reads the tree and writes nothing into it.
"""

from __future__ import annotations

import json
import shutil
import stat
import tomllib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Self

from nodekiln.core.edit import Edit, Plan, blob_id
from nodekiln.core.errors import SourceError
from nodekiln.core.files import atomic_write
from nodekiln.source.checkout import LINK, Checkout, Entry

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """git's ids of one file that a plan changes: `before` is None where the plan adds it."""

    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The files of a commit with a plan applied to them, by path."""

    commit: str
    applied: Mapping[str, Applied]

    @classmethod
    def of(cls, commit: str, plan: Plan) -> Self:
        """The layer that `plan` makes of `commit`."""
        return cls(commit, {edit.path: Applied(edit.base_id, edit.after_id) for edit in plan.edits})


@dataclass(frozen=True, slots=True)
class Record:
    """`current` was completed last (None: nothing yet); parts of those `begun` since may be there too."""

    current: Layer | None = None
    begun: tuple[Layer, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Everything whose files may be found in the tree."""
        return self.begun if self.current is None else (self.current, *self.begun)

    def beginning(self, target: Layer) -> Record:
        """The record to keep while `target` is written."""
        return self if target in self.begun else Record(self.current, (*self.begun, target))

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads a record; one that is missing or unreadable is empty, so that every file is compared anew.

        Raises SourceError for the record of a later version, OSError where the file can't be read.
        """
        try:
            told = json.loads(file.read_bytes())
            if told["schema"] > _SCHEMA:
                raise SourceError(
                    f"The working tree {file.parent} was made by a later version of nodekiln.",
                    remedy="Use that version, or delete the folder.",
                )
            current = None if told["current"] is None else _parse(told["current"])
            return cls(current, tuple(_parse(layer) for layer in told["begun"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def save(self, file: Path) -> None:
        """Writes the record; raises OSError."""
        told = {
            "schema": _SCHEMA,
            "current": None if self.current is None else _told(self.current),
            "begun": [_told(layer) for layer in self.begun],
        }
        atomic_write(file, (json.dumps(told, indent=1) + "\n").encode("ascii"))


def _told(layer: Layer) -> dict[str, Any]:
    applied = {path: {"before": ids.before, "after": ids.after} for path, ids in layer.applied.items()}
    return {"commit": layer.commit, "applied": applied}


def _parse(told: dict[str, Any]) -> Layer:
    applied = {path: Applied(ids["before"], ids["after"]) for path, ids in told["applied"].items()}
    return Layer(told["commit"], applied)


_FACTS = tomllib.loads(Path(__file__).with_name("untracked.toml").read_text())

MADE: tuple[str, ...] = tuple(_FACTS["made"])
"""Patterns, as in a .gitignore, of what builds leave in a tree."""
_FOLDERS: tuple[str, ...] = tuple(_FACTS["folders"])
_TOP: tuple[str, ...] = tuple(_FACTS["top"])


def is_built_from(path: str) -> bool:
    """Whether configure or the build looks at a file of this path ("lib/handmade.js")."""
    if "/" in path:
        return path.startswith(_FOLDERS)
    return any(fnmatchcase(path, pattern) for pattern in _TOP)


@dataclass(frozen=True, slots=True)
class Survey:
    """How the files on disk compare with a target."""

    differing: frozenset[str]
    """Paths of the target's commit whose file is missing or other than the commit's."""
    leaving: frozenset[str]
    """Paths that are there and belong to a former layer only."""
    by_hand: tuple[str, ...]
    """Paths of the layers that hold (or lack) what no layer explains."""
    added: frozenset[str]
    """Paths of files that no layer has, where configure and the build would take them in."""


class Surveyor:
    """Looks at the files under `source`; `scratch` is a folder beside it for files to compare with.

    Its methods raise OSError and GitError where the disk or git fails.
    """

    def __init__(self, source: Path, scratch: Path, checkout: Checkout) -> None:
        self._source, self._scratch, self._checkout = source, scratch, checkout

    def survey(self, record: Record, target: Layer) -> Survey:
        """Compares every file with the layers of the record and with the target, where the index is left.

        While a layer is begun, a file that is missing or cut short comes from a kill, not from a hand.
        Raises SourceError for a git repository inside the tree.
        """
        layers = (*record.layers, target)
        settled = None if record.begun else record.current
        begun = {layer.commit for layer in record.begun}
        former, known, differing, tracked = set[str](), set[str](), set[str](), set[str]()
        held = set[str]() if settled is None else set(settled.applied)
        suspects = {path for layer in layers for path in layer.applied}
        commits = dict.fromkeys(layer.commit for layer in record.layers if layer.commit != target.commit)
        for commit in (*commits, target.commit):
            self._checkout.point_at(commit)
            tracked, differing = self._checkout.tracked(), self._checkout.differing()
            same, cut = self.compare(path for path in differing - known if not self._explained(layers, path))
            differing -= same
            known |= tracked - differing
            known |= cut if commit in begun else set()
            held |= tracked if settled is not None and settled.commit == commit else set()
            former |= tracked
            suspects |= differing
        former.update(path for layer in record.layers for path in layer.applied)
        gone = {path: self.mode(path) for path in former - tracked - target.applied.keys()}
        return Survey(
            differing=frozenset(differing),
            leaving=frozenset(path for path, mode in gone.items() if mode and not stat.S_ISDIR(mode)),
            by_hand=tuple(path for path in sorted(suspects - known) if self._is_edit(layers, held, path)),
            added=frozenset(self._added() - former - target.applied.keys()),
        )

    def compare(self, paths: Iterable[str]) -> tuple[set[str], set[str]]:
        """Which files are just what git writes for the index, and which hold a beginning of that.

        git takes some of the former for changed: files with line ends that the tree's attributes disown.
        """
        files = [path for path in paths if stat.S_ISREG(self.mode(path))]
        same, cut = set[str](), set[str]()
        if not files:
            return same, cut
        self._checkout.export(files, self._scratch)
        for path in files:
            exported = self._scratch / path
            if exported.is_symlink():
                continue
            whole, found = exported.read_bytes(), (self._source / path).read_bytes()
            same_mode = not (exported.lstat().st_mode ^ self.mode(path)) & stat.S_IXUSR
            if found == whole and same_mode:
                same.add(path)
            elif whole.startswith(found):
                cut.add(path)
        shutil.rmtree(self._scratch)
        return same, cut

    def holds(self, edit: Edit, entries: Mapping[str, Entry]) -> bool:
        """Whether the file is as the edit leaves it, with the mode of the commit."""
        mode = self.mode(edit.path)
        executable = edit.path in entries and entries[edit.path].executable
        if not stat.S_ISREG(mode) or bool(mode & stat.S_IXUSR) != executable:
            return False
        return (self._source / edit.path).read_bytes() == edit.after

    def check_way(self, paths: Collection[str], leaving: frozenset[str]) -> None:
        """Raises SourceError where a link, folder or file that stays is in the way of writing `paths`."""
        for folder in sorted({parent for path in paths for parent in parents(path)} - leaving):
            mode = self.mode(folder)
            if stat.S_ISLNK(mode):
                raise self.link_in_way(folder)
            if mode and not stat.S_ISDIR(mode):
                raise self._in_way(folder, "a file where a folder belongs")
        for path in paths:
            if stat.S_ISDIR(self.mode(path)):
                inside = (self._source / path).rglob("*")
                files = (file for file in inside if file.is_symlink() or not file.is_dir())
                if any(file.relative_to(self._source).as_posix() not in leaving for file in files):
                    raise self._in_way(path, "a folder where a file belongs")

    def check_entries(self, paths: Iterable[str], entries: Mapping[str, Entry]) -> None:
        """Raises SourceError where one of `paths`, or a folder above it, is a symbolic link in the commit."""
        for path in paths:
            for place in (*reversed(parents(path)), path):
                if place in entries and entries[place].mode == LINK:
                    raise self.link_in_way(place)

    def mode(self, path: str) -> int:
        """st_mode of what is at `path`, 0 for nothing; nothing lies behind a symbolic link."""
        with suppress(FileNotFoundError, NotADirectoryError):
            for parent in reversed(parents(path)):
                if not stat.S_ISDIR((self._source / parent).lstat().st_mode):
                    return 0
            return (self._source / path).lstat().st_mode
        return 0

    def link_in_way(self, path: str) -> SourceError:
        """The error for a symbolic link where a file is to be written."""
        return self._in_way(path, "a symbolic link, and nothing is written through one")

    def _added(self) -> set[str]:
        added = {path for path in self._checkout.untracked(MADE) if is_built_from(path)}
        for path in sorted(added):
            if path.endswith("/"):  # somebody's work with its history: nothing that we would throw away
                raise self._in_way(path.rstrip("/"), "a git repository of its own")
        return added

    def _is_edit(self, layers: Iterable[Layer], held: Collection[str], path: str) -> bool:
        mode = self.mode(path)
        if not mode or stat.S_ISDIR(mode):  # what lies in a folder was looked at file by file
            return path in held
        return not self._explained(layers, path)

    def _explained(self, layers: Iterable[Layer], path: str) -> bool:
        """Whether the plan of one of the layers made what is there."""
        ids = {layer.applied[path].after for layer in layers if path in layer.applied}
        if not ids or not stat.S_ISREG(self.mode(path)):
            return False
        return blob_id((self._source / path).read_bytes()) in ids

    def _in_way(self, path: str, what: str) -> SourceError:
        return SourceError(
            f"{shown(path)} in {self._source} is {what}.", remedy="Move it out of the tree and run again."
        )


def parents(path: str) -> list[str]:
    """The folders above `path`, the nearest first."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def shown(path: str) -> str:
    """`path` as it can be printed."""
    return path if path.isprintable() else ascii(path)
