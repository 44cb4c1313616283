"""Compare a working tree with its recorded layers: find missing, obsolete and manually edited files.

Reads the tree; writes only its record, state.json beside it.
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
from nodekiln.core.files import atomic_write, read_json
from nodekiln.source.checkout import LINK, Checkout, Entry

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """git's ids of one file that a plan changes; `before` is None if the plan adds it."""

    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Layer:
    """The files of a commit with a plan applied to them, by path."""

    commit: str
    applied: Mapping[str, Applied]

    @classmethod
    def of(cls, commit: str, plan: Plan) -> Self:
        """Return the layer for `commit` with `plan` applied."""
        return cls(commit, {edit.path: Applied(edit.base_id, edit.after_id) for edit in plan.edits})


@dataclass(frozen=True, slots=True)
class Record:
    """The state of a tree: `current` was completed last, `begun` layers may be partly written."""

    current: Layer | None = None
    begun: tuple[Layer, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers whose files may be in the tree."""
        return self.begun if self.current is None else (self.current, *self.begun)

    def beginning(self, target: Layer) -> Record:
        """Return the record to save while `target` is written."""
        return self if target in self.begun else Record(self.current, (*self.begun, target))

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a record; a missing or damaged one is empty, so that every file is compared again.

        Raises SourceError for the record of a later version, OSError if the file can't be read.
        """
        try:
            data = read_json(file)
            if data["schema"] > _SCHEMA:
                raise SourceError(
                    f"The working tree {file.parent} was created by a later version of nodekiln.",
                    remedy="Use that version, or delete the folder.",
                )
            current = None if data["current"] is None else _parse(data["current"])
            return cls(current, tuple(_parse(layer) for layer in data["begun"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def save(self, file: Path) -> None:
        """Write the record; raise OSError."""
        data = {
            "schema": _SCHEMA,
            "current": None if self.current is None else _layer_data(self.current),
            "begun": [_layer_data(layer) for layer in self.begun],
        }
        atomic_write(file, (json.dumps(data, indent=1) + "\n").encode("ascii"))


def _layer_data(layer: Layer) -> dict[str, Any]:
    applied = {path: {"before": ids.before, "after": ids.after} for path, ids in layer.applied.items()}
    return {"commit": layer.commit, "applied": applied}


def _parse(data: dict[str, Any]) -> Layer:
    applied = {path: Applied(ids["before"], ids["after"]) for path, ids in data["applied"].items()}
    return Layer(data["commit"], applied)


_FACTS = tomllib.loads(Path(__file__).with_name("untracked.toml").read_text())

BUILD_OUTPUTS: tuple[str, ...] = tuple(_FACTS["outputs"])
"""Patterns, as in a .gitignore, of build outputs in a tree."""
_FOLDERS: tuple[str, ...] = tuple(_FACTS["folders"])
_TOP: tuple[str, ...] = tuple(_FACTS["top"])


def is_built_from(path: str) -> bool:
    """Return True if configure or the build would use a file of this path ("lib/handmade.js")."""
    if "/" in path:
        return path.startswith(_FOLDERS)
    return any(fnmatchcase(path, pattern) for pattern in _TOP)


@dataclass(frozen=True, slots=True)
class Survey:
    """The differences between the files on disk and a target layer."""

    differing: frozenset[str]
    """Paths of the target's commit whose file is missing or differs from the commit."""
    leaving: frozenset[str]
    """Existing paths that belong only to a former layer."""
    by_hand: tuple[str, ...]
    """Paths of the layers whose content (or absence) no layer explains."""
    added: frozenset[str]
    """Paths of files that belong to no layer and that configure or the build would use."""


class Surveyor:
    """Compare the files under `source`; `scratch` is a folder for exported files.

    Its methods raise OSError and GitError if the file system or git fails.
    """

    def __init__(self, source: Path, scratch: Path, checkout: Checkout) -> None:
        self._source, self._scratch, self._checkout = source, scratch, checkout

    def survey(self, record: Record, target: Layer) -> Survey:
        """Compare every file with the layers of the record and with the target; leave the index at the
        target.

        While a layer is begun, a missing or truncated file comes from a killed run, not from the user. Raises
        SourceError for a git repository inside the tree.
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
        """Return the files that are exactly as git writes them, and those that are a prefix of that.

        git reports some of the former as changed: files whose line endings the tree's attributes would
        convert.
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
        """Return True if the file has the bytes of the edit and the mode of the commit."""
        mode = self.mode(edit.path)
        executable = edit.path in entries and entries[edit.path].executable
        if not stat.S_ISREG(mode) or bool(mode & stat.S_IXUSR) != executable:
            return False
        return (self._source / edit.path).read_bytes() == edit.after

    def check_obstructions(self, paths: Collection[str], leaving: frozenset[str]) -> None:
        """Raise SourceError if a link, folder or file that stays prevents writing `paths`."""
        for folder in sorted({parent for path in paths for parent in parents(path)} - leaving):
            mode = self.mode(folder)
            if stat.S_ISLNK(mode):
                raise self._link_error(folder)
            if mode and not stat.S_ISDIR(mode):
                raise self._obstruction(folder, "a file where a folder belongs")
        for path in paths:
            if stat.S_ISDIR(self.mode(path)):
                inside = (self._source / path).rglob("*")
                files = (file for file in inside if file.is_symlink() or not file.is_dir())
                if any(file.relative_to(self._source).as_posix() not in leaving for file in files):
                    raise self._obstruction(path, "a folder where a file belongs")

    def check_entries(self, paths: Iterable[str], entries: Mapping[str, Entry]) -> None:
        """Raise SourceError if one of `paths`, or a folder above it, is a symbolic link in the commit."""
        for path in paths:
            for place in (*reversed(parents(path)), path):
                if place in entries and entries[place].mode == LINK:
                    raise self._link_error(place)

    def mode(self, path: str) -> int:
        """Return st_mode of `path`, 0 if it does not exist; symbolic links are not followed."""
        with suppress(FileNotFoundError, NotADirectoryError):
            for parent in reversed(parents(path)):
                if not stat.S_ISDIR((self._source / parent).lstat().st_mode):
                    return 0
            return (self._source / path).lstat().st_mode
        return 0

    def _link_error(self, path: str) -> SourceError:
        return self._obstruction(path, "a symbolic link, which is not followed")

    def _added(self) -> set[str]:
        added = {path for path in self._checkout.untracked(BUILD_OUTPUTS) if is_built_from(path)}
        for path in sorted(added):
            if path.endswith("/"):  # the user's work with its history: never delete it
                raise self._obstruction(path.rstrip("/"), "a git repository of its own")
        return added

    def _is_edit(self, layers: Iterable[Layer], held: Collection[str], path: str) -> bool:
        mode = self.mode(path)
        if not mode or stat.S_ISDIR(mode):  # files in a folder are compared one by one
            return path in held
        return not self._explained(layers, path)

    def _explained(self, layers: Iterable[Layer], path: str) -> bool:
        """Return True if the file is what the plan of one of the layers wrote."""
        ids = {layer.applied[path].after for layer in layers if path in layer.applied}
        if not ids or not stat.S_ISREG(self.mode(path)):
            return False
        return blob_id((self._source / path).read_bytes()) in ids

    def _obstruction(self, path: str, what: str) -> SourceError:
        return SourceError(
            f"{printable(path)} in {self._source} is {what}.", remedy="Move it out of the tree and run again."
        )


def parents(path: str) -> list[str]:
    """Return the folders above `path`, the nearest first."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def printable(path: str) -> str:
    """Return `path` with unprintable characters escaped."""
    return path if path.isprintable() else ascii(path)
