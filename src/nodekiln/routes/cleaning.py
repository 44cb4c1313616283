"""What can be removed under build/, and its removal. The mirror stays: fetching it again costs most."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nodekiln.binaries.store import Store
from nodekiln.recipe import Tag, is_name
from nodekiln.reporting import Reporter
from nodekiln.source.tree import WorkingTree
from nodekiln.workspace import Workspace

_LEFT_BEHIND = (".staging-", ".former-", ".downloads")


@dataclass(frozen=True, slots=True)
class Removable:
    """A folder that can go, and how many bytes that frees."""

    folder: Path
    size: int


def find(workspace: Workspace, tag: Tag | None, *, binaries: bool) -> tuple[Removable, ...]:
    """Working trees and, with `binaries`, binaries and releases, of a tag or of all.

    With all go the inputs of comparisons, which are generated again (reports stay), and what killed runs left
    (their names start with a dot). Nothing that is not ours is named.
    """
    places = [workspace.trees, *([workspace.binaries, workspace.releases] if binaries else [])]
    folders = (folder for place in places if place.is_dir() for folder in sorted(place.iterdir()))
    ours = [folder for folder in folders if _belongs(folder.name, tag)]
    ours += [workspace.inputs] if tag is None else []
    return tuple(
        Removable(folder, _size(folder)) for folder in ours if folder.is_dir() and not folder.is_symlink()
    )


def remove(workspace: Workspace, found: tuple[Removable, ...], reporter: Reporter) -> None:
    """Removes them, each tree under its lock: a build that runs in one is waited for."""
    store = Store(workspace.binaries)
    for item in found:
        name = item.folder.name
        if item.folder.parent == workspace.trees:
            with workspace.lock(f"tree-{name}", "removing it", reporter.say):
                WorkingTree(workspace, name).remove()
        elif item.folder == workspace.inputs:
            with workspace.lock("experiments", "removing their inputs", reporter.say):
                shutil.rmtree(item.folder)
        elif item.folder.parent == workspace.binaries and is_name(name):
            store.remove(name)
        else:
            shutil.rmtree(item.folder)


def _belongs(name: str, tag: Tag | None) -> bool:
    if tag is None:
        return is_name(name) or name.startswith(_LEFT_BEHIND)
    return name == str(tag) or name.startswith(f"{tag}-")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
