"""The C and C++ compilers: what they are, and whether they compile and link.

Asks them as configure.py does (try_check_compiler), so that both always mean the same compiler.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.commands import Command, Unusable, resolve
from nodekiln.toolchain.environment import stray
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.launchers import Launcher
from nodekiln.toolchain.request import search_path, temporary_folder

Version = tuple[int, ...]

_LANGUAGE = {"CC": "c", "CXX": "c++"}
_MACROS = (
    b"__clang__ __GNUC__ __GNUC_MINOR__ __GNUC_PATCHLEVEL__ "
    b"__clang_major__ __clang_minor__ __clang_patchlevel__ __apple_build_version__"
)
_SOURCES = {
    "c": '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n',
    # <concepts> is missing where clang takes gnu++20 but an old libstdc++ stands behind it.
    "c++": "#if __cplusplus > 201703L\n#include <concepts>\n#endif\n"
    "#include <string>\nint main(int, char** argv) { return std::string(argv[0]).empty(); }\n",
}
_CANDIDATES = {"c": ("gcc", "clang"), "c++": ("g++", "clang++")}
_NEWEST_SUFFIX, _OLDEST_SUFFIX = 22, 8
"""g++-8 to clang++-22 are looked for when a message names what could be used instead."""


class Family(StrEnum):
    """Whose version numbers a compiler has."""

    GCC = "gcc"
    CLANG = "clang"
    APPLE = "Apple clang"


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler that answers; `spelled` is its text in CC or CXX (`variable`)."""

    variable: str
    spelled: str
    command: Command
    family: Family
    version: Version

    @property
    def language(self) -> str:
        """c or c++, as -x takes it."""
        return _LANGUAGE[self.variable]

    def __str__(self) -> str:
        return f"{self.variable} ({self.spelled}) is {self.family} {dotted(self.version)}"


def dotted(version: Version) -> str:
    """(12, 2, 0) as 12.2.0."""
    return ".".join(map(str, version))


def spelling(variable: str, env: Mapping[str, str], platform: str) -> str:
    """CC or CXX as configure.py takes it: what is set, even when empty, or Node's default."""
    defaults = {"CC": "cc", "CXX": "c++"} if platform == "darwin" else {"CC": "gcc", "CXX": "g++"}
    return env.get(variable, defaults[variable])


def probe(variable: str, env: Mapping[str, str], platform: str) -> Compiler | Finding:
    """Asks the compiler behind CC or CXX for its family and version; an error where there is none."""
    spelled = spelling(variable, env, platform)
    language = _LANGUAGE[variable]
    command = resolve(spelled, search_path(env))
    if isinstance(command, Unusable):
        return _no_compiler(variable, spelled, command, env, platform)
    try:
        answer = capture(
            [*command.words, "-E", "-P", "-x", language, "-"], env=env, stdin=_MACROS, timeout=20
        )
    except (OSError, KilnError) as error:
        return _mute(variable, spelled, str(error))
    values = answer.stdout.decode(errors="replace").split()[-8:]
    if answer.returncode != 0 or len(values) != 8 or not (values[1] + values[2] + values[3]).isdecimal():
        return _mute(variable, spelled, _first_error(answer.text) or f"exit code {answer.returncode}")
    is_clang = values[0] == "1"
    numbers = values[4:7] if is_clang else values[1:4]
    family = Family.GCC if not is_clang else Family.APPLE if values[7].isdecimal() else Family.CLANG
    return Compiler(variable, spelled, command, family, tuple(map(int, numbers)))


def launched(compiler: Compiler, launcher: Launcher) -> str:
    """CC or CXX as the build gets it: with the launcher in front of the compiler, where it adds one."""
    added = launcher.in_front(compiler.command)
    return compiler.spelled if added is None else compiler.command.behind(added)


def check_builds(
    compiler: Compiler, env: Mapping[str, str], launcher: Launcher, standard: str | None = None
) -> Iterator[Finding]:
    """An error where a small program can't be compiled and linked (`standard`: gnu++20, None: default).

    Tries the very words that the build gets; where they fail, the compiler alone tells whose fault it is.
    """
    words = shlex.split(launched(compiler, launcher))
    said = _try_out(words, compiler, {**env, **launcher.settings}, standard)
    if not said:
        return
    alone = _try_out(compiler.command.words, compiler, env, standard)
    if not alone and (added := launcher.in_front(compiler.command)) is not None:
        yield _launcher_fails(added, str(launcher), said)
    else:
        yield _fails(compiler, standard, alone or said)


