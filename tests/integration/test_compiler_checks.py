"""Checks of real compilers and Pythons, and of broken ones made of shell scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nodekiln.core.edit import Read
from nodekiln.core.errors import ToolchainError
from nodekiln.core.process import child_environment
from nodekiln.core.recipe import Tag
from nodekiln.toolchain import toolchain as toolchains
from nodekiln.toolchain.build_tools import Interpreter, check_modules, find_interpreter
from nodekiln.toolchain.compilers import Compiler, Family, check_builds, check_mixed, probe
from nodekiln.toolchain.launchers import Launcher
from nodekiln.toolchain.machine_checks import check_runs_programs
from nodekiln.toolchain.model import Finding, Findings, Request, Severity
from nodekiln.toolchain.toolchain import Programs, Toolchain

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="there is no gcc and g++ on PATH"
)

CONFIGURE = b"""command -v python3.99 >/dev/null && exec python3.99 "$0" "$@"
command -v python3 >/dev/null && exec python3 "$0" "$@"
exec python "$0" "$@"
acceptable_pythons = ((3, 99), (3, 98))
"""


def nothing(path: str) -> bytes | None:
    return None


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """A build on this machine in a clean environment."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME")}
    folder = script(tmp_path / "bin" / "python3", f'exec {sys.executable} "$@"').parent
    environ["PATH"] = f"{folder}{os.pathsep}{environ['PATH']}"
    return Request(
        tag=Tag(20, 19, 2),
        environ=child_environment(environ, venv=None),
        build_dir=tmp_path / "build",
        jobs=1,
        disk_needed=0,
        platform="linux",
        configure_args=(),
    )


def with_environ(request: Request, **variables: str) -> Request:
    return replace(request, environ={**request.environ, **variables})


def check_machine(request: Request) -> Findings:
    return toolchains.check_machine(Programs(request))


def check_tag(request: Request, read: Read) -> Findings:
    return toolchains.check_tag(Programs(request), read)


def subjects(found: Findings) -> list[str]:
    return [finding.subject for finding in found.errors]


def test_check_machine_on_a_working_machine_has_no_errors(request_: Request) -> None:
    assert check_machine(request_).errors == ()


@pytest.mark.parametrize("cxx", ["g++-99", "env A=b g++-99", "/nonexistent/g++", ""])
def test_check_machine_with_stray_cxx_reports_it_within_two_seconds(cxx: str, request_: Request) -> None:
    begun = time.monotonic()
    (error,) = check_machine(with_environ(request_, CXX=cxx)).errors
    assert time.monotonic() - begun < 2
    assert error.subject == "CXX"
    assert "unset CXX" in error.remedy


