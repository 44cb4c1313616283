"""Tags and releases, recipes, configure arguments, and the only place that makes names of binaries."""

from __future__ import annotations

import hashlib
import re
import shlex
import tomllib
from dataclasses import dataclass
from functools import cache, total_ordering
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nodekiln.core.errors import UsageError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
from contextlib import suppress

from nodekiln.core.errors import SourceError

_TAG = re.compile(r"v?(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})", re.ASCII)
_PRE = re.compile(r"(?:alpha|beta|rc)\.(?:0|[1-9]\d{0,3})", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]{1,24}", re.ASCII)
_NAME = re.compile(r"v\d+\.\d+\.\d+(-[a-z0-9_]+)*", re.ASCII)
_CHANGE = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*", re.ASCII)
_CHANGE_LENGTH = 40
_HASHED = re.compile(r"cfg[0-9a-f]{6}", re.ASCII)
_RESERVED = frozenset({"graft", "linux", "darwin", "win"})
"""Words of names that say something else than a change or a label."""
HEADER = "src/node_version.h"
"""Defines the release that a tree has the sources of."""
_PART = re.compile(
    rb"^[ \t]*#[ \t]*define[ \t]+NODE_(MAJOR|MINOR|PATCH)_VERSION[ \t]+(\d{1,4})\s", re.MULTILINE
)


@total_ordering
@dataclass(frozen=True, slots=True)
class Tag:
    """A release of Node: v22.20.0 is Tag(22, 20, 0); a pre-release, v27.0.0-alpha.1, has `pre` "alpha.1"."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    @classmethod
    def parse(cls, text: str, *, pre: bool = False) -> Self:
        """Return the tag for "v22.20.0" or "22.20.0", and for "v27.0.0-alpha.1" if `pre` is set.

        Raises UsageError for anything else.
        """
        numbers, dash, stage = text.partition("-") if pre else (text, "", "")
        match = _TAG.fullmatch(numbers)
        if match is None or (dash and not _PRE.fullmatch(stage)):
            raise UsageError(
                f"{text!r} is not a tag of a Node release.", remedy="Tags look like v22.20.0 (or 22.20.0)."
            )
        major, minor, patch = map(int, match.groups())
        return cls(major, minor, patch, stage)

    @property
    def release(self) -> Tag:
        """The release that a pre-release leads to; the tag itself if it is a release."""
        return Tag(self.major, self.minor, self.patch) if self.pre else self

    def __lt__(self, other: Tag) -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[int, int, int, bool, str, int]:
        stage, _, number = self.pre.partition(".")
        return self.major, self.minor, self.patch, not self.pre, stage, int(number or 0)

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}" + (f"-{self.pre}" if self.pre else "")


@dataclass(frozen=True, slots=True)
class TagRange:
    """The tags that a version specifier (PEP 440: ">=19,<22.3", "==22.*") matches."""

    specifiers: SpecifierSet

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise ValueError for an empty or invalid specifier."""
        from packaging.specifiers import InvalidSpecifier, SpecifierSet  # 20 ms, for changes only

        try:
            specifiers = SpecifierSet(text)
        except InvalidSpecifier:
            specifiers = SpecifierSet()
        if not len(specifiers):
            raise ValueError(f'tags = {text!r} is invalid; write versions like ">=19" or ">=19,<22"')
        return cls(specifiers)

    def __contains__(self, tag: Tag) -> bool:
        return self.specifiers.contains(f"{tag.major}.{tag.minor}.{tag.patch}")

    def __str__(self) -> str:
        return ",".join(sorted(map(str, self.specifiers), reverse=True))

    @property
    def bounds(self) -> tuple[Tag, ...]:
        """The versions at which membership may change."""
        from packaging.version import Version

        found = set()
        for specifier in self.specifiers:
            release = Version(specifier.version.removesuffix(".*")).release
            found.add(_padded(release))
            if specifier.version.endswith(".*") or specifier.operator == "~=":
                above = release[:-1] if specifier.operator == "~=" else release
                found.add(_padded((*above[:-1], above[-1] + 1)))
        return tuple(sorted(found))


def _padded(numbers: tuple[int, ...]) -> Tag:
    major, minor, patch = (*numbers, 0, 0)[:3]
    return Tag(major, minor, patch)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One binary to make.

    `default_args` are the configure arguments of this checkout (invoke.yaml, NODEKILN_CONFIGURE_FILE) and do
    not show in the name; `extra_args` were given for this build and do, as `label` or as a short hash.
    """

    tag: Tag
    changes: tuple[str, ...] = ()
    """Names of changes, in the order in which they are applied and show in the binary's name."""
    default_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    label: str | None = None
    graft: bool = False
    """Whether it is made from the official binary, not from source."""
    platform: str | None = None
    """The platform of a graft ("linux-arm64"); None for this machine's."""

    def __post_init__(self) -> None:
        if self.label is not None and (
            not _LABEL.fullmatch(self.label) or self.label in {*_RESERVED, *self.changes}
        ):
            raise UsageError(
                f"--name {self.label!r} can't be part of a binary's name.",
                remedy="Use up to 24 of a-z, 0-9 and _, and no word that names use already (graft, linux).",
            )
        for change in self.changes:
            if not is_change_name(change) or self.changes.count(change) > 1:
                raise UsageError(f"{change!r} is not the name of a change, or is selected twice.")

    @property
    def configure_args(self) -> tuple[str, ...]:
        """All arguments for configure, the checkout's first, so that those of this build take precedence."""
        return self.default_args + self.extra_args

    @property
    def name(self) -> str:
        """v22.20.0, v22.20.0-no-backpressure, v22.20.0-no-backpressure-usdt, v22.20.0-cfg1a2b3c,
        v22.20.0-no-backpressure-usdt-graft, v22.20.0-usdt-graft-linux-arm64, ..."""
        parts = [str(self.tag), *self.changes]
        if self.label is not None:
            parts.append(self.label)
        elif self.extra_args:
            parts.append(f"cfg{arguments_key(self.extra_args)[:6]}")
        if self.graft:
            parts.append("graft")
        if self.platform is not None:
            parts.append(self.platform)
        return "-".join(parts)

    @property
    def tree_name(self) -> str:
        """The name of the working tree, shared by all recipes with the same tag and configure arguments."""
        if not self.configure_args:
            return str(self.tag)
        return f"{self.tag}-{arguments_key(self.configure_args)[:8]}"