def _try_out(words: Sequence[str], compiler: Compiler, env: Mapping[str, str], standard: str | None) -> str:
    """What is said about a small program; empty where it compiles and links.

    In two steps, as in a build: ccache hands a command that does both on without a look at its folder.
    """
    flags = () if standard is None else (f"-std={standard}",)
    try:
        with tempfile.TemporaryDirectory(prefix="nodekiln-", dir=temporary_folder(env)) as folder:
            source = Path(folder, "try.cc" if compiler.language == "c++" else "try.c")
            source.write_text(_SOURCES[compiler.language])
            for step in ([*flags, "-c", source.name, "-o", "try.o"], [*flags, "try.o", "-o", "try"]):
                answer = capture([*words, *step], env=env, cwd=Path(folder))
                if answer.returncode != 0:
                    return _first_error(answer.text) or f"exit code {answer.returncode}"
    except (OSError, KilnError) as error:
        return str(error)
    return ""


def check_mixed(cc: Compiler, cxx: Compiler) -> Iterator[Finding]:
    """A warning where C and C++ would be compiled by compilers of two kinds."""
    if (cc.family is Family.GCC) != (cxx.family is Family.GCC):
        yield Finding(
            Severity.WARNING,
            "CC",
            f"{cc}, but {cxx}.",
            "configure takes the flags from CXX and the assembler's version from CC.",
            "Set CC and CXX to one kind: CC=clang CXX=clang++, or neither.",
        )


def _no_compiler(
    variable: str, spelled: str, unusable: Unusable, env: Mapping[str, str], platform: str
) -> Finding:
    others = _installed(_LANGUAGE[variable], env)
    hint = f" (installed: {', '.join(others)})" if others else ""
    if variable in env:
        return stray(variable, spelled, unusable, hint)
    install = (
        "xcode-select --install" if platform == "darwin" else "apt install g++, dnf install gcc-c++, ..."
    )
    return Finding(
        Severity.ERROR,
        variable,
        f"{variable} is not set, and there is no {spelled} on PATH.",
        f"{spelled} is what Node is built with where {variable} names nothing else.",
        f"Install it ({install}), or set {variable} to another compiler{hint}.",
    )


def _installed(language: str, env: Mapping[str, str]) -> list[str]:
    path = search_path(env)
    suffixes = ["", *(f"-{number}" for number in range(_NEWEST_SUFFIX, _OLDEST_SUFFIX - 1, -1))]
    names = [name + suffix for name in _CANDIDATES[language] for suffix in suffixes]
    return [name for name in names if shutil.which(name, path=path)][:4]


def _mute(variable: str, spelled: str, said: str) -> Finding:
    return Finding(
        Severity.ERROR,
        variable,
        f"{variable} is {spelled!r}, which does not answer as a compiler does: {said}",
        "configure asks it for its version, in the same way.",
        f"unset {variable}, or set it to a compiler.",
    )


def _launcher_fails(added: str, launcher: str, said: str) -> Finding:
    show = f" ({added} --show-config tells its folder)" if added == "ccache" else ""
    return Finding(
        Severity.ERROR,
        added,
        f"{launcher} can't compile a small program, which the compiler alone can: {said}",
        f"{added} is on PATH, and so it would stand in front of CC and CXX.",
        f"Put it right{show}, or build without it: --launcher none",
    )


def _fails(compiler: Compiler, standard: str | None, said: str) -> Finding:
    how = "" if standard is None else f" with -std={standard}"
    return Finding(
        Severity.ERROR,
        compiler.variable,
        f"{compiler} can't compile and link a small program{how}: {said}",
        "Every file of Node would fail in the same way."
        if standard is None
        else f"This tag is compiled with -std={standard}.",
        "Install a newer compiler with its standard library, or set "
        f"{compiler.variable} to another one that is installed.",
    )


def _first_error(text: str) -> str:
    """The line that says what is wrong: the first with "error" or "cannot", or the last of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|cannot|not found", line, re.IGNORECASE)]
    return next(iter(telling or lines[-1:]), "")[:300]
