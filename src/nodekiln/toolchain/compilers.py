"""The C and C++ compilers: family, version, and checks that they compile, link and find <sys/sdt.h>.

Runs them as configure.py does (try_check_compiler), so that both find the same compiler.
"""

from __future__ import annotations

import errno
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodekiln.core.errors import KilnError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture, error_line
from nodekiln.toolchain.environment import Command, Unusable, resolve, stray
from nodekiln.toolchain.launchers import Launcher
from nodekiln.toolchain.model import Finding, Severity, search_path, temporary_folder

Version = tuple[int, ...]

_LANGUAGE = {"CC": "c", "CXX": "c++"}
_MACROS = (
    b"__clang__ __GNUC__ __GNUC_MINOR__ __GNUC_PATCHLEVEL__ "
    b"__clang_major__ __clang_minor__ __clang_patchlevel__ __apple_build_version__"
)
_SOURCES = {
    "c": '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n',
    "c++": (Path(__file__).with_name("try.cc")).read_text(),
}
_CANDIDATES = {"c": ("gcc", "clang"), "c++": ("g++", "clang++")}
ERROR_LINE = re.compile(r"error|cannot|not found", re.IGNORECASE)
_NEWEST_SUFFIX, _OLDEST_SUFFIX = 22, 8
"""g++-8 to clang++-22 are suggested if they are installed."""
_PROBE_PACKAGES = (
    "apt install systemtap-sdt-dev (Debian, Ubuntu), dnf install systemtap-sdt-devel (Fedora), pacman -S"
    " systemtap (Arch); Alpine has no package (alpinelinux/docker-alpine#20): copy sys/sdt.h from SystemTap's"
    " sources. Or build with --no-probes."
)


class Family(StrEnum):
    """The compiler families, each with version numbers of its own."""

    GCC = "gcc"
    CLANG = "clang"
    APPLE = "Apple clang"


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler that works; `spelled` is its text in CC or CXX (`variable`)."""

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
    """Return (12, 2, 0) as 12.2.0."""
    return ".".join(map(str, version))


def spelling(variable: str, env: Mapping[str, str], platform: str) -> str:
    """Return CC or CXX as configure.py reads it: its value, even if empty, or Node's default."""
    defaults = {"CC": "cc", "CXX": "c++"} if platform == "darwin" else {"CC": "gcc", "CXX": "g++"}
    return env.get(variable, defaults[variable])


def probe(variable: str, env: Mapping[str, str], platform: str) -> Compiler | Finding:
    """Return the compiler in CC or CXX with family and version, or an error."""
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
        return _no_answer(variable, spelled, str(error))
    values = answer.stdout.decode(errors="replace").split()[-8:]
    if answer.returncode != 0 or len(values) != 8 or not (values[1] + values[2] + values[3]).isdecimal():
        return _no_answer(variable, spelled, error_line(answer.text, ERROR_LINE))
    is_clang = values[0] == "1"
    numbers = values[4:7] if is_clang else values[1:4]
    family = Family.GCC if not is_clang else Family.APPLE if values[7].isdecimal() else Family.CLANG
    return Compiler(variable, spelled, command, family, tuple(map(int, numbers)))


def launched(compiler: Compiler, launcher: Launcher) -> str:
    """Return CC or CXX for the build: with the launcher in front of the compiler if it adds one."""
    added = launcher.in_front(compiler.command)
    return compiler.spelled if added is None else compiler.command.behind(added)


def check_builds(
    compiler: Compiler, env: Mapping[str, str], launcher: Launcher, standard: str | None = None
) -> Iterator[Finding]:
    """Yield an error if compiling, linking or running a small program fails (`standard`: None: default).

    Runs the command that the build gets; if that fails, the compiler alone shows whether the launcher fails.
    """
    words = shlex.split(launched(compiler, launcher))
    failure = _compile_program(words, compiler, {**env, **launcher.settings}, standard)
    if not failure:
        return
    alone = _compile_program(compiler.command.words, compiler, env, standard)
    if not alone and (added := launcher.in_front(compiler.command)) is not None:
        yield _launcher_fails(added, str(launcher), failure)
    else:
        yield _fails(compiler, standard, alone or failure)


