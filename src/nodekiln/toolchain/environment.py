"""Variables of the caller's that reach the build: which of them would change or break it.

The names and the reasons stand in variables.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodekiln.toolchain.commands import Unusable, resolve
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.request import Request, search_path

_SHOWN = 60
"""Characters of a value that a message shows: conda's CFLAGS alone have over 300."""


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
            name: (row["why"], row.get("remedy", f"env -u {name} ./inv ..., or give --clean-env."))
            for row in data["leak"]
            for name in row["names"]
        },
    )


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without the variables that leak into a build and without stray compiler variables.

    Stray are those that are empty, name no program, or name one inside an active conda environment.
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
    """What configure and the build start from: the caller's environment, cleaned where that was asked for."""
    return clean_environment(request.environ) if request.clean_env else dict(request.environ)


def check_leaks(request: Request) -> Iterator[Finding]:
    """A warning for each variable that leaks into the build; with --clean-env a note of what was dropped."""
    if request.clean_env:
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
    """An error for each variable that should name a program and doesn't, those in `skip` left out."""
    names = _variables().compilers + (_variables().make_compilers if generator == "make" else ())
    for name in names:
        if name in env and name not in skip:
            command = resolve(env[name], search_path(env))
            if isinstance(command, Unusable):
                yield stray(name, env[name], command)


def stray(name: str, value: str, unusable: Unusable, hint: str = "") -> Finding:
    """The error for a variable that should name a program and doesn't; `hint` says what could be used."""
    if not value.strip():
        what = f"{name} is set, but empty."
    else:
        what = f"{name} is {_shortened(value)}, and {unusable.why}."
    if name in {"CC", "CXX"}:
        why = "configure goes on without it and make fails, or it ends in a ValueError (nodejs/node#59434)."
    else:
        why = "gyp writes it into the build files as it stands, and the build fails there."
    return Finding(
        Severity.ERROR,
        name,
        what,
        why,
        f"unset {name}, or install what it names{hint}.",
    )


def _shortened(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "...")