def arguments_key(args: tuple[str, ...]) -> str:
    """Return the SHA-256 (64 hex digits) of configure arguments; their order matters."""
    return hashlib.sha256("\0".join(args).encode()).hexdigest()


def is_change_name(name: str) -> bool:
    """Return whether a change may have this name, which becomes part of binaries' names."""
    words = name.split("-")
    return (
        _CHANGE.fullmatch(name) is not None
        and len(name) <= _CHANGE_LENGTH
        and not any(word in _RESERVED or _HASHED.fullmatch(word) for word in words)
    )


def is_name(name: str) -> bool:
    """Return whether a recipe could have this name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return `name` if a recipe could have it; raise UsageError otherwise (a path, an option, ...)."""
    if not is_name(name):
        raise UsageError(
            f"{name!r} is not the name of a binary.",
            remedy="Names look like v22.20.0-no-backpressure; ./inv list shows those that are there.",
        )
    return name


def parse_arguments(text: str) -> tuple[str, ...]:
    """Return the words of --configure-args, split like a shell does, without running anything.

    Raises UsageError for an open quote, or for a word that is no option (configure hands those on to gyp).
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--configure-args {text!r} can't be split into words: {error}.") from None
    return check_arguments(words, "--configure-args")


def parse_argument_lines(text: str, origin: str) -> tuple[str, ...]:
    """Return the arguments of a configure file: one per line, without empty lines and # comments."""
    lines = (line.strip() for line in text.splitlines())
    return check_arguments([line for line in lines if line and not line.startswith("#")], origin)


def check_arguments(words: object, origin: str) -> tuple[str, ...]:
    """Return `words` as arguments for configure.

    Raises UsageError, naming `origin`, for what are none and for those of refused_arguments.toml.
    """
    if not isinstance(words, list | tuple):
        raise UsageError(f"{origin}: {words!r} should be a list of options.")
    for word in words:
        if not isinstance(word, str) or not word.startswith("-") or not word.isprintable():
            raise UsageError(
                f"{origin}: {word!r} is not an option of configure.",
                remedy="Write options with their value in one word, as in --prefix=/opt/node.",
            )
        _check_outcome(word, origin)
    return tuple(words)


def _check_outcome(word: str, origin: str) -> None:
    option = word.partition("=")[0]
    for name, (why, remedy) in _refused().items():
        # configure takes every beginning of an option that no other begins with (argparse): --cross.
        if option == name or (len(option) > len("--") and name.startswith(option)):
            raise UsageError(f"{origin}: {word} can't be built with: {why}.", remedy=remedy)


@cache
def _refused() -> dict[str, tuple[str, str]]:
    """Return, by option, why it is refused and what to do."""
    facts = tomllib.loads(Path(__file__).with_name("refused_arguments.toml").read_text())
    return {name: (row["why"], row["remedy"]) for row in facts["refused"] for name in row["names"]}


def release(name: str, *, pre: bool = False) -> Tag | None:
    """Return the release that a tag or ref is named after, or None for other names.

    Pre-releases (v27.0.0-alpha.1) count only if `pre` is set.
    """
    short = name.removeprefix("refs/tags/")
    with suppress(UsageError):
        tag = Tag.parse(short, pre=pre)
        return tag if str(tag) == short else None
    return None


def read_version(header: bytes) -> Tag | None:
    """Return the release that the content of HEADER defines, or None if it defines no version."""
    parts = {part.decode(): int(value) for part, value in _PART.findall(header)}
    if parts.keys() != {"MAJOR", "MINOR", "PATCH"}:
        return None
    return Tag(parts["MAJOR"], parts["MINOR"], parts["PATCH"])


def mismatch(tag: Tag, origin: str, header: bytes | None) -> SourceError | None:
    """Return an error unless HEADER (None: missing) in the tree of `tag` at `origin` defines that release.

    Without this check, a tag on another release's tree is compiled for an hour before the binary fails its
    check.
    """
    found = None if header is None else read_version(header)
    if found == tag:
        return None
    remedy = "Name another repository with --repository."
    if found is None:
        text = f"{tag} of {origin} is not a source tree of Node: it has no {HEADER} that defines a version."
    else:
        text = f"{tag} of {origin} contains the sources of {found}."
    return SourceError(text, remedy=remedy)
