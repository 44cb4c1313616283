"""What a tag asks of the toolchain: read from its own files, from requirements.toml where they don't say.

Files come in through a `Read`, nothing is run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nodekiln.core.edit import Read
from nodekiln.core.recipe import Tag

Version = tuple[int, ...]
PythonVersion = tuple[int, int]

_GYP = "tools/gyp/pylib/gyp/__init__.py"
_GYP_INPUT = "tools/gyp/pylib/gyp/input.py"
PATHS = ("configure", "configure.py", "common.gypi", _GYP, _GYP_INPUT)
"""The files of a tag that are read."""

_ACCEPTABLE = re.compile(r"^acceptable_pythons = \((.*)\)$", re.MULTILINE)
_PAIR = re.compile(r"\((\d+), (\d+)\)")
_WALK = re.compile(r"^(?:command -v \S+ >/dev/null && )?exec (python[\d.]*) ", re.MULTILINE)
_TOO_OLD = re.compile(r"too old, need g\+\+ ([\d.]+) or clang\+\+ ([\d.]+)")
# common.gypi spells the others -std:c++20 (Visual Studio) and -qxclang=-std=c++14 (XL).
_STANDARD = re.compile(r"'-std=((?:gnu|c)\+\+\d\w)'")
_DISTUTILS = re.compile(r"^(?:from|import) distutils\b", re.MULTILINE)
_PACKAGING = re.compile(r"^(?:from|import) packaging\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KnownBad:
    """gcc from `first` up to, not including, `below` (empty: no end) fails, for the reason `why`."""

    first: Version
    below: Version
    why: str

    def covers(self, version: Version) -> bool:
        """Whether gcc of this version fails."""
        return self.first <= version and (not self.below or version < self.below)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What one tag needs. An empty version or list means that neither the tag nor the table says.

    `walk` are the names under which ./configure looks for a Python, in its order. `modules_missing` are those
    of distutils, gyp and packaging that the tag imports and does not bring along.
    """

    tag: Tag
    gxx: Version
    clang: Version
    apple: Version
    apple_name: str
    standard: str
    pythons: tuple[PythonVersion, ...]
    walk: tuple[str, ...]
    modules_missing: tuple[str, ...]
    known_bad: tuple[KnownBad, ...]
    rust: Version


def read_requirements(tag: Tag, read: Read) -> Requirements:
    """What `tag` asks for; `read` answers for the files of PATHS."""
    texts = {path: (read(path) or b"").decode(errors="replace") for path in PATHS}
    row = _row(tag)
    gxx, clang = _minimums(texts["configure.py"], row)
    apple = row.get("apple", {})
    standard = _STANDARD.search(texts["common.gypi"])
    return Requirements(
        tag=tag,
        gxx=gxx,
        clang=clang,
        apple=parse_version(apple.get("version", "")),
        apple_name=apple.get("name", ""),
        standard=standard[1] if standard else row.get("standard", ""),
        pythons=_pythons(texts["configure"]) or _table_pythons(tag, row),
        walk=tuple(_WALK.findall(texts["configure"])) or any_python(),
        modules_missing=_modules_missing(texts),
        known_bad=_known_bad(tag),
        rust=parse_version(row.get("rust", "")),
    )


def parse_version(text: str) -> Version:
    """12.2.0 as (12, 2, 0), the empty text as ()."""
    return tuple(map(int, text.split("."))) if text else ()


def any_python() -> tuple[str, ...]:
    """The names under which any tag's ./configure would find a Python."""
    return tuple(_table()["walk"])


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("requirements.toml").read_text())


def _row(tag: Tag) -> Mapping[str, Any]:
    rows: dict[int, Mapping[str, Any]] = {row["number"]: row for row in _table()["major"]}
    return rows.get(tag.major, {})


def _minimums(configure: str, row: Mapping[str, Any]) -> tuple[Version, Version]:
    match = _TOO_OLD.search(configure)
    texts = match.groups() if match else (row.get("gxx", ""), row.get("clang", ""))
    gxx, clang = map(parse_version, texts)
    return gxx, clang


def _pythons(configure: str) -> tuple[PythonVersion, ...]:
    match = _ACCEPTABLE.search(configure)
    return tuple((int(major), int(minor)) for major, minor in _PAIR.findall(match[1])) if match else ()


def _table_pythons(tag: Tag, row: Mapping[str, Any]) -> tuple[PythonVersion, ...]:
    if not row:
        return ()
    here = (tag.major, tag.minor, tag.patch)
    reached = [newest for since, newest in row["newest_python"].items() if parse_version(since) <= here]
    newest, oldest = parse_version(reached[-1])[1], parse_version(row["oldest_python"])[1]
    return tuple((3, minor) for minor in range(newest, oldest - 1, -1))


def _modules_missing(texts: Mapping[str, str]) -> tuple[str, ...]:
    missing = []
    if any(_DISTUTILS.search(texts[path]) for path in ("configure.py", _GYP_INPUT)):
        missing.append("distutils")
    # Source packages of distributions leave tools/gyp out; upstream's holds packaging too.
    if texts["configure.py"] and not texts[_GYP]:
        missing.append("gyp")
        if _PACKAGING.search(texts["configure.py"]):
            missing.append("packaging")
    return tuple(missing)


def _known_bad(tag: Tag) -> tuple[KnownBad, ...]:
    here = (tag.major, tag.minor, tag.patch)
    return tuple(
        KnownBad(parse_version(row["from"]), parse_version(row.get("below", "")), row["why"])
        for row in _table()["known_bad"]
        if parse_version(row["from_tag"]) <= here < parse_version(row["below_tag"])
    )
