"""Write the folder of a change: change.toml and patches, complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.changes.intake import Fitted
from nodekiln.changes.registry import FILE
from nodekiln.core.errors import UsageError
from nodekiln.core.files import staging_directory
from nodekiln.core.recipe import Tag, is_change_name


@dataclass(frozen=True, slots=True)
class Row:
    """A [[patch]] table to write."""

    file: str
    tags: str
    why: str
    slot: str = ""
    base: Tag | None = None


def check_new(folder: Path) -> None:
    """Raise UsageError unless a change can be made in `folder`."""
    if not is_change_name(folder.name):
        raise UsageError(
            f"{folder.name!r} can't be the name of a change.",
            remedy="Use words of a-z, 0-9 and _ joined by -, at most 40 characters, without words of"
            " binaries' names (graft, linux).",
        )
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            f"{folder} exists already.", remedy="Choose another name, or remove the folder first."
        )
    parent = next(above for above in folder.parents if above.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"{folder} can't be made: {parent} can't be written.")


def write_change(
    folder: Path, summary: str, why: str, tags: str, base: Tag, patches: Iterable[Fitted]
) -> None:
    """Write a new change by one rename; raise OSError if that fails."""
    patches = tuple(patches)
    rows = [Row(patch.name, tags, f"Made for {base}.", base=base) for patch in patches]
    head = {"name": folder.name, "summary": summary, "why": why, "tags": tags}
    text = "".join(f"{key} = {quote(value)}\n" for key, value in head.items())
    files = {patch.name: patch.content for patch in patches}
    publish(folder, {FILE: (text + "".join(map(render_row, rows))).encode(), **files})


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files by one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(folder.parent, f".{folder.name}.") as staging:
        for name, content in files.items():
            (staging / name).write_bytes(content)
        staging.rename(folder)


def replace_files(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Replace files of a folder (None: remove) so that an interrupt leaves the old folder or the new one."""
    with staging_directory(folder.parent, f".{folder.name}.") as staging:
        new, old = staging / "new", staging / "old"
        shutil.copytree(folder, new, symlinks=True)
        for name, content in files.items():
            if content is None:
                (new / name).unlink(missing_ok=True)
            else:
                (new / name).write_bytes(content)
        folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            old.rename(folder)
            raise


def render_row(row: Row) -> str:
    """Return a [[patch]] table as TOML."""
    fields = {
        "file": row.file,
        "slot": row.slot,
        "tags": row.tags,
        "base": str(row.base or ""),
        "why": row.why,
    }
    return "\n[[patch]]\n" + "".join(f"{key} = {quote(text)}\n" for key, text in fields.items() if text)


def quote(text: str) -> str:
    """Return a TOML string; its escapes are JSON's, and DEL has to be escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
