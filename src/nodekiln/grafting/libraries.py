"""Libraries that a program finds relative to its own file, as in Python wheels: they are moved with it.

The search path (RPATH or RUNPATH) is one string of the dynamic section, which is replaced by a shorter one.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nodekiln.core.elf.file import Elf, ElfError, open_elf
from nodekiln.core.elf.notes import Rewritten
from nodekiln.core.errors import PatchError

FOLDER = "lib"
"""The folder beside the graft that gets the libraries."""
_DYNAMIC = 6
_ENTRY = struct.Struct("<QQ")
_NEEDED, _RPATH, _RUNPATH = 1, 15, 29
_MAX_ENTRIES = 1000
_ORIGINS = ("$ORIGIN/", "${ORIGIN}/")


@dataclass(frozen=True, slots=True)
class Libraries:
    """Libraries to copy, by the names they are loaded by, and the new search path in the program."""

    files: Mapping[str, Path]
    search_path: Rewritten


def find_libraries(program: Path, original: Path) -> Libraries | None:
    """Return the libraries that `program` finds relative to `original`, where it was; None if there are none.

    Raises PatchError if they can't be moved with it.
    """
    with open_elf(program) as elf:
        needed, paths = _read(elf)
        parts = [part for _, path in paths for part in path.split(":") if part.startswith(_ORIGINS)]
        folders = [original.parent / PurePosixPath(part.partition("/")[2]) for part in parts]
        files = {name: file for folder in folders for name, file in _collect(needed, folder).items()}
        if not files:
            return None
        place, path = paths[0]
        old, new = path.encode(), f"$ORIGIN/{FOLDER}".encode()
        if len(paths) > 1 or path != parts[0] or len(new) > len(old):
            searched, named = ":".join(path for _, path in paths), ", ".join(files)
            raise PatchError(
                f"{original} finds {named} by {searched!r}, which can't be made to lead elsewhere.",
                remedy="Start from a release whose libraries are the system's.",
            )
        return Libraries(files, Rewritten("search path of libraries", place, old, new.ljust(len(old), b"\0")))


def _collect(needed: list[str], folder: Path) -> dict[str, Path]:
    """Return the needed libraries that are in the folder, and those that they need from there."""
    files: dict[str, Path] = {}
    left = list(needed)
    while left:
        name = left.pop()
        file = folder / name
        if name in files or "/" in name or not file.exists():
            continue
        if file.is_symlink() or not file.is_file():
            raise PatchError(
                f"{file} is not a regular file, so it can't be kept with the graft.",
                remedy="Replace the link by a copy of the library.",
            )
        files[name] = file
        with open_elf(file) as elf:
            left += _read(elf)[0]
    return files


def _read(elf: Elf) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the names of needed libraries, and offset and text of each search path."""
    needed, paths = [], []
    for section in elf.sections:
        if section.kind != _DYNAMIC or section.link >= len(elf.sections):
            continue
        strings, data = elf.sections[section.link], elf.content(section)
        for at in range(0, min(len(data), _MAX_ENTRIES * _ENTRY.size) - _ENTRY.size + 1, _ENTRY.size):
            tag, value = _ENTRY.unpack_from(data, at)
            if tag in (_NEEDED, _RPATH, _RUNPATH):
                start = strings.offset + value
                end = elf.data.find(b"\0", start, strings.offset + strings.stored)
                if end < 0:
                    raise ElfError(elf.file, "is damaged: a name of a library has no end")
                text = bytes(elf.data[start:end]).decode(errors="backslashreplace")
                if tag == _NEEDED:
                    needed.append(text)
                else:
                    paths.append((start, text))
    return needed, paths


def copy_libraries(libraries: Libraries, folder: Path) -> None:
    """Copy the libraries into the new folder `folder`."""
    folder.mkdir()
    for name, file in libraries.files.items():
        shutil.copyfile(file, folder / name, follow_symlinks=False)
