"""Marks grafts whose format has no notes (Mach-O, PE) with a comment in Node's JavaScript.

The comment takes room that the edits left, so that nothing moves; `process.binding('natives')` shows it.
"""

from __future__ import annotations

import re

from nodekiln.core.elf.file import Buffer
from nodekiln.core.recipe import Recipe, Tag

_MARK = re.compile(rb"/\*nodekiln:(v\d{1,4}\.\d{1,4}\.\d{1,4})((?:\+[a-z0-9_-]{1,40}){0,9})\*/")


def make_mark(tag: Tag, changes: tuple[str, ...], implied: tuple[str, ...]) -> bytes:
    """Return the comment. It names the changes unless they are the `implied` ones, for lack of room."""
    named = "" if changes == implied else "".join(f"+{change}" for change in changes)
    return f"/*nodekiln:{tag}{named}*/".encode()


def find_mark(data: Buffer, implied: tuple[str, ...]) -> Recipe | None:
    """Return the recipe that a comment names, without a platform; None unless there is exactly one.

    Reads the whole file (0.05 s for 120 MB).
    """
    found = set(_MARK.findall(data))
    if len(found) != 1:
        return None
    tag, named = found.pop()
    changes = tuple(named.decode().split("+")[1:]) or implied
    return Recipe(tag=Tag.parse(tag.decode()), changes=changes, graft=True)
