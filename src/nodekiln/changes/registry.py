"""The named changes: one folder each, patches/NAME/, with a change.toml and the patches that it lists.

A change is read when it is selected, so that a broken folder stops only the recipes that use it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, compress, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nodekiln.changes.hooks import DETECTORS, REWRITES, Detector, Rewrite
from nodekiln.changes.patchfile import Patch, parse
from nodekiln.changes.rewrite import Rewrite as Query
from nodekiln.changes.rewrite import paths as query_paths
from nodekiln.changes.rewrite import problems as query_problems
from nodekiln.core.errors import PatchError, UsageError
from nodekiln.core.recipe import Recipe, Tag, TagRange, check_arguments, is_change_name

if TYPE_CHECKING:
    from nodekiln.core.settings import Settings

FILE = "change.toml"

_TEST = re.compile(r"[a-z0-9-]+/[\w.-]+", re.ASCII)
_STANDARD_LABELS = frozenset({"no"})
"""Words that would read like part of a change's name."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A [[patch]] table."""

    tags: str
    why: str
    file: str = ""
    """Empty: these tags need no patch in this slot, as upstream has it."""
    slot: str = ""
    base: str = ""
    """The tag that the patch was made for: the base of a merge into another tag."""


class Configure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What configure needs."""

    args: tuple[str, ...] = ()
    probe_headers: bool = False
    """<sys/sdt.h>, or dtrace where that is the platform's own."""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a binary with the change is checked before it is published."""

    backpressure: bool = True
    """False: the self-check must find that write() never returns false."""
    gc_probes: bool = False
    """The probes of garbage collection must fire under a tracer, where tracing is possible."""
    prints: dict[str, str] = {}
    """JavaScript expressions and what `node -p` must print for each."""
    script: str = ""
    """A JavaScript file of the folder, which must exit with 0."""


