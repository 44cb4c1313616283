"""The choice of a linker among those on a PATH, and the errors for requested ones."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.toolchain.compilers import Compiler, probe
from nodekiln.toolchain.linkers import Linker, check_choice, choose_linker
from nodekiln.toolchain.model import Finding, Request, ToolOptions

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("g++", "ld.bfd", "objcopy"))), reason="there is no g++ or no GNU ld on PATH"
)

BFD = 'case " $* " in *" --version "*) echo "Fake 1.0"; exit;; esac\nexec ld.bfd "$@"'
DROPS = """\
ld.bfd "$@" || exit
while [ "$1" != -o ]; do shift; done
exec objcopy --remove-section=.note.stapsdt "$2"
"""
# A probe as in <sys/sdt.h>, without its argument, for machines without that header.
SDT = """\
#define DTRACE_PROBE1(provider, name, argument) \\
  __asm__ __volatile__( \\
    "990: nop\\n" \\
    ".pushsection .note.stapsdt,\\"\\",\\"note\\"\\n.balign 4\\n" \\
    ".4byte 992f-991f, 994f-993f, 3\\n991: .asciz \\"stapsdt\\"\\n992: .balign 4\\n" \\
    "993: .8byte 990b, _.stapsdt.base, 0\\n" \\
    ".asciz \\"" #provider "\\"\\n.asciz \\"" #name "\\"\\n.asciz \\"\\"\\n994: .balign 4\\n.popsection\\n" \\
    ".ifndef _.stapsdt.base\\n.pushsection .stapsdt.base,\\"aG\\",\\"progbits\\",.stapsdt.base,comdat\\n" \\
    ".weak _.stapsdt.base\\n_.stapsdt.base: .space 1\\n.size _.stapsdt.base, 1\\n.popsection\\n.endif\\n" \\
    : : "r"(argument))
"""

LLD = ToolOptions(linker="lld")


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    """A build on a PATH with gcc, GNU ld and a header for probes, and no other linker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcc", "g++", "as", "ld", "ld.bfd", "objcopy", "sh"):
        (folder / name).symlink_to(Path(str(shutil.which(name))).resolve())
    header = tmp_path / "include" / "sys" / "sdt.h"
    header.parent.mkdir(parents=True)
    header.write_text(SDT)
    environ = {"PATH": str(folder), "HOME": os.environ["HOME"], "TMPDIR": str(tmp_path)}
    return Request(
        tag=None,
        environ={**environ, "CPLUS_INCLUDE_PATH": str(tmp_path / "include")},
        build_dir=tmp_path / "build",
        jobs=1,
        disk_needed=0,
        platform="linux",
        configure_args=(),
        probes=True,
    )


def install(request: Request, name: str, text: str) -> None:
    """Put a linker made of a script on the PATH."""
    program = Path(request.environ["PATH"]) / f"ld.{name}"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def chosen(request: Request) -> Linker | Finding:
    cxx = probe("CXX", request.environ, "linux")
    assert isinstance(cxx, Compiler)
    return choose_linker(request, cxx, request.environ)


def refused(request: Request) -> str:
    finding = chosen(request)
    assert isinstance(finding, Finding)
    return str(finding)


def name_of(linker: Linker | Finding) -> str:
    assert isinstance(linker, Linker), linker
    return linker.name


def test_default_without_other_linkers_is_the_compilers_own(asked: Request) -> None:
    linker = chosen(asked)
    assert isinstance(linker, Linker)
    assert (linker.name, linker.flags) == ("default", "")
    assert "GNU ld" in linker.version


def test_default_is_lld_if_it_keeps_probes(asked: Request) -> None:
    install(asked, "lld", BFD)
    assert chosen(asked) == Linker("lld", "Fake 1.0")


def test_mold_is_used_on_request_only(asked: Request) -> None:
    install(asked, "mold", BFD)
    assert name_of(chosen(asked)) == "default"
    assert chosen(replace(asked, tools=ToolOptions(linker="mold"))) == Linker("mold", "Fake 1.0")


@pytest.mark.parametrize("text", [DROPS, "exit 1", 'cp /bin/false "$TMPDIR/x"; exit 0'])
def test_broken_linker_is_skipped_by_default_and_an_error_on_request(asked: Request, text: str) -> None:
    install(asked, "lld", text)
    assert name_of(chosen(asked)) == "default"
    assert "lld can't be used" in refused(replace(asked, tools=LLD))


def test_linker_that_drops_probes_is_an_error_with_probes_only(asked: Request) -> None:
    install(asked, "lld", DROPS)
    assert ".note.stapsdt" in refused(replace(asked, tools=LLD))
    assert name_of(chosen(replace(asked, tools=LLD, probes=False))) == "lld"


def test_linker_of_the_last_build_is_kept(asked: Request) -> None:
    install(asked, "lld", BFD)
    install(asked, "mold", BFD)
    for before in ("default", "mold", "lld"):
        assert name_of(chosen(replace(asked, linker_before=before))) == before
        assert name_of(chosen(replace(asked, linker_before=before, tools=LLD))) == "lld"


def test_missing_linker_of_the_last_build_falls_back_to_default(asked: Request) -> None:
    assert name_of(chosen(replace(asked, linker_before="mold"))) == "default"


@pytest.mark.parametrize("name", ["CXXFLAGS", "LDFLAGS"])
@pytest.mark.parametrize("before", [None, "lld"])
def test_linker_that_rejects_the_users_flags_is_skipped(
    asked: Request, name: str, before: str | None
) -> None:
    install(asked, "lld", BFD)
    environ = {**asked.environ, name: "-Wl,--no-such-option"}
    request = replace(asked, environ=environ, linker_before=before, probes=False)
    assert name_of(chosen(request)) == "default"
    assert "lld can't be used" in refused(replace(request, tools=LLD))


def test_missing_linker_is_an_error_with_its_package(asked: Request) -> None:
    assert "apt install mold" in refused(replace(asked, tools=ToolOptions(linker="mold")))


@pytest.mark.parametrize(
    "changes",
    [
        {"environ": {"LDFLAGS": "-fuse-ld=bfd"}},
        {"environ": {"LDFLAGS": "--ld-path=/usr/bin/ld"}},
        {"configure_args": ("--enable-lto",)},
        {"configure_args": ("--enable-pgo-u",)},
        {"platform": "darwin"},
    ],
)
def test_flags_that_fix_the_linker_prevent_a_choice(asked: Request, changes: dict[str, object]) -> None:
    install(asked, "lld", BFD)
    environ = changes.pop("environ", {})
    assert isinstance(environ, dict)
    request = replace(asked, environ={**asked.environ, **environ}, **changes)  # type: ignore[arg-type]  # by name
    assert name_of(chosen(request)) == "default"
    assert "lld can't be used" in refused(replace(request, tools=LLD))


def test_unknown_linker_is_a_usage_error() -> None:
    assert check_choice("bfd") == "bfd"
    with pytest.raises(UsageError, match="mold, lld, bfd or default, not 'gold'"):
        check_choice("gold")
