"""The Python that a tag's ./configure will run with, and the modules that it must find there.

Not the Python that runs us: configure looks for its own on PATH.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.request import search_path

_ROOT = Path("/")
"""Where Pythons are asked: in a folder with a gyp/ of its own they would find that one."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that runs: its path as found on PATH, and its version as (3, 13)."""

    path: str
    version: tuple[int, int]


def find_interpreter(walk: Iterable[str], env: Mapping[str, str]) -> Interpreter | Finding:
    """Takes the first of `walk` that PATH has, as ./configure does, and asks its version."""
    for name in walk:
        if (path := shutil.which(name, path=search_path(env))) is not None:
            return _ask(path, env)
    return Finding(
        Severity.ERROR,
        "python",
        "There is no python3 on PATH.",
        "configure and gyp are Python programs.",
        "Install Python 3 (apt install python3, dnf install python3, brew install python).",
    )


def _ask(path: str, env: Mapping[str, str]) -> Interpreter | Finding:
    try:
        answer = capture(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], env=env, cwd=_ROOT, timeout=20
        )
        major, minor = map(int, answer.stdout.split())
    except (OSError, KilnError, ValueError):
        folder, name = Path(path).parent, Path(path).name
        off = f"take {folder} off PATH."
        return Finding(
            Severity.ERROR,
            "python",
            f"{path} does not run.",
            "./configure takes the first Python of its list that PATH has, and stops at this one.",
            f"PYENV_VERSION={name.removeprefix('python')} ./inv ..., or {off}"
            if folder.name == "shims"
            else f"Repair it, or {off}",
        )
    return Interpreter(path, (major, minor))


def check_accepted(
    interpreter: Interpreter, accepted: tuple[tuple[int, int], ...], tag: str
) -> Iterator[Finding]:
    """An error where ./configure of `tag` would turn this Python down."""
    if accepted and interpreter.version not in accepted:
        found, oldest, newest = (
            ".".join(map(str, v)) for v in (interpreter.version, min(accepted), max(accepted))
        )
        yield Finding(
            Severity.ERROR,
            "python",
            f"./configure will run {interpreter.path}, which is Python {found}.",
            f"{tag} accepts {oldest} to {newest} and stops with 'Please use python{newest} or ...'.",
            f"Put one of those on PATH as python{newest} (pyenv install {newest}, uv python install ...).",
        )


def check_modules(
    interpreter: Interpreter, modules: Mapping[str, tuple[str, str]], env: Mapping[str, str]
) -> Iterator[Finding]:
    """An error for each of `modules` (name: why it is needed, what to do) that this Python can't import."""
    for module, (why, remedy) in modules.items():
        # -W ignore: Python 3.10 and 3.11 have distutils and a warning about it.
        argv = [interpreter.path, "-W", "ignore", "-c", f"import {module}"]
        try:
            missing = capture(argv, env=env, cwd=_ROOT, timeout=20).returncode != 0
        except (OSError, KilnError):
            missing = True
        if missing:
            yield Finding(Severity.ERROR, module, f"{interpreter.path} has no module {module}.", why, remedy)