def _compile_program(
    words: Sequence[str], compiler: Compiler, env: Mapping[str, str], standard: str | None
) -> str:
    """Return the error of compiling, linking and running a small program; empty on success.

    In two steps, as in a build: ccache passes on a command that does both without using its folder.
    """
    flags = () if standard is None else (f"-std={standard}",)
    try:
        with temporary_directory(temporary_folder(env)) as folder:
            source = Path(folder, "try.cc" if compiler.language == "c++" else "try.c")
            source.write_text(_SOURCES[compiler.language])
            for step in ([*flags, "-c", source.name, "-o", "try.o"], [*flags, "try.o", "-o", "try"]):
                answer = capture([*words, *step], env=env, cwd=folder)
                if answer.returncode != 0:
                    return error_line(answer.text, ERROR_LINE)
            return _run_program(Path(folder, "try"), env)
    except (OSError, KilnError) as error:
        return str(error)


def _run_program(program: Path, env: Mapping[str, str]) -> str:
    """Return why a linked program fails, as for a library that the loader does not find; empty on success.

    A program for another processor, or in a folder that allows none, says nothing about the compiler.
    """
    try:
        answer = capture([str(program)], env=env)
    except OSError as error:
        return "" if error.errno in (errno.ENOEXEC, errno.EACCES) else str(error)
    return "" if answer.returncode == 0 else f"the program fails: {error_line(answer.text)}"


def check_mixed(cc: Compiler, cxx: Compiler) -> Iterator[Finding]:
    """Yield a warning if C and C++ compilers are of two families."""
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
        f"{variable} is not set, and {spelled} was not found on PATH.",
        f"Node is built with {spelled} unless {variable} names another compiler.",
        f"Install it ({install}), or set {variable} to another compiler{hint}.",
    )


def _installed(language: str, env: Mapping[str, str]) -> list[str]:
    path = search_path(env)
    suffixes = ["", *(f"-{number}" for number in range(_NEWEST_SUFFIX, _OLDEST_SUFFIX - 1, -1))]
    names = [name + suffix for name in _CANDIDATES[language] for suffix in suffixes]
    return [name for name in names if shutil.which(name, path=path)][:4]


def _no_answer(variable: str, spelled: str, output: str) -> Finding:
    return Finding(
        Severity.ERROR,
        variable,
        f"{variable} is {spelled!r}, which does not work as a compiler: {output}",
        "configure asks it for its version with the same command.",
        f"unset {variable}, or set it to a compiler.",
    )


def _launcher_fails(added: str, launcher: str, failure: str) -> Finding:
    show = f" ({added} --show-config prints its folder)" if added == "ccache" else ""
    return Finding(
        Severity.ERROR,
        added,
        f"Compiling a small program with {launcher} failed, but works without it: {failure}",
        f"{added} is on PATH, so the build uses it in front of CC and CXX.",
        f"Repair it{show}, or build without it: --launcher none",
    )


def _fails(compiler: Compiler, standard: str | None, failure: str) -> Finding:
    how = "" if standard is None else f" with -std={standard}"
    return Finding(
        Severity.ERROR,
        compiler.variable,
        f"{compiler}; compiling, linking and running a small program{how} failed: {failure}",
        "Every file of Node would fail too."
        if standard is None
        else f"This tag is compiled with -std={standard}.",
        f"Install a newer compiler with its standard library, or set {compiler.variable} to another one.",
    )


def check_probe_headers(cxx: Compiler, env: Mapping[str, str], platform: str) -> Iterator[Finding]:
    """Yield an error if <sys/sdt.h> (Linux) or the program dtrace (elsewhere) is missing. About 0.02 s."""
    if platform != "linux":
        if shutil.which("dtrace", path=search_path(env)) is None:
            yield _no_probes("dtrace was not found on PATH.", "Install DTrace, or build with --no-probes.")
        return
    argv = [*cxx.command.own, "-E", "-x", "c++", "-", "-o", "/dev/null"]
    try:
        answer = capture(argv, env=env, stdin=b"#include <sys/sdt.h>\n", timeout=20)
    except (OSError, KilnError):
        return  # the check of the compiler reports that
    if answer.returncode != 0:
        yield _no_probes("<sys/sdt.h> was not found.", _PROBE_PACKAGES)


def _no_probes(what: str, remedy: str) -> Finding:
    return Finding(
        Severity.ERROR, "probes", what, "Node's USDT probes are compiled with it (nodejs/node#150).", remedy
    )
