"""Checks of variables, commands and the machine. Fake programs are files on a PATH."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from nodekiln.core.errors import ToolchainError
from nodekiln.core.platform import free_disk
from nodekiln.toolchain.build_tools import BuildTool, choose_build_tool
from nodekiln.toolchain.environment import (
    Command,
    Unusable,
    check_compiler_variables,
    check_leaks,
    clean_environment,
    resolve,
)
from nodekiln.toolchain.machine_checks import (
    check_clock,
    check_limits,
    check_memory,
    check_resources,
)
from nodekiln.toolchain.model import Finding, Request, Severity, ToolOptions, raise_for


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """A folder with programs that can be found and are never run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gcc", "g++", "ccache", "env", "ninja", "make"):
        (folder / name).touch(mode=0o755)
    return folder


def request_for(
    environ: dict[str, str],
    build_dir: Path = Path("/"),
    *,
    disk_needed: int = 0,
    clean_env: bool = False,
    configure_args: tuple[str, ...] = (),
) -> Request:
    return Request(
        tag=None,
        environ=environ,
        build_dir=build_dir,
        jobs=1,
        disk_needed=disk_needed,
        platform="linux",
        configure_args=configure_args,
        tools=ToolOptions(clean_env=clean_env),
    )


@pytest.mark.parametrize(
    ("text", "launcher", "own"),
    [
        ("g++", None, ["g++"]),
        ("g++ -m32", None, ["g++", "-m32"]),
        ("ccache g++", "ccache", ["g++"]),
        ("env CCACHE_DIR=/x -u FOO ccache g++", "ccache", ["g++"]),
        ("env A=b g++", None, ["g++"]),
    ],
)
def test_resolve_finds_the_compiler_behind_launchers(
    text: str, launcher: str | None, own: list[str], bin_dir: Path
) -> None:
    command = resolve(text, str(bin_dir))
    assert isinstance(command, Command)
    assert command.launcher == launcher
    assert command.own == (str(bin_dir / own[0]), *own[1:])
    assert command.program == (bin_dir / "g++").resolve()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it names no program"),
        ("  ", "it names no program"),
        ("g++-99", "g++-99 was not found on PATH"),
        ("ccache g++-99", "g++-99 was not found on PATH"),
        ("sccache g++", "sccache was not found on PATH"),
        ("/nonexistent/g++", "/nonexistent/g++ does not exist"),
        ("ccache", "it names a launcher and no compiler"),
        ("g++ 'x", "it has an unclosed quote"),
        ("./g++", "./g++ is a relative path: configure runs in another folder"),
    ],
)
def test_resolve_of_an_unusable_command_returns_the_reason(text: str, why: str, bin_dir: Path) -> None:
    assert resolve(text, str(bin_dir)) == Unusable(why)


def test_resolve_finds_a_launcher_under_the_compilers_name(bin_dir: Path, tmp_path: Path) -> None:
    masked = tmp_path / "masked"
    masked.mkdir()
    (masked / "g++").symlink_to(bin_dir / "ccache")
    command = resolve("g++", f"{masked}:{bin_dir}")
    assert isinstance(command, Command)
    assert (command.launcher, command.program) == ("ccache", (bin_dir / "g++").resolve())
    assert isinstance(resolve("g++", str(masked)), Unusable)


@pytest.mark.parametrize("name", ["AR", "NM_host", "READELF_target", "CXX_host"])
def test_variable_of_gyp_that_names_no_program_is_an_error(name: str, bin_dir: Path) -> None:
    env = {"PATH": str(bin_dir), name: "nothing-here"}
    (finding,) = check_compiler_variables(env, "ninja", skip=frozenset())
    assert (finding.severity, finding.subject) == (Severity.ERROR, name)
    assert "nothing-here" in finding.what


@pytest.mark.parametrize(("generator", "subjects"), [("make", ["LINK"]), ("ninja", [])])
def test_link_variable_is_checked_for_make_only(generator: str, subjects: list[str], bin_dir: Path) -> None:
    env = {"PATH": str(bin_dir), "LINK": "nothing-here", "LD": "nothing-here"}
    found = check_compiler_variables(env, generator, skip=frozenset())
    assert [finding.subject for finding in found] == subjects


@pytest.mark.parametrize(
    "name", ["CFLAGS", "LDFLAGS", "GYP_DEFINES", "MAKEFLAGS", "NODE_OPTIONS", "BUILDTYPE", "CONDA_PREFIX"]
)
def test_leaking_variable_is_a_warning_with_its_value_shortened(name: str) -> None:
    (finding,) = check_leaks(request_for({name: "-O1 " * 100}))
    assert (finding.severity, finding.subject) == (Severity.WARNING, name)
    assert "-O1" in finding.what
    assert len(finding.what) < 100
    assert "--clean-env" in finding.remedy


def test_empty_flags_variable_is_no_warning() -> None:
    assert not list(check_leaks(request_for({"CFLAGS": "", "HOME": "/root"})))


