"""Compares a working tree with all it may hold: finds what is missing, what goes, what was edited by hand.

Reads the tree and writes nothing into it.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nodekiln.core.edit import Edit, blob_id
from nodekiln.core.errors import SourceError
from nodekiln.source.checkout import LINK, Checkout, Entry
from nodekiln.source.treerecord import Layer, Record
from nodekiln.source.untracked import MADE, is_built_from


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
