"""The linker: which one, and whether it can be trusted with what is to be built.

Node is linked twice for each recipe. On 2 cores, v20.19.2, one link takes GNU ld 1.7 s, lld and mold 0.3 s.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.process import capture
from nodekiln.toolchain.compilers import Compiler
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.request import Request, search_path, temporary_folder

DEFAULT = "default"
CHOICES = ("mold", "lld", "bfd", DEFAULT)

_FAST = "lld"
"""What is taken unasked. mold is as fast, but two of some 40 links by 2.37.1 never ended, at full load."""
_PACKAGES = {"mold": "mold", "lld": "lld", "bfd": "binutils"}
_OWN_LINK = (
    "--enable-lto",
    "--enable-pgo-generate",
    "--enable-pgo-use",
    "--use-section-ordering-file",
    "--fully-static",
)
"""Arguments of configure that go with the compiler's own linker: gcc's LTO needs a plugin that lld lacks, and
common.gypi names a linker for the ordering."""
_FORCED = "-fuse-ld="
_FORCED_BY_PATH = "--ld-path="

_PLAIN = "int main(int argc, char**) { delete new int(argc); return 0; }\n"
_PROBED = (
    "#include <sys/sdt.h>\nint main(int argc, char**) { DTRACE_PROBE1(node, linked, argc); return 0; }\n"
)


@dataclass(frozen=True, slots=True)
class Linker:
    """`name` as --linker takes it; `version` is the first line of what it says of itself."""

    name: str
    version: str

    @property
    def flags(self) -> str:
        """What LDFLAGS get."""
        return "" if self.name == DEFAULT else _FORCED + self.name


def check_choice(name: str) -> str:
    """Returns the name if there is such a choice; raises UsageError otherwise."""
    if name not in CHOICES:
        raise UsageError(f"--linker takes {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, not {name!r}.")
    return name


def choose_linker(request: Request, cxx: Compiler, env: Mapping[str, str]) -> Linker | Finding:
    """The linker that was asked for, or an error that says why it can't be it.

    Where none was asked for: that of before (another links torque anew, after which all of V8 is compiled
    again), else lld if its programs run and keep probes, else the compiler's own. 0.1 s for each tried.
    """
    if (own := _settled(request, env)) is not None:
        if request.linker in (None, DEFAULT):
            return _default(cxx, env)
        return _refusal(request.linker, own, "Leave --linker out.")
    if request.linker == DEFAULT:
        return _default(cxx, env)
    if request.linker is not None:
        trouble = _trouble(request.linker, cxx, request, env)
        return _linker(request.linker, cxx, env) if trouble is None else trouble
    name = request.linker_before or _FAST
    if name != DEFAULT and _is_there(name, env):
        # What it linked before was run and checked then; probes and flags may be new.
        tried = request.linker_before is not None and not request.probes and not _flags(env)
        if tried or not _try_out(name, cxx, request, env):
            return _linker(name, cxx, env)
    return _default(cxx, env)


def _settled(request: Request, env: Mapping[str, str]) -> str | None:
    """Why the choice is not ours; None where it is."""
    if request.platform != "linux":
        return f"the linker of {request.platform} is the only one that makes its programs"
    for name in ("LDFLAGS", "CC", "CXX"):
        if any(forced in env.get(name, "") for forced in (_FORCED, _FORCED_BY_PATH)):
            return f"{name} names one already"
    for argument in request.configure_args:
        # configure takes every beginning of an option that no other begins with.
        option = argument.partition("=")[0]
        if len(option) > len("--") and any(name.startswith(option) for name in _OWN_LINK):
            return f"{argument} goes with the compiler's own linker"
    return None


def _is_there(name: str, env: Mapping[str, str]) -> bool:
    return shutil.which(f"ld.{name}", path=search_path(env)) is not None


def _trouble(name: str, cxx: Compiler, request: Request, env: Mapping[str, str]) -> Finding | None:
    if not _is_there(name, env):
        return _refusal(
            name, f"there is no ld.{name} on PATH", f"apt install {_PACKAGES[name]}, or leave --linker out."
        )
    said = _try_out(name, cxx, request, env)
    return _refusal(name, said, "Leave --linker out, or take another one.") if said else None


def _try_out(name: str, cxx: Compiler, request: Request, env: Mapping[str, str]) -> str:
    """What is wrong with a small program that it links; empty where nothing is.

    It is made with the user's flags, as Node will be: not every linker can take what -flto makes. With
    probes, their note and the section that tells tracers how far the program was moved have to be there.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="nodekiln-", dir=temporary_folder(env)) as folder:
            source, program = Path(folder, "try.cc"), Path(folder, "try")
            source.write_text(_PROBED if request.probes else _PLAIN)
            argv = [*cxx.command.own, *_flags(env), _FORCED + name, source.name, "-o", program.name]
            answer = capture(argv, env=env, cwd=Path(folder))
            if answer.returncode != 0:
                return (
                    "it can't link a small program: " + (answer.text.strip().splitlines() or ["?"])[0][:300]
                )
            if capture([str(program)], env=env).returncode != 0:
                return "a small program that it linked does not run"
            if request.probes and not _keeps_probes(program):
                return "it drops what tracers need to find probes (.note.stapsdt or .stapsdt.base)"
    except (OSError, KilnError) as error:
        return str(error)
    return ""


def _flags(env: Mapping[str, str]) -> list[str]:
    """What the user adds to compilations and links, in words as gyp splits it."""
    return " ".join(env.get(name, "") for name in ("CPPFLAGS", "CXXFLAGS", "LDFLAGS")).split()


def _keeps_probes(program: Path) -> bool:
    with open_elf(program) as elf:
        found = [probe.name for probe in read_probes(elf)]
        return found == ["linked"] and any(section.name == ".stapsdt.base" for section in elf.sections)


def _default(cxx: Compiler, env: Mapping[str, str]) -> Linker:
    return _linker(DEFAULT, cxx, env)


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
        Severity.ERROR, "linker", f"{name} can't link here: {why}.", f"--linker {name} asks for it.", remedy
    )
