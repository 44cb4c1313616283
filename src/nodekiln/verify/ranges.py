"""Which tags a patch and its new variant serve, and how change.toml says so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from nodekiln.changes.folder import Row, quote, render_row
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag, TagRange

_TABLE = re.compile(r"^\[\[patch\]\][ \t]*(?:#[^\n]*)?$", re.MULTILINE)
_NEXT = re.compile(r"^\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Split:
    """Where a variant takes over: from `at` on, or below it. None: it takes the place of the old patch."""

    at: Tag | None
    is_above: bool
    gap: tuple[Tag, ...] = ()
    """Tags that neither fits."""


def choose(fits: Sequence[tuple[Tag, bool, bool]], base: Tag, target: Tag) -> Split:
    """Return the split after which as many tags as possible are served, the old patch's first.

    `fits` has for each tag, in order, whether the old patch and the variant fit.
    """
    if all(is_new for _, is_old, is_new in fits if is_old):
        return Split(None, target > base, tuple(tag for tag, is_old, is_new in fits if not is_new))
    if target > base:
        between = [row for row in fits if base < row[0] <= target]
        at = target
        for tag, is_old, is_new in reversed(between):
            if not is_new or (is_old and all(old for other, old, _ in between if other <= tag)):
                break
            at = tag
        gap = tuple(tag for tag, is_old, is_new in fits if not (is_new if tag >= at else is_old))
        return Split(at, True, gap)
    above = [row for row in fits if target < row[0] <= base]
    at = base
    for tag, is_old, _ in reversed(above):
        if not is_old:
            break
        at = tag
    gap = tuple(tag for tag, is_old, is_new in fits if not (is_old if tag >= at else is_new))
    return Split(at, False, gap)


def narrow(tags: TagRange, *, lower: Tag | None = None, upper: Tag | None = None) -> str:
    """Return the range without the tags below `lower`, and without `upper` and those above it."""
    specifiers = [str(each) for each in tags.specifiers]
    if lower is not None:
        specifiers = [each for each in specifiers if not each.startswith(">=")] + [f">={_version(lower)}"]
    if upper is not None:
        specifiers = [each for each in specifiers if not re.match(r"<[^=]", each)] + [f"<{_version(upper)}"]
    return ",".join(sorted(specifiers, reverse=True))


def _version(tag: Tag) -> str:
    return f"{tag.major}.{tag.minor}.{tag.patch}"


def variant_name(file: str, split: Split) -> str:
    """Return the file name of a variant: 0001-fix-from-22.4.0.patch."""
    assert split.at is not None  # noqa: S101 (callers have a variant; this tells mypy)
    stem = re.sub(r"-(from|before)-\d+\.\d+\.\d+$", "", file.removesuffix(".patch"))
    return f"{stem}-{'from' if split.is_above else 'before'}-{_version(split.at)}.patch"


def edit_row(text: str, file: str, fields: dict[str, str], after: Row | None = None) -> str:
    """Return change.toml with these fields of a [[patch]] table set, and another table below it.

    Comments and the order of everything else stay. Raises PatchError if the table is written in another form.
    """
    for table in _TABLE.finditer(text):
        following = _NEXT.search(text, table.end())
        end = len(text) if following is None else following.start()
        block = text[table.start() : end]
        try:
            [row] = tomllib.loads(block)["patch"]
        except (tomllib.TOMLDecodeError, KeyError, ValueError):
            continue
        if row.get("file") != file:
            continue
        for name, value in fields.items():
            block = _set(block, name, value)
        if after is not None:
            block = block.rstrip("\n") + "\n" + render_row(after) + ("\n" if following else "")
        edited = text[: table.start()] + block + text[end:]
        rows = {row.get("file"): row for row in tomllib.loads(edited)["patch"]}
        if all(rows[file].get(name) == value for name, value in fields.items()):
            return edited
    raise PatchError(
        f"change.toml has no [[patch]] table for {file} that can be edited.",
        remedy='Write it with one field per line, as in file = "0001-what.patch".',
    )


def _set(block: str, name: str, value: str) -> str:
    line = f"{name} = {quote(value)}"
    field = re.compile(rf"^{name}[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*\"|'[^'\n]*')", re.MULTILINE)
    if field.search(block):
        return field.sub(lambda _: line, block, count=1)
    return re.sub(r"^(file[^\n]*\n)", lambda match: f"{match[1]}{line}\n", block, count=1, flags=re.MULTILINE)
