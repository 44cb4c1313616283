"""The toolchain as a value: what building runs, and what tells one toolchain from another."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from nodekiln.core.edit import Read
from nodekiln.core.process import capture
from nodekiln.toolchain.build_tools import Generator, Maker, choose_maker
from nodekiln.toolchain.compilers import Compiler, launched, probe
from nodekiln.toolchain.environment import children_environment
from nodekiln.toolchain.findings import Finding, error_of
from nodekiln.toolchain.interpreters import Interpreter, find_interpreter
from nodekiln.toolchain.launchers import Launcher, choose_launcher
from nodekiln.toolchain.linkers import Linker, choose_linker
from nodekiln.toolchain.request import Request
from nodekiln.toolchain.requirements import any_python, read_requirements


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """What a build runs with.

    `cc` and `cxx` are as the user or Node spells them, with the launcher in front where that adds something.
    `identity` changes when a compiler does, and only then. `caller_env` is the user's; `build_env` adds what
    launcher and linker want, and `configure_env` untranslated messages to that, which configure reads (the
    build keeps the user's locale, as ccache's keys hold it).
    """

    cc: str
    cxx: str
    launcher: Launcher
    linker: Linker
    caller_env: Mapping[str, str]
    configure_env: Mapping[str, str]
    build_env: Mapping[str, str]
    make_argv: tuple[str, ...]
    generator: Generator
    python: str
    identity: str
    libc: str


def detect(request: Request, read: Read) -> Toolchain:
    """The toolchain that the request gets; `read` answers for the tag's files. About 0.1 s.

    Raises ToolchainError where compiler, Python or ninja and make are missing, or the launcher or linker that
    was asked for.
    """
    env = children_environment(request)
    walk = any_python() if request.tag is None else read_requirements(request.tag, read).walk
    answers: tuple[object, ...] = (
        probe("CC", env, request.platform),
        probe("CXX", env, request.platform),
        choose_maker(request, env),
        find_interpreter(walk, env),
    )
    match answers:
        case (Compiler() as cc, Compiler() as cxx, Maker() as maker, Interpreter() as python):
            launcher = choose_launcher(request.launcher, (cc.command, cxx.command), env, request.build_dir)
            linker = choose_linker(request, cxx, env)
            match launcher, linker:
                case (Launcher(), Linker()):
                    return _assemble(request, env, cc, cxx, maker, python.path, launcher, linker)
            answers = (launcher, linker)
    raise error_of(tuple(answer for answer in answers if isinstance(answer, Finding)))


def _assemble(
    request: Request,
    env: Mapping[str, str],
    cc: Compiler,
    cxx: Compiler,
    maker: Maker,
    python: str,
    launcher: Launcher,
    linker: Linker,
) -> Toolchain:
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
        make_argv=maker.argv,
        generator=maker.generator,
        python=python,
        identity="\n".join(_identity(each, env) for each in (cc, cxx)),
        libc=_libc(cc, env, request.platform),
    )


def _identity(compiler: Compiler, env: Mapping[str, str]) -> str:
    """Program, options, version line and target, asked past the launcher."""
    version, target = (_ask(compiler, option, env) for option in ("--version", "-dumpmachine"))
    options = " ".join(compiler.command.own[1:])
    return f"{compiler.variable}: {compiler.command.program} [{options}] {version} ({target})"


def _ask(compiler: Compiler, option: str, env: Mapping[str, str]) -> str:
    """The first line of the answer, in English whatever the user's locale."""
    answer = capture([*compiler.command.own, option], env={**env, "LC_ALL": "C"}, timeout=20)
    return answer.stdout.decode(errors="replace").partition("\n")[0].strip()


def _libc(cc: Compiler, env: Mapping[str, str], system: str) -> str:
    """glibc 2.41, musl, macOS 14.5: what binaries of this compiler need of the system."""
    if system == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    asked = b"#include <features.h>\n__GLIBC__ __GLIBC_MINOR__\n"
    answer = capture([*cc.command.own, "-E", "-P", "-x", "c", "-"], env=env, stdin=asked, timeout=20)
    match answer.stdout.decode(errors="replace").split()[-2:]:
        case [major, minor] if major.isdecimal() and minor.isdecimal():
            return f"glibc {major}.{minor}"
    return "musl" if "musl" in _ask(cc, "-dumpmachine", env) else "unknown libc"
