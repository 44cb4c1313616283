"""The programs that build besides compilers: ninja or make, and the Python that ./configure runs with.

That Python is not the one that runs nodekiln: configure looks for its own on PATH.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.model import Finding, Request, Severity, search_path

Generator = Literal["ninja", "make"]

# ninja is ninja-build in older Fedora and RHEL; GNU make may be gmake on other systems than Linux.
_PROGRAMS: Mapping[Generator, tuple[str, ...]] = {
    "ninja": ("ninja", "ninja-build"),
    "make": ("make", "gmake"),
}


@dataclass(frozen=True, slots=True)
class BuildTool:
    """ninja or make; `generator` is the kind of build files that gyp writes."""

    generator: Generator
    program: str


def choose_build_tool(request: Request, env: Mapping[str, str]) -> BuildTool | Finding:
    """Return ninja if it is installed, otherwise make; an error if neither is."""
    wanted: tuple[Generator, ...] = ("ninja",) if "--ninja" in request.configure_args else ("ninja", "make")
    for generator in wanted:
        for name in _PROGRAMS[generator]:
            if shutil.which(name, path=search_path(env)):
                return BuildTool(generator, name)
    install = {
        "ninja": "ninja (apt install ninja-build, dnf install ninja-build, brew install ninja)",
        "make": "make (apt install make, dnf install make, xcode-select --install)",
    }
    return Finding(
        Severity.ERROR,
        wanted[0],
        f"{' and '.join(wanted)} {'were' if len(wanted) > 1 else 'was'} not found on PATH.",
        "configure only writes the build files; one of them has to run them.",
        f"Install {' or '.join(install[generator] for generator in wanted)}.",
    )


_ROOT = Path("/")
"""The working directory of the Pythons: they would import a gyp/ in the current folder."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that works: its path as found on PATH, and its version as (3, 13)."""

    path: str
    version: tuple[int, int]


def find_interpreter(names: Iterable[str], env: Mapping[str, str]) -> Interpreter | Finding:
    """Return the first of `names` on PATH, as ./configure does, with its version."""
    for name in names:
        if (path := shutil.which(name, path=search_path(env))) is not None:
            return _ask(path, env)
    return Finding(
        Severity.ERROR,
        "python",
        "python3 was not found on PATH.",
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
        off = f"remove {folder} from PATH."
        return Finding(
            Severity.ERROR,
            "python",
            f"{path} does not run.",
            "./configure uses the first Python of its list on PATH, which is this one.",
            f"PYENV_VERSION={name.removeprefix('python')} ./inv ..., or {off}"
            if folder.name == "shims"
            else f"Repair it, or {off}",
        )
    return Interpreter(path, (major, minor))


def check_accepted(
    interpreter: Interpreter, accepted: tuple[tuple[int, int], ...], tag: str
) -> Iterator[Finding]:
    """Yield an error if ./configure of `tag` rejects this Python."""
    if accepted and interpreter.version not in accepted:
        found, oldest, newest = (
            ".".join(map(str, v)) for v in (interpreter.version, min(accepted), max(accepted))
        )
        yield Finding(
            Severity.ERROR,
            "python",
            f"./configure would run {interpreter.path}, which is Python {found}.",
            f"{tag} accepts {oldest} to {newest} and stops with 'Please use python{newest} or ...'.",
            f"Put one of those on PATH as python{newest} (pyenv install {newest}, uv python install ...).",
        )


def check_modules(
    interpreter: Interpreter, modules: Mapping[str, tuple[str, str]], env: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield an error for each of `modules` (name: why it is needed, remedy) that this Python can't import."""
    for module, (why, remedy) in modules.items():
        # -W ignore: Python 3.10 and 3.11 warn about distutils.
        argv = [interpreter.path, "-W", "ignore", "-c", f"import {module}"]
        try:
            missing = capture(argv, env=env, cwd=_ROOT, timeout=20).returncode != 0
        except (OSError, KilnError):
            missing = True
        if missing:
            yield Finding(Severity.ERROR, module, f"{interpreter.path} has no module {module}.", why, remedy)