class Graft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a graft does in place of the patches."""

    gc_probes: bool = False
    """It adds GC probes to the official binary."""


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """change.toml."""

    name: str
    summary: str
    why: str
    tags: str
    standard: bool = False
    conflicts: tuple[str, ...] = ()
    rewrite: str | tuple[Query, ...] = ""
    """A name of REWRITES, or [[rewrite]] tables."""
    existing: str = ""
    configure: Configure = Configure()
    check: Check = Check()
    graft: Graft = Graft()
    failing_tests: dict[str, str] = {}
    """Node's own tests that are expected to fail ("parallel/test-stream-pipe"), and why."""
    patch: tuple[_Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One patch and the tags that it serves. Patches with the same slot are variants of each other."""

    patch: Patch
    tags: TagRange
    slot: str
    why: str
    base: Tag | None = None
    """The tag that the patch was made for, if change.toml records it."""


@dataclass(frozen=True)
class Change:
    """One change. Its patches are parsed at the first use."""

    folder: Path
    name: str
    summary: str
    why: str
    tags: TagRange
    standard: bool
    """It is part of `build --matrix` and of verify's default recipes."""
    conflicts: tuple[str, ...]
    rewrite: Rewrite | None
    existing: Detector | None
    configure: Configure
    check: Check
    graft: Graft
    rows: tuple[_Row, ...]
    failing_tests: Mapping[str, str]
    queries: tuple[Query, ...] = ()
    """The [[rewrite]] tables."""

    @property
    def compiles(self) -> bool:
        """Return whether it may change more than JavaScript."""
        return bool(self.rows) or any(query.compiles for query in self.queries)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The patches, in the order in which they are applied.

        Raises PatchError that lists every problem of the folder.
        """
        return _entries(self)

    @cached_property
    def sha256(self) -> str:
        """Return a digest of all files of the folder, as 64 hex digits."""
        digest = hashlib.sha256()
        for name, content in _contents(self.folder).items():
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    @property
    def short_hash(self) -> str:
        """The first 16 digits of `sha256`, as binaries carry them."""
        return self.sha256[:16]

    def select(self, tag: Tag) -> tuple[Patch, ...]:
        """Return the patches for a tag: one of each slot."""
        return tuple(entry.patch for entry in self.entries if tag in entry.tags)

    def paths(self, tag: Tag) -> tuple[str, ...]:
        """Return the files of the tree that the change may read for this tag, each once."""
        found: tuple[str, ...] = () if self.rewrite is None else self.rewrite.paths
        found += query_paths(self.queries)
        if self.existing is not None:
            found += self.existing.paths
        if self.configure.args:
            found += CONFIGURE_FILES
        found += tuple(path for patch in self.select(tag) for path in patch.paths)
        return tuple(dict.fromkeys(found))


CONFIGURE_FILES = ("configure.py", "configure")
"""Where configure's options are defined; in old releases the second is the Python script itself."""


@dataclass(frozen=True)
class Registry:
    """All changes in some folders of changes, the built-in ones first, and some single changes."""

    folders: tuple[Path, ...]
    singles: tuple[Path, ...] = ()
    _loaded: dict[str, Change] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> Registry:
        """Return the changes that a run may select."""
        return cls(settings.patch_folders, settings.change_folders)

    @cached_property
    def _homes(self) -> Mapping[str, Path]:
        found: dict[str, Path] = {}
        listed = [path.parent for folder in self.folders for path in sorted(folder.glob(f"*/{FILE}"))]
        for home in (*(home for home in listed if (home / FILE).is_file()), *self.singles):
            other = found.setdefault(home.name, home)
            if other != home and not (home.is_dir() and other.samefile(home)):
                raise PatchError(
                    f"Two changes are named {home.name}: {other} and {home}.",
                    remedy="Rename one of the folders, and `name` in its change.toml.",
                )
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all changes, those of each folder in alphabetical order."""
        return tuple(self._homes)

    def folder(self, name: str) -> Path:
        """Return the folder of a change, which may be invalid."""
        return self._homes[name]

    def get(self, name: str) -> Change:
        """Return a change; raise UsageError for an unknown name, PatchError for an invalid change.toml."""
        if name not in self._homes:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            known = ", ".join(self.names) or "none"
            raise UsageError(
                f"Unknown change {name!r}.",
                remedy=f"{hint}Known changes: {known}. A change is a folder with a {FILE} in"
                f" {' or '.join(map(str, self.folders))}.",
            )
        if name not in self._loaded:
            self._loaded[name] = _load(self._homes[name])
        return self._loaded[name]

    def of_recipe(self, recipe: Recipe) -> tuple[Change, ...]:
        """Return the changes of a recipe, in its order."""
        return tuple(map(self.get, recipe.changes))

    @cached_property
    def standard(self) -> tuple[str, ...]:
        """The changes that --matrix and verify combine by default."""
        return tuple(name for name in self.names if self.get(name).standard)

    def combinations(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Return every selection of these changes, none to all, without those that conflict."""
        every = (tuple(compress(names, picked)) for picked in product((False, True), repeat=len(names)))
        return tuple(chosen for chosen in every if not any(self.conflicts(chosen)))

    def parse_names(self, text: str) -> tuple[str, ...] | None:
        """Return the changes that a recipe's name joins with "-"; None if they are not all known."""
        if not text:
            return ()
        for name in self.names:
            if text == name:
                return (name,)
            if text.startswith(f"{name}-") and (rest := self.parse_names(text[len(name) + 1 :])) is not None:
                return None if name in rest else (name, *rest)
        return None

    def conflicts(self, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yield pairs of selected changes of which one says that it conflicts with the other."""
        for left, right in combinations(names, 2):
            if right in self.get(left).conflicts or left in self.get(right).conflicts:
                yield left, right

    def keeps_backpressure(self, recipe: Recipe) -> bool:
        """Return whether write() of the recipe's binary may return false."""
        return all(change.check.backpressure for change in self.of_recipe(recipe))

    def has_probes(self, recipe: Recipe) -> bool:
        """Return whether the recipe's binary has GC probes, which need headers and can be traced."""
        return any(
            change.check.gc_probes or change.configure.probe_headers for change in self.of_recipe(recipe)
        )

    def check_label(self, label: str) -> str:
        """Return `label`; raise UsageError if it could be mistaken for part of a change's name."""
        words = {word for name in self.names for word in name.split("-")}
        if label in words | _STANDARD_LABELS:
            raise UsageError(
                f"--name {label!r} can't be part of a binary's name: a change is called like that.",
                remedy="Use another word of up to 24 of a-z, 0-9 and _.",
            )
        return label


def _load(folder: Path) -> Change:
    file = folder / FILE
    try:
        head = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _Head)
    except OSError as error:
        raise _invalid(folder, [f"{FILE} can't be read: {error.strerror}"]) from None
    except (ValueError, msgspec.ValidationError) as error:  # invalid TOML, UTF-8 or field
        raise _invalid(folder, [f"{FILE}: {error}"]) from None
    problems = list(_problems(folder, head))
    if problems:
        raise _invalid(folder, problems)
    return Change(
        folder=folder,
        name=head.name,
        summary=head.summary,
        why=head.why,
        tags=TagRange.parse(head.tags),
        standard=head.standard,
        conflicts=head.conflicts,
        rewrite=REWRITES[head.rewrite] if head.rewrite and isinstance(head.rewrite, str) else None,
        queries=() if isinstance(head.rewrite, str) else head.rewrite,
        existing=DETECTORS[head.existing] if head.existing else None,
        configure=head.configure,
        check=head.check,
        graft=head.graft,
        rows=head.patch,
        failing_tests=head.failing_tests,
    )


def _problems(folder: Path, head: _Head) -> Iterator[str]:
    if head.name != folder.name:
        yield f"{FILE}: name is {head.name!r}, and the folder is {folder.name!r}"
    if not is_change_name(head.name):
        yield (
            f"{FILE}: name = {head.name!r} is not allowed: use words of a-z, 0-9 and _ joined by -, at most"
            " 40 characters, without words of binaries' names (graft, linux)"
        )
    for name in ("summary", "why"):
        if not getattr(head, name).strip():
            yield f"{FILE}: {name} is empty"
    if "\n" in head.summary.strip():
        yield f"{FILE}: summary has more than one line"
    try:
        TagRange.parse(head.tags)
    except ValueError as error:
        yield f"{FILE}: {error}"
    for key, known in (("rewrite", REWRITES), ("existing", DETECTORS)):
        value = getattr(head, key)
        if isinstance(value, str) and value and value not in known:
            yield f"{FILE}: {key} = {value!r} is unknown; known: {', '.join(known)}"
    for name, why in head.failing_tests.items():
        if not _TEST.fullmatch(name):
            yield f"{FILE}: failing_tests: {name!r} is not a test, as in parallel/test-stream-pipe"
        if not why.strip():
            yield f"{FILE}: failing_tests: {name} has no reason"
    if (script := head.check.script) and not _is_script(folder, script):
        yield f"{FILE}: check.script = {script!r} is not a JavaScript file of the folder"
    for number, row in enumerate(() if isinstance(head.rewrite, str) else head.rewrite, 1):
        yield from (f"rewrite {number}: {problem}" for problem in query_problems(row))
    try:
        check_arguments(list(head.configure.args), f"{FILE}, configure.args")
    except UsageError as error:
        yield error.message


def _is_script(folder: Path, name: str) -> bool:
    file = folder / name
    return (
        "/" not in name
        and name.endswith((".js", ".mjs", ".cjs"))
        and file.is_file()
        and not file.is_symlink()
    )


def _entries(change: Change) -> tuple[Entry, ...]:
    try:
        contents = _contents(change.folder)
    except OSError as error:
        raise _invalid(change.folder, [f"{error.filename} can't be read: {error.strerror}"]) from None
    contents.pop(FILE, None)
    entries: list[Entry] = []
    problems: list[str] = []
    rows = [row for row in change.rows if row.file]
    for row in rows:
        try:
            entries.append(_entry(change.name, row, contents))
        except ValueError as error:
            problems.append(f"{row.file}: {error}")
        except PatchError as error:
            problems.append(error.message)
    listed = [row.file for row in rows]
    patches = [name for name in contents if name.endswith(".patch")]
    problems += [f"{name} is in the folder and not in {FILE}" for name in patches if name not in listed]
    problems += [
        f"{FILE} lists {name} {listed.count(name)} times" for name in patches if listed.count(name) > 1
    ]
    absent = [row for row in change.rows if not row.file]
    problems += [f"{FILE}: a [[patch]] without a file has no slot" for row in absent if not row.slot]
    if len(entries) == len(rows):  # otherwise an unreadable patch would be reported as a gap too
        problems += _coverage(change.tags, entries, [(row.slot, TagRange.parse(row.tags)) for row in absent])
    if problems:
        raise _invalid(change.folder, problems)
    return tuple(entries)


def _entry(change: str, row: _Row, contents: Mapping[str, bytes]) -> Entry:
    """Raise ValueError for an invalid row, PatchError for an invalid patch."""
    if not row.why.strip():
        raise ValueError("why is empty")
    if row.file not in contents:
        raise ValueError("no such file")
    patch = parse(f"{change}/{row.file}", contents[row.file])
    if not patch.body:
        raise ValueError("it has no text below its Subject that says what it does and why")
    base = _parse_base(row.base) if row.base else None
    return Entry(patch, TagRange.parse(row.tags), row.slot or row.file, row.why, base)


def _parse_base(text: str) -> Tag:
    try:
        return Tag.parse(text)
    except UsageError as error:
        raise ValueError(f"base: {error.message}") from None


def _coverage(served: TagRange, entries: list[Entry], absent: list[tuple[str, TagRange]]) -> Iterator[str]:
    """Yield where a slot has no patch, or two, for a tag that the change serves.

    `absent` are slots, with tags that need no patch.
    """
    bounds = {bound for tags in (served, *(entry.tags for entry in entries)) for bound in tags.bounds}
    # Membership changes only at a bound, so a bound and the tags next to it stand for all tags between.
    tags = sorted({near for bound in bounds for near in _near(bound)} | {Tag(9999, 0, 0)})
    for slot in dict.fromkeys(entry.slot for entry in entries):
        same = [entry for entry in entries if entry.slot == slot]
        for tag in tags:
            files = [entry.patch.name for entry in same if tag in entry.tags]
            if len(files) > 1:
                yield f"{slot} has {len(files)} patches for {tag}: {', '.join(files)}"
                break
            is_absent = any(name == slot and tag in without for name, without in absent)
            if not files and tag in served and not is_absent:
                yield f"{slot} has no patch for {tag}, which the change serves (tags = {str(served)!r})"
                break
        for entry in same:
            if not any(tag in entry.tags for tag in tags):
                yield f"{entry.patch.name} serves no tag at all (tags = {str(entry.tags)!r})"


def _near(tag: Tag) -> Iterator[Tag]:
    yield tag
    yield Tag(tag.major, tag.minor, tag.patch + 1)
    if tag.patch:
        yield Tag(tag.major, tag.minor, tag.patch - 1)
    elif tag.minor:
        yield Tag(tag.major, tag.minor - 1, 9999)
    elif tag.major:
        yield Tag(tag.major - 1, 9999, 9999)


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a change by path, without hidden ones; raise PatchError for symbolic links.

    A link could point to anything outside, which the change's hash would not show.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if path.is_symlink():
            raise _invalid(folder, [f"{name} is a symbolic link; use a copy of the file"])
        if path.is_file():
            found[name] = path.read_bytes()
    return found


def _invalid(folder: Path, problems: list[str]) -> PatchError:
    return PatchError(
        f"The change in {folder} is invalid:\n  " + "\n  ".join(problems),
        remedy="Correct these, or restore the folder with git checkout.",
    )


def describe(registry: Registry) -> dict[str, Any]:
    """Return each change's one-line summary by name; a change that can't be read gets its error."""
    found = {}
    for name in registry.names:
        try:
            found[name] = registry.get(name).summary
        except PatchError as error:
            found[name] = error.message.partition("\n")[0]
    return found
