"""Linkers on a PATH: which is taken, which is refused, and what tells it afterwards."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.toolchain.compilers import Compiler, probe
from nodekiln.toolchain.findings import Finding
from nodekiln.toolchain.linkers import Linker, check_choice, choose_linker
from nodekiln.toolchain.request import Request

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("g++", "ld.bfd", "objcopy"))), reason="there is no g++ or no GNU ld on PATH"
)

BFD = 'case " $* " in *" --version "*) echo "Fake 1.0"; exit;; esac\nexec ld.bfd "$@"'
DROPS = """\
ld.bfd "$@" || exit
while [ "$1" != -o ]; do shift; done
exec objcopy --remove-section=.note.stapsdt "$2"
"""
# A probe as <sys/sdt.h> notes it, without its argument, for machines that have no such header.
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
        clean_env=False,
        platform="linux",
        configure_args=(),
        use_ninja=None,
        probes=True,
    )


def install(request: Request, name: str, text: str) -> None:
    """Puts a linker made of a script on the PATH."""
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


def test_without_another_the_compilers_own_links(asked: Request) -> None:
    linker = chosen(asked)
    assert isinstance(linker, Linker)
    assert (linker.name, linker.flags) == ("default", "")
    assert "GNU ld" in linker.version


def test_lld_is_taken_unasked_where_it_keeps_probes(asked: Request) -> None:
    install(asked, "lld", BFD)
    assert chosen(asked) == Linker("lld", "Fake 1.0")


def test_mold_is_taken_only_where_it_is_asked_for(asked: Request) -> None:
    install(asked, "mold", BFD)
    assert name_of(chosen(asked)) == "default"
    assert chosen(replace(asked, linker="mold")) == Linker("mold", "Fake 1.0")


@pytest.mark.parametrize("text", [DROPS, "exit 1", 'cp /bin/false "$TMPDIR/x"; exit 0'])
def test_one_that_can_not_be_trusted_is_passed_over_and_refused_where_asked_for(
    asked: Request, text: str
) -> None:
    install(asked, "lld", text)
    assert name_of(chosen(asked)) == "default"
    assert "lld can't link here" in refused(replace(asked, linker="lld"))


def test_what_drops_the_notes_of_probes_is_told_and_does_without_probes(asked: Request) -> None:
    install(asked, "lld", DROPS)
    assert ".note.stapsdt" in refused(replace(asked, linker="lld"))
    assert name_of(chosen(replace(asked, linker="lld", probes=False))) == "lld"


def test_that_of_before_stays_so_that_nothing_is_linked_anew(asked: Request) -> None:
    install(asked, "lld", BFD)
    install(asked, "mold", BFD)
    for before in ("default", "mold", "lld"):
        assert name_of(chosen(replace(asked, linker_before=before))) == before
        assert name_of(chosen(replace(asked, linker_before=before, linker="lld"))) == "lld"


def test_one_of_before_that_is_gone_is_replaced_by_the_compilers_own(asked: Request) -> None:
    assert name_of(chosen(replace(asked, linker_before="mold"))) == "default"


@pytest.mark.parametrize("name", ["CXXFLAGS", "LDFLAGS"])
@pytest.mark.parametrize("before", [None, "lld"])
def test_one_that_can_not_link_with_the_users_flags_is_passed_over(
    asked: Request, name: str, before: str | None
) -> None:
    install(asked, "lld", BFD)
    environ = {**asked.environ, name: "-Wl,--no-such-option"}
    request = replace(asked, environ=environ, linker_before=before, probes=False)
    assert name_of(chosen(request)) == "default"
    assert "lld can't link here" in refused(replace(request, linker="lld"))


def test_one_that_is_not_there_is_refused_with_its_package(asked: Request) -> None:
    assert "apt install mold" in refused(replace(asked, linker="mold"))


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
def test_where_the_choice_is_not_ours_none_is_made(asked: Request, changes: dict[str, object]) -> None:
    install(asked, "lld", BFD)
    environ = changes.pop("environ", {})
    assert isinstance(environ, dict)
    request = replace(asked, environ={**asked.environ, **environ}, **changes)  # type: ignore[arg-type]  # by name
    assert name_of(chosen(request)) == "default"
    assert "lld can't link here" in refused(replace(request, linker="lld"))


def test_a_linker_that_is_none_is_refused() -> None:
    assert check_choice("bfd") == "bfd"
    with pytest.raises(UsageError, match="mold, lld, bfd or default, not 'gold'"):
        check_choice("gold")