def test_check_machine_reports_all_errors_at_once(request_: Request, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong = replace(with_environ(request_, PATH=str(empty)), disk_needed=10**18)
    assert subjects(check_machine(wrong)) == ["disk", "ninja", "CC", "CXX", "python"]


def test_cxx_that_is_no_compiler_is_an_error(request_: Request, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "fake", "echo hello")
    assert subjects(check_machine(with_environ(request_, CXX="fake"))) == ["CXX"]


def test_compiler_that_cannot_link_is_an_error(request_: Request, tmp_path: Path) -> None:
    broken = script(
        tmp_path / "bin" / "halfway",
        'case " $* " in *" -o "*) echo error: no ld; exit 1;; esac\nexec g++ "$@"',
    )
    (error,) = check_machine(with_environ(request_, CXX=str(broken))).errors
    assert "error: no ld" in error.what


def test_probe_reads_the_family_from_macros(request_: Request, tmp_path: Path) -> None:
    clang = script(tmp_path / "bin" / "clang++-old", "echo 1 4 2 1 7 0 0 __apple_build_version__")
    apple = script(tmp_path / "bin" / "apple++", "echo 1 4 2 1 15 0 0 15000100")
    found = [probe("CXX", {**request_.environ, "CXX": str(each)}, "linux") for each in (clang, apple)]
    assert [(each.family, each.version) for each in found if isinstance(each, Compiler)] == [
        (Family.CLANG, (7, 0, 0)),
        (Family.APPLE, (15, 0, 0)),
    ]


def test_compilers_of_two_families_are_a_warning(request_: Request, tmp_path: Path) -> None:
    clang = script(tmp_path / "bin" / "clang++-7", "echo 1 4 2 1 7 0 0 __apple_build_version__")
    cc = probe("CC", request_.environ, "linux")
    cxx = probe("CXX", {**request_.environ, "CXX": str(clang)}, "linux")
    assert isinstance(cc, Compiler)
    assert isinstance(cxx, Compiler)
    assert [finding.severity for finding in check_mixed(cc, cxx)] == [Severity.WARNING]
    assert not list(check_mixed(cc, cc))


def test_compiler_older_than_the_tag_requires_is_an_error(request_: Request, tmp_path: Path) -> None:
    old = script(tmp_path / "bin" / "g++-9", "echo __clang__ 9 4 0 a b c d")
    (error,) = check_tag(with_environ(request_, CXX=str(old)), nothing).errors
    assert "gcc 9.4.0" in error.what
    assert "g++ 10.1" in error.what


def test_compiler_without_the_standard_of_the_tag_is_an_error(request_: Request) -> None:
    common = b"'cflags_cc': [ '-std=gnu++99' ]"
    (error,) = check_tag(request_, {"common.gypi": common}.get).errors
    assert (error.subject, "-std=gnu++99" in error.what) == ("CXX", True)


def test_python_that_configure_rejects_is_an_error(request_: Request) -> None:
    (error,) = check_tag(request_, {"configure": CONFIGURE}.get).errors
    assert error.subject == "python"
    assert "3.98 to 3.99" in error.why


def test_find_interpreter_stops_at_a_broken_shim(request_: Request, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "python3.99", "echo not installed >&2; exit 127")
    found = find_interpreter(("python3.99", "python3"), request_.environ)
    assert isinstance(found, Finding)
    assert "python3.99 does not run" in found.what


def test_missing_python_module_is_an_error(request_: Request) -> None:
    python = find_interpreter(("python3",), request_.environ)
    assert isinstance(python, Interpreter)
    modules = dict.fromkeys(("json", "nothing_of_that_name"), ("It is needed.", "install it"))
    assert [each.subject for each in check_modules(python, modules, request_.environ)] == [
        "nothing_of_that_name"
    ]


@pytest.mark.parametrize(
    ("rustc", "args", "warned"),
    [
        ("echo rustc 1.82.0", (), False),
        ("echo rustc 1.70.0", (), True),
        (None, (), True),
        (None, ("--v8-disable-temporal-support",), False),
    ],
)
def test_tag_26_without_rust_is_a_warning(
    rustc: str | None, args: tuple[str, ...], warned: bool, request_: Request, tmp_path: Path
) -> None:
    folder = tmp_path / "rust"
    script(folder / "cargo", "echo cargo 1.82.0")
    script(folder / "rustc", rustc or "exit 1")
    asked = replace(
        with_environ(request_, PATH=f"{folder}:{request_.environ['PATH']}"),
        tag=Tag(26, 0, 0),
        configure_args=args,
    )
    found = check_tag(asked, {"common.gypi": b"'-std=gnu++17'"}.get)
    assert ("rust" in [each.subject for each in found.warnings]) is warned


def toolchain(request: Request) -> Toolchain:
    return toolchains.detect(Programs(request), nothing)


def test_installed_ccache_is_used(request_: Request, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "ccache", 'exec "$@"')
    found = toolchain(with_environ(request_, CXX="g++ -m64"))
    assert (found.cc, found.cxx, str(found.launcher)) == ("ccache gcc", "ccache g++ -m64", "ccache")
    assert found.build_env["CXX"] == found.cxx


def test_ccache_is_put_behind_settings_of_env(request_: Request, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "ccache", 'exec "$@"')
    assert toolchain(with_environ(request_, CXX="env A=1 g++ -g")).cxx == "env A=1 ccache g++ -g"


def test_failing_ccache_is_reported_instead_of_the_compiler(request_: Request, tmp_path: Path) -> None:
    # As ccache does if it can't write its folder: commands that compile and link at once are passed on.
    fails = 'case " $* " in *" -c "*) echo "ccache: error: No such file"; exit 1;; esac\nexec "$@"'
    script(tmp_path / "bin" / "ccache", fails)
    (error,) = check_machine(request_).errors
    assert error.subject == "ccache"
    assert "ccache: error: No such file" in error.what
    assert "--launcher none" in error.remedy


def test_failing_compiler_behind_failing_ccache_is_reported(request_: Request, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "ccache", "echo ccache: error; exit 1")
    broken = script(tmp_path / "bin" / "half", 'case " $* " in *" -c "*) exit 9;; esac\nexec g++ "$@"')
    errors = check_machine(with_environ(request_, CXX=str(broken))).errors
    assert [error.subject for error in errors] == ["ccache", "CXX"]


def test_launcher_in_cc_is_the_only_one(request_: Request, tmp_path: Path) -> None:
    for name in ("ccache", "sccache"):
        script(tmp_path / "bin" / name, 'exec "$@"')
    found = toolchain(with_environ(request_, CC="sccache gcc", CXX="sccache g++"))
    assert (found.cc, found.cxx, str(found.launcher)) == ("sccache gcc", "sccache g++", "sccache")


def test_identity_does_not_depend_on_the_launcher(request_: Request, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "ccache", 'exec "$@"')
    plain, spelled = toolchain(request_), toolchain(with_environ(request_, CXX="ccache g++"))
    assert plain.identity == spelled.identity
    assert plain.identity != toolchain(with_environ(request_, CXX="g++ -m32")).identity


def test_configure_env_has_untranslated_messages(request_: Request) -> None:
    found = toolchain(with_environ(request_, LANG="de_DE.UTF-8"))
    assert found.configure_env["LC_ALL"] == "C"
    assert "LC_ALL" not in found.build_env
    assert found.build_env["LANG"] == "de_DE.UTF-8"


def test_detect_without_a_compiler_raises_with_a_remedy(request_: Request) -> None:
    with pytest.raises(ToolchainError, match=r"CXX: CXX is 'g\+\+-99'") as caught:
        toolchain(with_environ(request_, CXX="g++-99"))
    assert "unset CXX" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("include", "missing"), [("sys/sdt.h", []), ("sys/not-there.h", ["probes"])])