def test_clean_environment_keeps_working_variables(bin_dir: Path) -> None:
    environ = {
        "PATH": str(bin_dir),
        "HOME": "/root",
        "LANG": "de_DE.UTF-8",
        "CC": "ccache gcc",
        "CXX": "g++-99",
        "AR": "",
        "CFLAGS": "-O0",
        "NODE_OPTIONS": "--inspect",
    }
    assert clean_environment(environ) == {
        "PATH": str(bin_dir),
        "HOME": "/root",
        "LANG": "de_DE.UTF-8",
        "CC": "ccache gcc",
    }
    (note,) = check_leaks(request_for(environ, clean_env=True))
    assert (note.severity, note.what) == (Severity.NOTE, "--clean-env dropped AR, CFLAGS, CXX, NODE_OPTIONS.")


def test_clean_environment_drops_compilers_of_conda(bin_dir: Path, tmp_path: Path) -> None:
    environ = {"PATH": "/", "CC": str(bin_dir / "gcc"), "CONDA_PREFIX": str(tmp_path)}
    assert clean_environment(environ) == {"PATH": "/"}


@pytest.mark.parametrize(
    ("args", "programs", "chosen"),
    [
        ((), ["ninja", "make"], "ninja"),
        ((), ["make"], "make"),
        ((), ["gmake"], "make"),
        ((), ["ninja-build"], "ninja"),
        ((), [], None),
        (("--ninja",), ["make"], None),
    ],
)
def test_build_tool_is_ninja_if_installed(
    args: tuple[str, ...],
    programs: list[str],
    chosen: str | None,
    tmp_path: Path,
) -> None:
    for name in programs:
        (tmp_path / name).touch(mode=0o755)
    env = {"PATH": str(tmp_path)}
    tool = choose_build_tool(request_for(env, configure_args=args), env)
    assert (tool.generator if isinstance(tool, BuildTool) else None) == chosen


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a:b", "a\tb", "a#b", "(a)"])
def test_build_folder_with_special_characters_is_an_error(name: str, tmp_path: Path) -> None:
    (finding,) = (
        each for each in check_resources(request_for({}, tmp_path / name), {}) if each.subject == "path"
    )
    assert finding.severity is Severity.ERROR


def test_plain_build_folder_is_no_finding(tmp_path: Path) -> None:
    found = check_resources(request_for({}, tmp_path / "it-is_v1.2" / "build"), {})
    assert not [each for each in found if each.subject in {"path", "disk", "clock"}]
    assert not list(tmp_path.iterdir())


def test_build_folder_behind_a_link_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / "a b")
    found = check_resources(request_for({}, tmp_path / "plain" / "build"), {})
    assert "path" in [each.subject for each in found]


def test_free_disk_space_decides_between_error_and_warning(tmp_path: Path) -> None:
    free = free_disk(tmp_path)
    found = [
        [each.severity for each in check_resources(request, {}) if each.subject == "disk"]
        for request in (
            request_for({}, tmp_path, disk_needed=needed) for needed in (free * 100, free * 2, free // 2)
        )
    ]
    assert found == [[Severity.ERROR], [Severity.WARNING], []]


def test_tmpdir_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    environ = {"TMPDIR": str(tmp_path / "nothing")}
    found = check_resources(request_for(environ, tmp_path), environ)
    assert "TMPDIR" in [each.subject for each in found if each.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("available", "jobs", "severity"),
    [
        (7 * 10**9, 10, None),
        (7 * 10**9, 11, Severity.WARNING),
        (10**9, 1, None),
        (10**9 - 1, 1, Severity.ERROR),
    ],
)
def test_check_memory_by_jobs(available: int, jobs: int, severity: Severity | None) -> None:
    assert [each.severity for each in check_memory(available, jobs)] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("written", "now", "warned"),
    [
        (1.8e9, 1.8e9 + 9, False),
        (1.8e9 + 11, 1.8e9, True),
        (1.8e9, 1.8e9 + 11, True),
        (1e9, 1e9, True),
    ],
)
def test_clock_that_differs_from_the_disk_is_a_warning(written: float, now: float, warned: bool) -> None:
    assert bool(list(check_clock(written, now))) is warned


def finding(severity: Severity, subject: str) -> Finding:
    return Finding(severity, subject, f"{subject} is wrong.", f"{subject} matters.", f"repair {subject}")


def test_raise_for_lists_all_errors_and_no_warnings() -> None:
    raise_for([finding(Severity.WARNING, "clock"), finding(Severity.NOTE, "environment")])
    found = [
        finding(Severity.ERROR, "CC"),
        finding(Severity.WARNING, "clock"),
        finding(Severity.ERROR, "disk"),
    ]
    with pytest.raises(ToolchainError) as caught:
        raise_for(found)
    message = str(caught.value)
    assert [text in message for text in ("repair CC", "repair disk", "repair clock")] == [True, True, False]
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("limit", "jobs", "count"), [(1024, 4, 0), (80, 4, 1), (1024, 200, 1)])
def test_limit_of_open_files_is_a_warning_for_too_many_jobs(
    monkeypatch: pytest.MonkeyPatch, limit: int, jobs: int, count: int
) -> None:
    limits = {resource.RLIMIT_NOFILE: limit, resource.RLIMIT_NPROC: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    found = list(check_limits(jobs))
    assert [finding.severity for finding in found] == [Severity.WARNING] * count
    assert all("ulimit -n" in finding.remedy for finding in found)
