"""The requirements of a tag: from its own files, otherwise from requirements.toml.

read_requirements runs nothing; check_version and check_rust compare the result with what is installed.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nodekiln.core.edit import Read
from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.core.recipe import Tag
from nodekiln.toolchain.compilers import Compiler, Family, dotted
from nodekiln.toolchain.model import Finding, Severity, search_path

Version = tuple[int, ...]
PythonVersion = tuple[int, int]

_GYP = "tools/gyp/pylib/gyp/__init__.py"
_GYP_INPUT = "tools/gyp/pylib/gyp/input.py"
PATHS = ("configure", "configure.py", "common.gypi", _GYP, _GYP_INPUT)
"""The files of a tag that are read."""

WITHOUT_TEMPORAL = "--v8-disable-temporal-support"
_RUST_VERSION = re.compile(r"^\w+ (\d+\.\d+\.\d+)", re.MULTILINE)

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
    """gcc from `first` up to, not including, `below` (empty: no limit) fails, for the reason `why`."""

    first: Version
    below: Version
    why: str

    def covers(self, version: Version) -> bool:
        """Return True if gcc of this version fails."""
        return self.first <= version and (not self.below or version < self.below)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """The requirements of one tag. An empty version or list means unknown.

    `python_names` are the names under which ./configure looks for a Python, in its order. `modules_missing`
    are those of distutils, gyp and packaging that the tag imports and does not include.
    """

    tag: Tag
    gxx: Version
    clang: Version
    apple: Version
    apple_name: str
    standard: str
    pythons: tuple[PythonVersion, ...]
    python_names: tuple[str, ...]
    modules_missing: tuple[str, ...]
    known_bad: tuple[KnownBad, ...]
    rust: Version
    newest_gxx: int | None = None
    """The newest major of g++ that is known to build it; None if all are."""


def read_requirements(tag: Tag, read: Read) -> Requirements:
    """Return the requirements of `tag`; `read` returns the files of PATHS."""
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
        python_names=tuple(_WALK.findall(texts["configure"])) or any_python(),
        modules_missing=_modules_missing(texts),
        known_bad=_known_bad(tag),
        rust=parse_version(row.get("rust", "")),
        newest_gxx=row.get("newest_gxx"),
    )


def parse_version(text: str) -> Version:
    """Return 12.2.0 as (12, 2, 0), and the empty text as ()."""
    return tuple(map(int, text.split("."))) if text else ()


def any_python() -> tuple[str, ...]:
    """Return the names under which any tag's ./configure finds a Python."""
    return tuple(_table()["python_names"])


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
    version = (tag.major, tag.minor, tag.patch)
    reached = [newest for since, newest in row["newest_python"].items() if parse_version(since) <= version]
    newest, oldest = parse_version(reached[-1])[1], parse_version(row["oldest_python"])[1]
    return tuple((3, minor) for minor in range(newest, oldest - 1, -1))


def _modules_missing(texts: Mapping[str, str]) -> tuple[str, ...]:
    missing = []
    if any(_DISTUTILS.search(texts[path]) for path in ("configure.py", _GYP_INPUT)):
        missing.append("distutils")
    # Source packages of distributions leave out tools/gyp; upstream's includes packaging.
    if texts["configure.py"] and not texts[_GYP]:
        missing.append("gyp")
        if _PACKAGING.search(texts["configure.py"]):
            missing.append("packaging")
    return tuple(missing)


def _known_bad(tag: Tag) -> tuple[KnownBad, ...]:
    version = (tag.major, tag.minor, tag.patch)
    return tuple(
        KnownBad(parse_version(row["from"]), parse_version(row.get("below", "")), row["why"])
        for row in _table()["known_bad"]
        if parse_version(row["from_tag"]) <= version < parse_version(row["below_tag"])
    )


def check_version(cxx: Compiler, needs: Requirements) -> Iterator[Finding]:
    """Yield an error if the C++ compiler is too old for the tag, or known to fail on it."""
    minimum, name = {
        Family.GCC: (needs.gxx, f"g++ {dotted(needs.gxx)}"),
        Family.CLANG: (needs.clang, f"clang++ {dotted(needs.clang)}"),
        Family.APPLE: (needs.apple, needs.apple_name),
    }[cxx.family]
    if cxx.version < minimum:
        yield Finding(
            Severity.ERROR,
            "CXX",
            f"{cxx}; {needs.tag} requires {name} or later.",
            "configure only warns about it, and the compilation fails (nodejs/node#54081).",
            "Install a newer compiler, and set CC and CXX to it.",
        )
    if cxx.family is Family.GCC and needs.newest_gxx and cxx.version[0] > needs.newest_gxx:
        yield Finding(
            Severity.WARNING,
            "CXX",
            f"{cxx}; {needs.tag} is known to build with g++ up to {needs.newest_gxx}.",
            "Newer headers include less of each other, so that sources of that time may not compile.",
            f"If the compilation fails, install g++-{needs.newest_gxx}, and set CC and CXX to it.",
        )
    for bad in needs.known_bad:
        if cxx.family is Family.GCC and bad.covers(cxx.version):
            yield Finding(
                Severity.ERROR,
                "CXX",
                f"{cxx}, which fails on {needs.tag}.",
                bad.why,
                f"Install {_better(bad.first, bad.below)} or clang, and set CC and CXX to it.",
            )


def _better(first: tuple[int, ...], below: tuple[int, ...]) -> str:
    return f"g++ {dotted(below)} or later" if below else f"g++ before {first[0]}"


def check_rust(needs: Requirements, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a warning if cargo or rustc is missing or too old for the tag."""
    found = {name: _rust_version(name, env) for name in ("cargo", "rustc")}
    for name, version in found.items():
        if version < needs.rust:
            what = f"{name} is {dotted(version)}" if version else f"{name} was not found on PATH"
            yield Finding(
                Severity.WARNING,
                "rust",
                f"{needs.tag} requires Rust {dotted(needs.rust)} or later, and {what}.",
                "configure then leaves out Temporal without an error (nodejs/node#63213).",
                f"Install Rust (rustup), or build without Temporal: --configure-args={WITHOUT_TEMPORAL}",
            )
            return


def _rust_version(name: str, env: Mapping[str, str]) -> tuple[int, ...]:
    """Empty if it is missing or fails (rustup's shims without a toolchain)."""
    if (path := shutil.which(name, path=search_path(env))) is None:
        return ()
    try:
        match = _RUST_VERSION.search(capture([path, "--version"], env=env, timeout=20).text)
    except (OSError, KilnError):
        return ()
    return parse_version(match[1]) if match else ()
