"""Variables that leak into a build, and commands that name no program. Fake programs are files on a PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.core.errors import ToolchainError
from nodekiln.core.platform import free_disk
from nodekiln.toolchain.build_tools import Maker, choose_maker
from nodekiln.toolchain.commands import Command, Unusable, resolve
from nodekiln.toolchain.environment import check_compiler_variables, check_leaks, clean_environment
from nodekiln.toolchain.findings import Finding, Severity, raise_for
from nodekiln.toolchain.machine_checks import check_clock, check_memory, check_places
from nodekiln.toolchain.request import Request


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
    use_ninja: bool | None = None,
) -> Request:
    return Request(
        tag=None,
        environ=environ,
        build_dir=build_dir,
        jobs=1,
        disk_needed=disk_needed,
        clean_env=clean_env,
        platform="linux",
        configure_args=configure_args,
        use_ninja=use_ninja,
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
def test_the_compiler_is_found_behind_launchers(
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
        ("g++-99", "there is no program g++-99 on PATH"),
        ("ccache g++-99", "there is no program g++-99 on PATH"),
        ("sccache g++", "there is no program sccache on PATH"),
        ("/nonexistent/g++", "there is no program /nonexistent/g++"),
        ("ccache", "it names a launcher and no compiler"),
        ("g++ 'x", "it has an open quote"),
        ("./g++", "./g++ is a relative path: configure runs in another folder"),
    ],
)
def test_a_command_that_can_not_run_says_why(text: str, why: str, bin_dir: Path) -> None:
    assert resolve(text, str(bin_dir)) == Unusable(why)


def test_a_launcher_that_hides_behind_the_compilers_name_is_seen(bin_dir: Path, tmp_path: Path) -> None:
    masked = tmp_path / "masked"
    masked.mkdir()
    (masked / "g++").symlink_to(bin_dir / "ccache")
    command = resolve("g++", f"{masked}:{bin_dir}")
    assert isinstance(command, Command)
    assert (command.launcher, command.program) == ("ccache", (bin_dir / "g++").resolve())
    assert isinstance(resolve("g++", str(masked)), Unusable)


@pytest.mark.parametrize("name", ["AR", "NM_host", "READELF_target", "CXX_host"])
def test_every_variable_that_gyp_reads_has_to_name_a_program(name: str, bin_dir: Path) -> None:
    env = {"PATH": str(bin_dir), name: "nothing-here"}
    (finding,) = check_compiler_variables(env, "ninja", skip=frozenset())
    assert (finding.severity, finding.subject) == (Severity.ERROR, name)
    assert "nothing-here" in finding.what


@pytest.mark.parametrize(("generator", "subjects"), [("make", ["LINK"]), ("ninja", [])])
def test_only_make_reads_link(generator: str, subjects: list[str], bin_dir: Path) -> None:
    env = {"PATH": str(bin_dir), "LINK": "nothing-here", "LD": "nothing-here"}
    found = check_compiler_variables(env, generator, skip=frozenset())
    assert [finding.subject for finding in found] == subjects


@pytest.mark.parametrize(
    "name", ["CFLAGS", "LDFLAGS", "GYP_DEFINES", "MAKEFLAGS", "NODE_OPTIONS", "BUILDTYPE", "CONDA_PREFIX"]
)
def test_a_leaking_variable_is_named_with_its_value_shortened(name: str) -> None:
    (finding,) = check_leaks(request_for({name: "-O1 " * 100}))
    assert (finding.severity, finding.subject) == (Severity.WARNING, name)
    assert "-O1" in finding.what
    assert len(finding.what) < 100
    assert "--clean-env" in finding.remedy


def test_an_empty_flags_variable_changes_nothing_and_is_not_warned_about() -> None:
    assert not list(check_leaks(request_for({"CFLAGS": "", "HOME": "/root"})))


def test_a_clean_environment_keeps_what_is_meant(bin_dir: Path) -> None:
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


def test_a_clean_environment_drops_condas_compilers(bin_dir: Path, tmp_path: Path) -> None:
    environ = {"PATH": "/", "CC": str(bin_dir / "gcc"), "CONDA_PREFIX": str(tmp_path)}
    assert clean_environment(environ) == {"PATH": "/"}


@pytest.mark.parametrize(
    ("use_ninja", "args", "programs", "chosen"),
    [
        (None, (), ["ninja", "make"], "ninja"),
        (None, (), ["make"], "make"),
        (None, (), ["gmake"], "make"),
        (None, (), ["ninja-build"], "ninja"),
        (False, (), ["ninja", "make"], "make"),
        (None, (), [], None),
        (True, (), ["make"], None),
        (None, ("--ninja",), ["make"], None),
        (False, (), ["ninja"], None),
    ],
)
def test_ninja_is_taken_where_it_is_there(
    use_ninja: bool | None,
    args: tuple[str, ...],
    programs: list[str],
    chosen: str | None,
    tmp_path: Path,
) -> None:
    for name in programs:
        (tmp_path / name).touch(mode=0o755)
    env = {"PATH": str(tmp_path)}
    maker = choose_maker(request_for(env, use_ninja=use_ninja, configure_args=args), env)
    assert (maker.generator if isinstance(maker, Maker) else None) == chosen


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a:b", "a\tb", "a#b", "(a)"])
def test_a_build_folder_that_make_would_split_is_an_error(name: str, tmp_path: Path) -> None:
    (finding,) = (
        each for each in check_places(request_for({}, tmp_path / name), {}) if each.subject == "path"
    )
    assert finding.severity is Severity.ERROR


def test_a_plain_build_folder_is_none(tmp_path: Path) -> None:
    found = check_places(request_for({}, tmp_path / "it-is_v1.2" / "build"), {})
    assert not [each for each in found if each.subject in {"path", "disk", "clock"}]
    assert not list(tmp_path.iterdir())


def test_a_link_with_a_plain_name_does_not_hide_a_space(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / "a b")
    found = check_places(request_for({}, tmp_path / "plain" / "build"), {})
    assert "path" in [each.subject for each in found]


def test_a_disk_with_room_for_no_build_is_an_error_and_one_that_may_do_a_warning(tmp_path: Path) -> None:
    free = free_disk(tmp_path)
    found = [
        [each.severity for each in check_places(request, {}) if each.subject == "disk"]
        for request in (
            request_for({}, tmp_path, disk_needed=needed) for needed in (free * 100, free * 2, free // 2)
        )
    ]
    assert found == [[Severity.ERROR], [Severity.WARNING], []]


def test_a_tmpdir_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    environ = {"TMPDIR": str(tmp_path / "nothing")}
    found = check_places(request_for(environ, tmp_path), environ)
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
def test_memory_has_to_do_for_the_jobs(available: int, jobs: int, severity: Severity | None) -> None:
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
def test_a_clock_that_is_off_is_warned_about(written: float, now: float, warned: bool) -> None:
    assert bool(list(check_clock(written, now))) is warned


def finding(severity: Severity, subject: str) -> Finding:
    return Finding(severity, subject, f"{subject} is wrong.", f"{subject} matters.", f"mend {subject}")


def test_all_errors_are_raised_at_once_and_warnings_never() -> None:
    raise_for([finding(Severity.WARNING, "clock"), finding(Severity.NOTE, "environment")])
    found = [
        finding(Severity.ERROR, "CC"),
        finding(Severity.WARNING, "clock"),
        finding(Severity.ERROR, "disk"),
    ]
    with pytest.raises(ToolchainError) as caught:
        raise_for(found)
    said = str(caught.value)
    assert [text in said for text in ("mend CC", "mend disk", "mend clock")] == [True, True, False]
    assert caught.value.exit_code == 3
