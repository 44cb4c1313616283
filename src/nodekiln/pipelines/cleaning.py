"""Find and remove what can go under build/. The mirror stays: fetching it again costs most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nodekiln.binaries.store import FORMER, Store, delete, disk_usage
from nodekiln.core.recipe import Tag, is_name
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.tree import WorkingTree

_LEFT_BEHIND = (".staging-", ".downloads")
"""By grafts that were killed while they got a release."""


@dataclass(frozen=True, slots=True)
class Removable:
    """A folder that can be removed, and the bytes that frees."""

    folder: Path
    size: int


def find(workspace: Workspace, tag: Tag | None, *, binaries: bool) -> tuple[Removable, ...]:
    """Return working trees and, with `binaries`, binaries and releases, of a tag or of all, without locking.

    With all go the inputs of comparisons, which are generated again (reports stay), and what grafts that were
    killed left of downloads. What killed runs left of binaries goes in any case: it is unknown of which
    tag it is. Nothing that is not ours is named, nor the folder that a process makes a binary in.
    """
    counted: set[tuple[int, int]] = set()  # what two folders share is freed once
    return tuple(
        Removable(folder, disk_usage(folder, counted))
        for folder in _folders(workspace, tag, binaries=binaries)
        if folder.is_dir() and not folder.is_symlink()
    )


def _folders(workspace: Workspace, tag: Tag | None, *, binaries: bool) -> Iterator[Path]:
    for place in (workspace.trees, *((workspace.binaries, workspace.releases) if binaries else ())):
        yield from (
            folder
            for folder in sorted(place.glob("*"))
            if _belongs(folder.name.removeprefix(FORMER), tag)
            or (place == workspace.releases and tag is None and folder.name.startswith(_LEFT_BEHIND))
        )
    if binaries:
        yield from Store(workspace).leftovers()
    if tag is None:
        yield workspace.inputs


def _belongs(name: str, tag: Tag | None) -> bool:
    if tag is None:
        return is_name(name)
    return name == str(tag) or name.startswith(f"{tag}-")


def remove(workspace: Workspace, found: Sequence[Removable], reporter: Reporter) -> None:
    """Remove those that still exist, each under the lock of the commands that may use it.

    A build that runs in a tree is waited for; so are a comparison, which runs binaries and reads inputs, and
    a graft that gets a release.
    """
    folders = [item.folder for item in found]
    trees = [folder for folder in folders if folder.parent == workspace.trees]
    for folder in trees:
        with workspace.lock(f"tree-{folder.name}", "removing it", reporter.say):
            WorkingTree(workspace, folder.name).remove()
    others = [folder for folder in folders if folder not in trees]
    if not others:
        return
    with ExitStack() as held:
        taken: list[str] = []
        # In the order in which a comparison takes them; grafts may begin while we wait.
        while new := [
            name for name in ("experiments", *_release_locks(workspace, others)) if name not in taken
        ]:
            held.enter_context(workspace.lock(new[0], "cleaning up", reporter.say))
            taken.append(new[0])
        for folder in others:
            if folder.parent == workspace.binaries:
                _remove_binary(Store(workspace), folder.name)
            else:
                delete(folder)


def _release_locks(workspace: Workspace, folders: Sequence[Path]) -> list[str]:
    """Return the locks of grafts that use these releases, or of all grafts if that is unknown."""
    names = [folder.name for folder in folders if folder.parent == workspace.releases]
    locks = sorted(path.stem for path in workspace.locks.glob("release-*.lock"))
    return [
        lock for lock in locks if any(name.startswith((".", lock.removeprefix("release-"))) for name in names)
    ]


def _remove_binary(store: Store, name: str) -> None:
    if is_name(name.removeprefix(FORMER)):
        store.remove(name.removeprefix(FORMER))
    else:
        store.sweep()
