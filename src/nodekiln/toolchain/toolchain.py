"""The toolchain of a build: its programs, checks that they work, and the value that building takes."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nodekiln.core.edit import Read
from nodekiln.core.process import capture
from nodekiln.toolchain.build_tools import (
    BuildTool,
    Generator,
    Interpreter,
    check_accepted,
    check_modules,
    choose_build_tool,
    find_interpreter,
)
from nodekiln.toolchain.compilers import (
    Compiler,
    check_builds,
    check_mixed,
    check_probe_headers,
    launched,
    probe,
)
from nodekiln.toolchain.environment import check_compiler_variables, check_leaks, children_environment
from nodekiln.toolchain.farms import check_farm, slots
from nodekiln.toolchain.launchers import Launcher, choose_launcher
from nodekiln.toolchain.linkers import Linker, choose_linker
from nodekiln.toolchain.machine_checks import check_autocrlf, check_resources, check_runs_programs
from nodekiln.toolchain.model import Finding, Findings, Request, Severity, error_of
from nodekiln.toolchain.requirements import (
    WITHOUT_TEMPORAL,
    Requirements,
    any_python,
    check_rust,
    check_version,
    read_requirements,
)

_MODULES = {
    "distutils": (
        "This tag imports it, and Python 3.12 dropped it (nodejs/node#50582).",
        "Use Python 3.11 (pyenv install 3.11, uv python install 3.11), or install setuptools for this one.",
    ),
    "gyp": (
        "This tag's tree has no tools/gyp, as in the source packages of distributions.",
        "apt install gyp, or pip install gyp-next for this Python.",
    ),
    "packaging": (
        "This tag's configure.py imports it, and its tree has no tools/gyp that includes it.",
        "apt install python3-packaging, or pip install packaging for this Python.",
    ),
}


class Programs:
    """The programs that a build uses, each looked up and run once; a Finding for one that can't be used."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.env = children_environment(request)
        self._requirements: Requirements | None = None

    @cached_property
    def cc(self) -> Compiler | Finding:
        return probe("CC", self.env, self.request.platform)

    @cached_property
    def cxx(self) -> Compiler | Finding:
        return probe("CXX", self.env, self.request.platform)

    def requirements(self, read: Read) -> Requirements:
        """Return the requirements of the request's tag; raise ValueError if it has no tag."""
        if self._requirements is None:
            if self.request.tag is None:
                raise ValueError("the request has no tag")
            self._requirements = read_requirements(self.request.tag, read)
        return self._requirements

    @property
    def compilers(self) -> tuple[Compiler, ...]:
        """Those of CC and CXX that work."""
        return tuple(each for each in (self.cc, self.cxx) if isinstance(each, Compiler))

    @cached_property
    def build_tool(self) -> BuildTool | Finding:
        return choose_build_tool(self.request, self.env)

    @cached_property
    def launcher(self) -> Launcher | Finding:
        commands = [each.command for each in self.compilers]
        return choose_launcher(self.request.tools.launcher, commands, self.env, self.request.build_dir)

    @cached_property
    def linker(self) -> Linker | Finding:
        return self.cxx if isinstance(self.cxx, Finding) else choose_linker(self.request, self.cxx, self.env)


def check_machine(programs: Programs) -> Findings:
    """Return the problems of this machine for any tag. Reads no tree; up to a second."""
    return Findings(tuple(_machine_findings(programs)))


def check_tag(programs: Programs, read: Read) -> Findings:
    """Return the problems of this machine for the request's tag, whose files (PATHS) `read` returns.

    Does not repeat the findings of check_machine. Raises ValueError if the request has no tag.
    """
    return Findings(tuple(_tag_findings(programs, read)))


def _machine_findings(programs: Programs) -> Iterator[Finding]:
    request, env = programs.request, programs.env
    yield from check_leaks(request)
    resources = tuple(check_resources(request, env))
    yield from resources
    yield from check_runs_programs(request.build_dir)
    yield from check_autocrlf(request.build_dir, env)
    tool = programs.build_tool
    if isinstance(tool, Finding):
        yield tool
    yield from (each for each in (programs.cc, programs.cxx) if isinstance(each, Finding))
    generator = "ninja" if isinstance(tool, Finding) else tool.generator
    yield from check_compiler_variables(env, generator, skip=frozenset({"CC", "CXX"}))
    full = any(finding.subject == "TMPDIR" and finding.severity is Severity.ERROR for finding in resources)
    if not full:  # a compiler would report the same again
        # A launcher that fails does so for both compilers, which is one problem.
        yield from dict.fromkeys(_launcher_findings(programs))
    if len(programs.compilers) == 2:
        cc, cxx = programs.compilers
        yield from check_mixed(cc, cxx)
        # By default, a linker that can't be used is skipped.
        if request.tools.linker is not None and isinstance(programs.linker, Finding):
            yield programs.linker
        if request.probes:
            yield from check_probe_headers(cxx, env, request.platform)
    python = find_interpreter(any_python(), env)
    if isinstance(python, Finding):
        yield python


