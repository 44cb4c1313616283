"""The linker: the choice, and a check that it can link this build.

Node is linked twice for each recipe. On 2 cores, v20.19.2, one link takes GNU ld 1.7 s, lld and mold 0.3 s.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture, error_line
from nodekiln.toolchain.compilers import ERROR_LINE, Compiler
from nodekiln.toolchain.model import Finding, Request, Severity, search_path, temporary_folder

DEFAULT = "default"
CHOICES = ("mold", "lld", "bfd", DEFAULT)

_FAST = "lld"
"""The default. mold is as fast, but two of some 40 links by 2.37.1 never ended, at full load."""
_PACKAGES = {"mold": "mold", "lld": "lld", "bfd": "binutils"}
_OWN_LINK = (
    "--enable-lto",
    "--enable-pgo-generate",
    "--enable-pgo-use",
    "--use-section-ordering-file",
    "--fully-static",
)
"""Arguments of configure that require the compiler's own linker: gcc's LTO uses a plugin that lld lacks, and
common.gypi sets a linker for the ordering."""
_FORCED = "-fuse-ld="
_FORCED_BY_PATH = "--ld-path="

_PLAIN = "int main(int argc, char**) { delete new int(argc); return 0; }\n"
_PROBED = (
    "#include <sys/sdt.h>\nint main(int argc, char**) { DTRACE_PROBE1(node, linked, argc); return 0; }\n"
)


@dataclass(frozen=True, slots=True)
class Linker:
    """`name` as --linker takes it; `version` is the first line of its --version."""

    name: str
    version: str

    @property
    def flags(self) -> str:
        """The flags to add to LDFLAGS."""
        return "" if self.name == DEFAULT else _FORCED + self.name


def check_choice(name: str) -> str:
    """Return the name of a choice; raise UsageError for another word."""
    if name not in CHOICES:
        raise UsageError(f"--linker takes {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, not {name!r}.")
    return name


def choose_linker(request: Request, cxx: Compiler, env: Mapping[str, str]) -> Linker | Finding:
    """Return the requested linker, or an error if it can't be used.

    Without a request: the linker of the last build (another one relinks torque, after which all of V8 is
    compiled again), otherwise lld if its programs run and keep probes, otherwise the compiler's own. Each
    trial takes 0.1 s.
    """
    wanted = request.tools.linker
    if (reason := _reason_for_default(request, env)) is not None:
        if wanted in (None, DEFAULT):
            return _linker(DEFAULT, cxx, env)
        return _refusal(wanted, reason, "Leave --linker out.")
    if wanted == DEFAULT:
        return _linker(DEFAULT, cxx, env)
    if wanted is not None:
        problem = _problem(wanted, cxx, request, env)
        return _linker(wanted, cxx, env) if problem is None else problem
    name = request.linker_before or _FAST
    if name != DEFAULT and _is_installed(name, env):
        # The result of its last link was run and checked; probes and flags may be new.
        tried = request.linker_before is not None and not request.probes and not _flags(env)
        if tried or not _link_program(name, cxx, request, env):
            return _linker(name, cxx, env)
    return _linker(DEFAULT, cxx, env)


def _reason_for_default(request: Request, env: Mapping[str, str]) -> str | None:
    """Return why only the compiler's own linker can be used; None if others can."""
    if request.platform != "linux":
        return f"programs of {request.platform} require its own linker"
    for name in ("LDFLAGS", "CC", "CXX"):
        if any(forced in env.get(name, "") for forced in (_FORCED, _FORCED_BY_PATH)):
            return f"{name} sets a linker already"
    for argument in request.configure_args:
        # configure accepts unambiguous abbreviations of its options.
        option = argument.partition("=")[0]
        if len(option) > len("--") and any(name.startswith(option) for name in _OWN_LINK):
            return f"{argument} requires the compiler's own linker"
    return None


def _is_installed(name: str, env: Mapping[str, str]) -> bool:
    return shutil.which(f"ld.{name}", path=search_path(env)) is not None


def _problem(name: str, cxx: Compiler, request: Request, env: Mapping[str, str]) -> Finding | None:
    if not _is_installed(name, env):
        return _refusal(
            name, f"ld.{name} was not found on PATH", f"apt install {_PACKAGES[name]}, or leave --linker out."
        )
    failure = _link_program(name, cxx, request, env)
    return _refusal(name, failure, "Leave --linker out, or choose another one.") if failure else None


def _link_program(name: str, cxx: Compiler, request: Request, env: Mapping[str, str]) -> str:
    """Return what is wrong with a small program that it links; empty if nothing is.

    The program is built with the user's flags, as Node will be: not every linker supports the output of
    -flto. With probes, it must have their notes and the section with the program's link-time address.
    """
    try:
        with temporary_directory(temporary_folder(env)) as folder:
            source, program = Path(folder, "try.cc"), Path(folder, "try")
            source.write_text(_PROBED if request.probes else _PLAIN)
            argv = [*cxx.command.own, *_flags(env), _FORCED + name, source.name, "-o", program.name]
            answer = capture(argv, env=env, cwd=folder)
            if answer.returncode != 0:
                return f"linking a small program failed: {error_line(answer.text, ERROR_LINE)}"
            if capture([str(program)], env=env).returncode != 0:
                return "a small program that it linked does not run"
            if request.probes and not _keeps_probes(program):
                return "it drops sections that tracers find probes by (.note.stapsdt or .stapsdt.base)"
    except (OSError, KilnError) as error:
        return str(error)
    return ""


def _flags(env: Mapping[str, str]) -> list[str]:
    """Return the user's flags for compilations and links, split as gyp does."""
    return " ".join(env.get(name, "") for name in ("CPPFLAGS", "CXXFLAGS", "LDFLAGS")).split()


def _keeps_probes(program: Path) -> bool:
    with open_elf(program) as elf:
        found = [probe.name for probe in read_probes(elf)]
        return found == ["linked"] and any(section.name == ".stapsdt.base" for section in elf.sections)


def _linker(name: str, cxx: Compiler, env: Mapping[str, str]) -> Linker:
    flags = [] if name == DEFAULT else [_FORCED + name]
    try:
        answer = capture([*cxx.command.own, *flags, "-Wl,--version"], env={**env, "LC_ALL": "C"}, timeout=20)
        version = answer.stdout.decode(errors="replace").partition("\n")[0].strip()
    except (OSError, KilnError):
        version = ""
    return Linker(name, version)


def _refusal(name: str | None, why: str, remedy: str) -> Finding:
    return Finding(
        Severity.ERROR, "linker", f"{name} can't be used: {why}.", f"--linker {name} requires it.", remedy
    )
