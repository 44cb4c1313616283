"""From a compiler as a user spells it ("ccache g++ -m32") to the program that would run.

Looks at PATH, runs nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

_LAUNCHERS = frozenset({"buildcache", "ccache", "distcc", "env", "icecc", "sccache"})


@dataclass(frozen=True, slots=True)
class Command:
    """A command that can be run.

    `words` is the whole of it; `launcher` the caching or distributing program in front, if any, also where
    that hides behind the compiler's name (/usr/lib/ccache/g++); `own` the words from the compiler itself on;
    `program` the compiler's file, with every link followed.
    """

    words: tuple[str, ...]
    launcher: str | None
    own: tuple[str, ...]
    program: Path

    def behind(self, launcher: str) -> str:
        """The text of this command with another launcher in front of the compiler, after env's settings."""
        before = len(self.words) - len(self.own)
        return shlex.join((*self.words[:before], launcher, *self.words[before:]))


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a command can't be run, as the end of a sentence that starts with its text ("..., and `why`")."""

    why: str


def resolve(text: str, path: str) -> Command | Unusable:
    """Splits `text` as configure does and finds its program on `path`, looking through launchers."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        return Unusable("it has an open quote")
    if not words:
        return Unusable("it names no program")
    launcher, rest = None, words
    while rest and (name := os.path.basename(rest[0])) in _LAUNCHERS:  # noqa: PTH119 (a word, not a path)
        if (missing := _missing(rest[0], path)) is not None:
            return missing
        launcher = launcher if name == "env" else launcher or name
        rest = _after_launcher(rest)
    if not rest:
        return Unusable("it names a launcher and no compiler")
    if (missing := _missing(rest[0], path)) is not None:
        return missing
    return _look_through(words, launcher, rest, path)


def _missing(word: str, path: str) -> Unusable | None:
    if os.sep in word and not word.startswith(os.sep):
        return Unusable(f"{word} is a relative path: configure runs in another folder")
    if shutil.which(word, path=path) is None:
        return Unusable(
            f"there is no program {word}" if os.sep in word else f"there is no program {word} on PATH"
        )
    return None


def _after_launcher(words: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves out a launcher with its settings (CCACHE_DIR=..., env's -u NAME)."""
    position = 1
    while position < len(words) and ("=" in words[position] or words[position].startswith("-")):
        position += 2 if words[position] in {"-u", "--unset"} else 1
    return words[position:]


def _look_through(
    words: tuple[str, ...], launcher: str | None, own: tuple[str, ...], path: str
) -> Command | Unusable:
    """Finds the compiler past links of its name that lead to a launcher (/usr/lib/ccache on PATH)."""
    folders = [None] if os.sep in own[0] else path.split(os.pathsep)
    for folder in folders:
        found = shutil.which(own[0], path=path if folder is None else folder)
        if found is None:
            continue
        program = Path(found).resolve()
        if program.name not in _LAUNCHERS:
            return Command(words, launcher, (found, *own[1:]), program)
        launcher = launcher or program.name
    return Unusable(f"behind {own[0]} is only a launcher, no compiler")