def _launcher_findings(programs: Programs) -> Iterator[Finding]:
    launcher = programs.launcher
    if isinstance(launcher, Finding):
        yield launcher
        return
    if launcher.is_remote:
        yield from check_farm(launcher, programs.env)
    for each in programs.compilers:
        yield from check_builds(each, programs.env, launcher)


def _tag_findings(programs: Programs, read: Read) -> Iterator[Finding]:
    request, env, cxx = programs.request, programs.env, programs.cxx
    needs = programs.requirements(read)
    python = find_interpreter(needs.python_names, env)
    if isinstance(python, Finding):
        yield python
    else:
        yield from check_accepted(python, needs.pythons, str(needs.tag))
        modules = {name: _MODULES[name] for name in needs.modules_missing}
        yield from check_modules(python, modules, env)
    if isinstance(cxx, Compiler):
        problems = tuple(check_version(cxx, needs))
        yield from problems
        if not problems and needs.standard:
            # Without a launcher: check_machine has tried that, and a farm need not get this program.
            yield from check_builds(cxx, env, Launcher(), needs.standard)
    if needs.rust and WITHOUT_TEMPORAL not in request.configure_args:
        yield from check_rust(needs, env)


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """The programs and environments of a build.

    `cc` and `cxx` are as the user or Node spells them, with the launcher in front if it adds one. `identity`
    changes when a compiler changes, and only then. `caller_env` is the user's environment; `build_env` adds
    the settings of launcher and linker, and `configure_env` untranslated messages, which configure parses
    (the build keeps the user's locale, which is part of ccache's keys).
    """

    cc: str
    cxx: str
    launcher: Launcher
    linker: Linker
    caller_env: Mapping[str, str]
    configure_env: Mapping[str, str]
    build_env: Mapping[str, str]
    build_program: str
    generator: Generator
    python: str
    identity: str
    libc: str

    @cached_property
    def farm_slots(self) -> int | None:
        """The compilations that the farm runs at once; None without a farm, or if that is unknown."""
        return slots(self.launcher, self.build_env) if self.launcher.is_remote else None


def detect(programs: Programs, read: Read) -> Toolchain:
    """Return the toolchain for the request; `read` returns the tag's files. About 0.1 s.

    Raises ToolchainError if compilers, Python, ninja and make, or the requested launcher or linker are
    missing.
    """
    request, env = programs.request, programs.env
    names = any_python() if request.tag is None else programs.requirements(read).python_names
    python = find_interpreter(names, env)
    match programs.cc, programs.cxx, programs.build_tool, python:
        case (Compiler() as cc, Compiler() as cxx, BuildTool() as tool, Interpreter()):
            pass
        case answers:
            raise error_of(tuple(answer for answer in answers if isinstance(answer, Finding)))
    match programs.launcher, programs.linker:
        case (Launcher() as launcher, Linker() as linker):
            pass
        case choices:
            raise error_of(tuple(choice for choice in choices if isinstance(choice, Finding)))
    spelled = {each.variable: launched(each, launcher) for each in (cc, cxx)}
    build_env = {**env, **launcher.settings, **spelled}
    if linker.flags:
        build_env["LDFLAGS"] = f"{env.get('LDFLAGS', '')} {linker.flags}".lstrip()
    return Toolchain(
        cc=spelled["CC"],
        cxx=spelled["CXX"],
        launcher=launcher,
        linker=linker,
        caller_env=env,
        configure_env={**build_env, "LC_ALL": "C"},
        build_env=build_env,
        build_program=tool.program,
        generator=tool.generator,
        python=python.path,
        identity="\n".join(_identity(each, env) for each in (cc, cxx)),
        libc=_libc(cc, env, request.platform),
    )


def _identity(compiler: Compiler, env: Mapping[str, str]) -> str:
    """Return program, options, version line and target, without the launcher."""
    version, target = (_ask(compiler, option, env) for option in ("--version", "-dumpmachine"))
    options = " ".join(compiler.command.own[1:])
    return f"{compiler.variable}: {compiler.command.program} [{options}] {version} ({target})"


def _ask(compiler: Compiler, option: str, env: Mapping[str, str]) -> str:
    """Return the first line of the output, in English."""
    answer = capture([*compiler.command.own, option], env={**env, "LC_ALL": "C"}, timeout=20)
    return answer.stdout.decode(errors="replace").partition("\n")[0].strip()


def _libc(cc: Compiler, env: Mapping[str, str], system: str) -> str:
    """Return the C library that binaries of this compiler require: glibc 2.41, musl, macOS 14.5."""
    if system == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    source = b"#include <features.h>\n__GLIBC__ __GLIBC_MINOR__\n"
    answer = capture([*cc.command.own, "-E", "-P", "-x", "c", "-"], env=env, stdin=source, timeout=20)
    match answer.stdout.decode(errors="replace").split()[-2:]:
        case [major, minor] if major.isdecimal() and minor.isdecimal():
            return f"glibc {major}.{minor}"
    return "musl" if "musl" in _ask(cc, "-dumpmachine", env) else "unknown libc"
