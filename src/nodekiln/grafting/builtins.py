"""Find the JavaScript of Node's own modules in the bytes of a binary, without running it.

A release holds each text as it is in the source tree, one byte to a character, with a NUL before and after
it: 12.22 to 26.10, ELF, Mach-O and PE alike. Which text is which module's is only in code and
relocations, so a text is known by a line that no other has. `process.binding('natives')` gave the same bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.elf.file import Buffer, Elf
from nodekiln.core.elf.segment import file_offset
from nodekiln.core.errors import PatchError
from nodekiln.grafting.sites import Site, find_sites, object_name

_TABLE = Path(__file__).with_name("builtins.toml")
_MAX_LENGTH = 2**20
"""Bytes. Node's longest own module has 0.2 MB; a stretch without a NUL that is longer is something else."""
_MAX_PLACES = 3
_MAX_SOURCE = 2**25
"""Characters; amaro, which is mostly WebAssembly, has 3.4 million."""
_DIRECTIVE = b"'use strict';"
_PACKED = b"UPX!"
_PACKED_WITHIN = 4096


@dataclass(frozen=True, slots=True)
class Builtin:
    """The text of the module at `path` ("lib/net.js"), `start` bytes into the binary."""

    path: str
    start: int
    text: bytes
    """As in the source tree, in UTF-8."""
    wide: bool = False
    """The binary has two bytes for each character."""
    site: Site | None = None
    """Where the code names its address and length, if that was found."""


def module_id(path: str) -> str:
    """Return Node's id of a module: internal/streams/writable for lib/internal/streams/writable.js."""
    module = path if path.startswith("lib/") else f"internal/{path}"  # deps/undici/undici.js
    return module.removeprefix("lib/").removesuffix(".js").removesuffix(".mjs")


def module_path(module: str) -> str:
    """Return the path of a module by its id, the reverse of `module_id`; it may be .mjs in deps/."""
    return (
        f"{module.removeprefix('internal/') if module.startswith('internal/deps/') else f'lib/{module}'}.js"
    )


def locate_by_symbols(elf: Elf, paths: Iterable[str]) -> Mapping[str, Builtin]:
    """Return the texts of modules that the code of an ELF file names, by path; empty without symbols."""
    sites = find_sites(elf)
    found = {}
    for path in paths:
        site = sites.get(object_name(module_id(path)))
        start = None if site is None else file_offset(elf, site.address)
        if site is None or start is None or not 0 < site.length <= _MAX_SOURCE:
            continue
        text = bytes(elf.data[start : start + site.length])
        wide = b"\0" in text
        if wide:
            text = bytes(elf.data[start : start + 2 * site.length])
        try:
            text = text.decode("utf-16-le" if wide else "latin-1").encode()
        except UnicodeError:
            continue
        found[path] = Builtin(path, start, text, wide, site)
    return found


def locate(data: Buffer, name: str) -> Mapping[str, Builtin]:
    """Return the texts that a plan may change, by path; modules that this Node doesn't have are left out.

    Raises PatchError, calling the binary `name`, where a module is known and its text can't be identified.
    Two searches through all of `data`: 0.04 s for 120 MB.
    """
    table = tomllib.loads(_TABLE.read_text())["text"]
    found = [builtin for row in table for builtin in _locate(data, name, row["landmark"], row["paths"])]
    if not found:
        raise PatchError(f"{name} contains none of Node's own modules: it is not a Node binary.")
    return {builtin.path: builtin for builtin in found}


def _locate(data: Buffer, name: str, landmark: str, paths: list[str]) -> Iterator[Builtin]:
    path = next((path for path in paths if data.find(b"%b\0" % module_id(path).encode()) >= 0), None)
    places = _places(data, landmark.encode())
    if path is None and not places:
        if bytes(data[:_PACKED_WITHIN]).find(_PACKED) >= 0:
            raise PatchError(
                f"{name} is packed by UPX, so its modules can't be read.", remedy="Unpack it: upx -d FILE."
            )
        return
    if path is None:
        raise PatchError(f"{name} contains {landmark}...), but none of the modules {', '.join(paths)}.")
    if not places:
        wide = data.find(landmark.encode("utf-16-le")) >= 0
        why = "its text is stored with two bytes per character" if wide else "its text was not found"
        raise PatchError(f"{name}: {path}: {why}, which no graft can change.", remedy="Build this release.")
    if len(places) == 1:
        yield _cut(data, name, path, places[0])
        return
    own = [place for place in places if all(_is_copy(data, place, each) for each in places if each != place)]
    if len(own) != 1:
        where = " and ".join(f"{place:#x}" for place in places)
        raise PatchError(f"{name}: {path}: its text occurs more than once, around {where}.")
    yield _cut(data, name, path, own[0])


def _is_copy(data: Buffer, place: int, other: int) -> bool:
    """Return True if `other` is in V8's copy of the text around `place`, as in a startup snapshot.

    The copy is a string of V8's heap, so its length is before it.
    """
    before, end = _bounds(data, place)
    text = bytes(data[before + 1 : end])
    start = other - (place - before - 1)
    return start >= 4 and data[start - 4 : start + len(text)] == len(text).to_bytes(4, "little") + text


def _places(data: Buffer, landmark: bytes) -> list[int]:
    """Return the first three offsets, one more than a release has."""
    places: list[int] = []
    while len(places) < _MAX_PLACES and (place := data.find(landmark, places[-1] + 1 if places else 0)) >= 0:
        places.append(place)
    return places


def _bounds(data: Buffer, place: int) -> tuple[int, int]:
    """Return the offsets of the NULs around a place; -1 if there is none within reach."""
    before = data.rfind(b"\0", max(0, place - _MAX_LENGTH), place)
    return before, data.find(b"\0", place, place + _MAX_LENGTH)


def _cut(data: Buffer, name: str, path: str, place: int) -> Builtin:
    before, end = _bounds(data, place)
    if before < 0 or end < 0:
        raise PatchError(f"{name}: {path}: the end of its text was not found.")
    text = bytes(data[before + 1 : end])
    if not text.isascii():
        raise PatchError(f"{name}: {path}: its text is not plain ASCII.")
    if sum(line.rstrip(b"\r") == _DIRECTIVE for line in text.split(b"\n")) != 1:
        # Until 20 nothing ends a text but the padding up to the next, which one of 32 texts doesn't need.
        raise PatchError(f"{name}: {path}: its text is not one whole module.", remedy="Build this release.")
    return Builtin(path, before + 1, text)
