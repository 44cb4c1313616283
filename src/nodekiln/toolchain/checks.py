"""The two looks before a build: at this machine, and at what the tag asks of it.

Each says everything that is wrong, not only the first.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence

from nodekiln.core.edit import Read
from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain import compilers, interpreters
from nodekiln.toolchain.build_tools import choose_maker
from nodekiln.toolchain.compilers import Compiler, Family, dotted
from nodekiln.toolchain.environment import check_compiler_variables, check_leaks, children_environment
from nodekiln.toolchain.farms import check_farm
from nodekiln.toolchain.findings import Finding, Round, Severity
from nodekiln.toolchain.launchers import Launcher, choose_launcher
from nodekiln.toolchain.lineendings import check_autocrlf
from nodekiln.toolchain.linkers import choose_linker
from nodekiln.toolchain.machine_checks import check_places
from nodekiln.toolchain.probeheaders import check_probe_headers
from nodekiln.toolchain.request import Request, search_path
from nodekiln.toolchain.requirements import Requirements, any_python, parse_version, read_requirements

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
        "This tag's configure.py imports it, and its tree has no tools/gyp to bring it.",
        "apt install python3-packaging, or pip install packaging for this Python.",
    ),
}
_RUST_VERSION = re.compile(r"^\w+ (\d+\.\d+\.\d+)", re.MULTILINE)
_WITHOUT_TEMPORAL = "--v8-disable-temporal-support"


def check_machine(request: Request) -> Round:
    """What is wrong with this machine for any tag. Needs no tree; a second or less."""
    return Round(tuple(_machine_findings(request)))


def check_tag(request: Request, read: Read) -> tuple[Finding, ...]:
    """What is wrong with this machine for `request.tag`, whose files (PATHS) `read` answers.

    Leaves out what check_machine says. Raises ValueError where the request has no tag.
    """
    if request.tag is None:
        raise ValueError("a check of a tag needs a tag")
    return tuple(_tag_findings(request, read_requirements(request.tag, read)))


def _machine_findings(request: Request) -> Iterator[Finding]:
    env = children_environment(request)
    yield from check_leaks(request)
    places = tuple(check_places(request, env))
    yield from places
    yield from check_autocrlf(request.build_dir, env)
    maker = choose_maker(request, env)
    if isinstance(maker, Finding):
        yield maker
    generator = (
        "make" if request.use_ninja is False else "ninja" if isinstance(maker, Finding) else maker.generator
    )
    found = [compilers.probe(variable, env, request.platform) for variable in ("CC", "CXX")]
    good = [each for each in found if isinstance(each, Compiler)]
    yield from (each for each in found if isinstance(each, Finding))
    yield from check_compiler_variables(env, generator, skip=frozenset({"CC", "CXX"}))
    full = any(finding.subject == "TMPDIR" and finding.severity is Severity.ERROR for finding in places)
    if not full:  # a compiler would only say the same once more
        # A launcher that fails does so for both, which is one thing to put right.
        yield from dict.fromkeys(_build_findings(request, env, good))
    if len(good) == 2:
        yield from compilers.check_mixed(*good)
        if request.linker is not None:  # unasked, one that can't be used is passed over
            linker = choose_linker(request, good[1], env)
            if isinstance(linker, Finding):
                yield linker
        if request.probes:
            yield from check_probe_headers(good[1], env, request.platform)
    python = interpreters.find_interpreter(any_python(), env)
    if isinstance(python, Finding):
        yield python


def _build_findings(request: Request, env: Mapping[str, str], found: Sequence[Compiler]) -> Iterator[Finding]:
    commands = [each.command for each in found]
    launcher = choose_launcher(request.launcher, commands, env, request.build_dir)
    if isinstance(launcher, Finding):
        yield launcher
        return
    yield from check_farm(launcher, env)
    for each in found:
        yield from compilers.check_builds(each, env, launcher)


def _tag_findings(request: Request, needs: Requirements) -> Iterator[Finding]:
    env = children_environment(request)
    python = interpreters.find_interpreter(needs.walk, env)
    if isinstance(python, Finding):
        yield python
    else:
        yield from interpreters.check_accepted(python, needs.pythons, str(needs.tag))
        modules = {name: _MODULES[name] for name in needs.modules_missing}
        yield from interpreters.check_modules(python, modules, env)
    cxx = compilers.probe("CXX", env, request.platform)
    if isinstance(cxx, Compiler):
        problems = tuple(check_version(cxx, needs))
        yield from problems
        if not problems and needs.standard:
            # Without a launcher: whether that works has been looked at, and a farm need not hear of this.
            yield from compilers.check_builds(cxx, env, Launcher(), needs.standard)
    if needs.rust and _WITHOUT_TEMPORAL not in request.configure_args:
        yield from _check_rust(needs, env)


def check_version(cxx: Compiler, needs: Requirements) -> Iterator[Finding]:
    """An error where the C++ compiler is too old for the tag, or known to fail on it."""
    minimum, name = {
        Family.GCC: (needs.gxx, f"g++ {dotted(needs.gxx)}"),
        Family.CLANG: (needs.clang, f"clang++ {dotted(needs.clang)}"),
        Family.APPLE: (needs.apple, needs.apple_name),
    }[cxx.family]
    if cxx.version < minimum:
        yield Finding(
            Severity.ERROR,
            "CXX",
            f"{cxx}, and {needs.tag} needs {name} or later.",
            "configure only warns about it, and the compilation fails (nodejs/node#54081).",
            "Install a newer compiler, and name it with CC and CXX.",
        )
    for bad in needs.known_bad:
        if cxx.family is Family.GCC and bad.covers(cxx.version):
            yield Finding(
                Severity.ERROR,
                "CXX",
                f"{cxx}, which fails on {needs.tag}.",
                bad.why,
                f"Install {_better(bad.first, bad.below)} or clang, and name it with CC and CXX.",
            )


def _better(first: tuple[int, ...], below: tuple[int, ...]) -> str:
    return f"g++ {dotted(below)} or later" if below else f"a g++ before {first[0]}"


def _check_rust(needs: Requirements, env: Mapping[str, str]) -> Iterator[Finding]:
    found = {name: _rust_version(name, env) for name in ("cargo", "rustc")}
    for name, version in found.items():
        if version < needs.rust:
            what = f"{name} is {dotted(version)}" if version else f"there is no {name} on PATH"
            yield Finding(
                Severity.WARNING,
                "rust",
                f"{needs.tag} wants Rust {dotted(needs.rust)}, and {what}.",
                "configure then leaves Temporal out without an error (nodejs/node#63213).",
                f"Install Rust (rustup), or accept it aloud: --configure-args={_WITHOUT_TEMPORAL}",
            )
            return


def _rust_version(name: str, env: Mapping[str, str]) -> tuple[int, ...]:
    """Empty where it is not there or does not answer (rustup's shims without a toolchain)."""
    if (path := shutil.which(name, path=search_path(env))) is None:
        return ()
    try:
        match = _RUST_VERSION.search(capture([path, "--version"], env=env, timeout=20).text)
    except (OSError, KilnError):
        return ()
    return parse_version(match[1]) if match else ()