def test_build_with_probes_requires_sdt_h(
    request_: Request, tmp_path: Path, include: str, missing: list[str]
) -> None:
    """With a header of our own instead of SystemTap's, or none."""
    header = tmp_path / "include" / include
    header.parent.mkdir(parents=True)
    header.touch()
    # Without the system's headers, which may include it.
    ours = f"-nostdinc -I{tmp_path}/include"
    compiler = script(
        tmp_path / "bin" / "cc-plus",
        f'case " $* " in *" -E -x c++ - -o "*) set -- {ours} "$@";; esac\nexec g++ "$@"',
    )
    asked = replace(with_environ(request_, CXX=str(compiler)), probes=True)
    assert subjects(check_machine(asked)) == missing
    assert check_machine(replace(asked, probes=False)).errors == ()


def test_program_whose_library_the_loader_does_not_find_is_an_error(tmp_path: Path) -> None:
    """A compiler newer than the system's libstdc++ links such programs."""
    library = tmp_path / "libnew.so.6"
    words = ["gcc", "-shared", "-o", str(library), "-x", "c", "/dev/null", f"-Wl,-soname,{library.name}"]
    subprocess.run(words, check=True, capture_output=True)
    wrapper = tmp_path / "g++"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("g++")} "$@" -Wl,--no-as-needed,{library}\n')
    wrapper.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "CXX": str(wrapper)}
    compiler = probe("CXX", env, "linux")
    assert isinstance(compiler, Compiler)
    (finding,) = check_builds(compiler, env, Launcher())
    assert finding.severity is Severity.ERROR
    assert "libnew.so.6" in finding.what


def test_build_folder_on_a_disk_without_programs_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "noexec,size=1m", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        (finding,) = check_runs_programs(folder / "below")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert finding.severity is Severity.ERROR
    assert str(folder) in finding.what
    assert list(check_runs_programs(tmp_path)) == []
