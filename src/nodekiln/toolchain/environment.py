"""Environment variables that reach the build, and the compiler commands in them ("ccache g++ -m32").

Reads variables.toml and PATH; runs nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodekiln.toolchain.model import Finding, Request, Severity, search_path

_SHOWN = 60
"""Characters of a value that a message shows: conda's CFLAGS alone have over 300."""
_LAUNCHERS = frozenset({"buildcache", "ccache", "distcc", "env", "icecc", "sccache"})


@dataclass(frozen=True, slots=True)
class _Variables:
    compilers: tuple[str, ...]
    make_compilers: tuple[str, ...]
    leaks: Mapping[str, tuple[str, str]]


@cache
def _variables() -> _Variables:
    data = tomllib.loads(Path(__file__).with_name("variables.toml").read_text())
    suffixes = data["compiler"]["suffixes"]
    return _Variables(
        compilers=tuple(name + suffix for name in data["compiler"]["names"] for suffix in suffixes),
        make_compilers=tuple(name + suffix for name in data["compiler"]["make_names"] for suffix in suffixes),
        leaks={
            name: (row["why"], row.get("remedy", f"env -u {name} ./inv ..., or build with --clean-env."))
            for row in data["leak"]
            for name in row["names"]
        },
    )


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without variables that leak into a build and without stray compiler variables.

    A stray variable is empty, names no program, or names one in an active conda environment.
    """
    strays = _variables().compilers + _variables().make_compilers
    return {
        name: value
        for name, value in environ.items()
        if name not in _variables().leaks and not (name in strays and _is_stray(value, environ))
    }


def _is_stray(value: str, environ: Mapping[str, str]) -> bool:
    command = resolve(value, search_path(environ))
    if isinstance(command, Unusable):
        return True
    conda = environ.get("CONDA_PREFIX")
    return bool(conda) and command.program.is_relative_to(Path(conda or "/").resolve())


def children_environment(request: Request) -> dict[str, str]:
    """Return the environment of configure and the build: the caller's, cleaned with --clean-env."""
    return clean_environment(request.environ) if request.tools.clean_env else dict(request.environ)


def check_leaks(request: Request) -> Iterator[Finding]:
    """Yield a warning for each leaking variable; with --clean-env, a note of the dropped ones."""
    if request.tools.clean_env:
        dropped = sorted(set(request.environ) - set(clean_environment(request.environ)))
        if dropped:
            names = ", ".join(dropped)
            yield Finding(Severity.NOTE, "environment", f"--clean-env dropped {names}.", "", "")
        return
    for name, (why, remedy) in _variables().leaks.items():
        if value := request.environ.get(name):
            yield Finding(Severity.WARNING, name, f"{name} is set to {_shortened(value)}.", why, remedy)


def check_compiler_variables(
    env: Mapping[str, str], generator: str, skip: frozenset[str]
) -> Iterator[Finding]:
    """Yield an error for each variable that should name a program and does not, except those in `skip`."""
    names = _variables().compilers + (_variables().make_compilers if generator == "make" else ())
    for name in names:
        if name in env and name not in skip:
            command = resolve(env[name], search_path(env))
            if isinstance(command, Unusable):
                yield stray(name, env[name], command)


def stray(name: str, value: str, unusable: Unusable, hint: str = "") -> Finding:
    """Return the error for a variable that does not name a program; `hint` names possible ones."""
    if not value.strip():
        what = f"{name} is set, but empty."
    else:
        what = f"{name} is {_shortened(value)}, and {unusable.why}."
    if name in {"CC", "CXX"}:
        why = "configure ignores it and make fails, or configure ends in a ValueError (nodejs/node#59434)."
    else:
        why = "gyp copies it into the build files, and the build fails."
    return Finding(
        Severity.ERROR,
        name,
        what,
        why,
        f"unset {name}, or install what it names{hint}.",
    )


def _shortened(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "...")


# Commands


@dataclass(frozen=True, slots=True)
class Command:
    """A compiler command.

    `words` is all of it; `launcher` the caching or distributing program in front, if any, also one that is
    installed under the compiler's name (/usr/lib/ccache/g++); `own` the words from the compiler on; `program`
    the compiler's file with links resolved.
    """

    words: tuple[str, ...]
    launcher: str | None
    own: tuple[str, ...]
    program: Path

    def behind(self, launcher: str) -> str:
        """Return this command as text with a launcher in front of the compiler, after env's settings."""
        before = len(self.words) - len(self.own)
        return shlex.join((*self.words[:before], launcher, *self.words[before:]))


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a command can't be run, as a clause ("..., and `why`")."""

    why: str


def resolve(text: str, path: str) -> Command | Unusable:
    """Split `text` as configure does and find its compiler on `path`, behind any launchers."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        return Unusable("it has an unclosed quote")
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
    return _find_behind_links(words, launcher, rest, path)


def _missing(word: str, path: str) -> Unusable | None:
    if os.sep in word and not word.startswith(os.sep):
        return Unusable(f"{word} is a relative path: configure runs in another folder")
    if shutil.which(word, path=path) is None:
        return Unusable(f"{word} does not exist" if os.sep in word else f"{word} was not found on PATH")
    return None


def _after_launcher(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words without a launcher and its settings (CCACHE_DIR=..., env's -u NAME)."""
    position = 1
    while position < len(words) and ("=" in words[position] or words[position].startswith("-")):
        position += 2 if words[position] in {"-u", "--unset"} else 1
    return words[position:]


def _find_behind_links(
    words: tuple[str, ...], launcher: str | None, own: tuple[str, ...], path: str
) -> Command | Unusable:
    """Find the compiler behind links of its name to a launcher (/usr/lib/ccache on PATH)."""
    folders = [None] if os.sep in own[0] else path.split(os.pathsep)
    for folder in folders:
        found = shutil.which(own[0], path=path if folder is None else folder)
        if found is None:
            continue
        program = Path(found).resolve()
        if program.name not in _LAUNCHERS:
            return Command(words, launcher, (found, *own[1:]), program)
        launcher = launcher or program.name
    return Unusable(f"{own[0]} is only a launcher, without a compiler behind it")
