"""Launchers on a PATH: the settings that ccache gets, farms and their size, and what was counted."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nodekiln.core.edit import Read
from nodekiln.core.errors import ToolchainError
from nodekiln.core.process import child_environment
from nodekiln.toolchain import cachestats, farms
from nodekiln.toolchain.cachestats import Hits
from nodekiln.toolchain.checks import check_machine
from nodekiln.toolchain.request import Request
from nodekiln.toolchain.toolchain import Toolchain, detect

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="there is no gcc and g++ on PATH"
)

CCACHE = """\
case "$1" in
--show-config) printf '%s\\n' "(default) base_dir = " "$CONFIG"; exit ;;
esac
echo "$CCACHE_PREFIX" >>"$TMPDIR/prefixes"
[ -z "$CCACHE_STATSLOG" ] || printf '# %s\\ndirect_cache_hit\\n' "$*" >>"$CCACHE_STATSLOG"
exec "$@"
"""
DISTCC = """\
case "$1" in
-j) echo 12; exit ;;
--show-hosts) echo "$DISTCC_HOSTS"; exit ;;
esac
exec "$@"
"""


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    """A build on a PATH with a ccache and a distcc that hand everything on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("ccache", CCACHE), ("distcc", DISTCC), ("python3", f'exec {sys.executable} "$@"\n')):
        (folder / name).write_text("#!/bin/sh\n" + text)
        (folder / name).chmod(0o755)
    environ = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "TMPDIR": str(tmp_path),
        "CONFIG": "(default) hash_dir = true",
        "DISTCC_HOSTS": "localhost/4 other/8",
    }
    return Request(
        tag=None,
        environ=child_environment(environ, venv=None),
        build_dir=tmp_path / "build",
        jobs=1,
        disk_needed=0,
        clean_env=False,
        platform="linux",
        configure_args=(),
        use_ninja=None,
        linker="default",
    )


def nothing(path: str) -> bytes | None:
    return None


def found(request: Request, read: Read = nothing, **variables: str) -> Toolchain:
    return detect(replace(request, environ={**request.environ, **variables}), read)


def test_ccache_gets_settings_that_let_trees_share(asked: Request, tmp_path: Path) -> None:
    env = found(asked).build_env
    assert env["CCACHE_BASEDIR"] == str(tmp_path / "build")
    assert (env["CCACHE_NOHASHDIR"], env["CCACHE_COMPILERCHECK"]) == ("1", "content")


def test_settings_of_the_users_stay_as_they_are(asked: Request) -> None:
    config = (
        "(environment) hash_dir = true\n(/etc/ccache.conf) compiler_check = mtime\n(environment) base_dir = /"
    )
    env = found(asked, CONFIG=config, CCACHE_BASEDIR="/").build_env
    assert env["CCACHE_BASEDIR"] == "/"
    assert not {"CCACHE_NOHASHDIR", "CCACHE_COMPILERCHECK"} & set(env)


def test_distcc_gets_what_ccache_does_not_have(asked: Request) -> None:
    toolchain = found(replace(asked, launcher="distcc"))
    assert (toolchain.cxx, str(toolchain.launcher)) == ("ccache g++", "distcc behind ccache")
    assert toolchain.build_env["CCACHE_PREFIX"] == "distcc"
    assert toolchain.configure_env["CXX"] == found(asked).configure_env["CXX"]


def test_distcc_goes_behind_a_ccache_that_only_cc_and_cxx_name(asked: Request, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ccache = (tmp_path / "bin" / "ccache").rename(tmp_path / "other" / "ccache")
    toolchain = found(replace(asked, launcher="distcc"), CC=f"{ccache} gcc", CXX=f"{ccache} g++")
    assert toolchain.cxx == f"{ccache} g++"
    assert toolchain.build_env["CCACHE_PREFIX"] == "distcc"


def test_the_look_at_the_compilers_goes_by_way_of_the_farm(asked: Request, tmp_path: Path) -> None:
    assert check_machine(replace(asked, launcher="distcc")).errors == ()
    assert set((tmp_path / "prefixes").read_text().split()) == {"distcc"}


def test_a_prefix_of_the_users_makes_a_farm_too(asked: Request) -> None:
    toolchain = found(asked, CONFIG="(environment) prefix_command = distcc", CCACHE_PREFIX="distcc")
    assert str(toolchain.launcher) == "distcc behind ccache"


def test_a_farm_tells_its_size_and_a_cache_has_none(asked: Request) -> None:
    farm, alone = found(replace(asked, launcher="distcc")), found(asked)
    assert farms.slots(farm.launcher, farm.build_env) == 12
    assert farms.slots(alone.launcher, alone.build_env) is None


def test_a_distcc_without_machines_is_an_error(asked: Request) -> None:
    lonely = replace(asked, launcher="distcc", environ={**asked.environ, "DISTCC_HOSTS": ""})
    (error,) = check_machine(lonely).errors
    assert (error.subject, "DISTCC_HOSTS" in error.remedy) == ("distcc", True)


SCCACHE = """\
case "$1" in
--show-stats) echo '{"cache_location": "'"$PLACE"'"}'; exit ;;
esac
exec "$@"
"""


@pytest.mark.parametrize(
    ("place", "store", "told"),
    [
        ("Local disk: /x", {"SCCACHE_REDIS_ENDPOINT": "tcp://10.0.0.5:6379"}, ["sccache"]),
        ("Redis: 10.0.0.5", {"SCCACHE_REDIS_ENDPOINT": "tcp://10.0.0.5:6379"}, []),
        ("Local disk: /x", {}, []),
    ],
)
def test_an_sccache_that_does_without_its_store_is_warned_about(
    asked: Request, tmp_path: Path, place: str, store: dict[str, str], told: list[str]
) -> None:
    program = tmp_path / "bin" / "sccache"
    program.write_text("#!/bin/sh\n" + SCCACHE)
    program.chmod(0o755)
    environ = {**asked.environ, **store, "PLACE": place}
    warnings = check_machine(replace(asked, launcher="sccache", environ=environ)).warnings
    assert [warning.subject for warning in warnings if warning.subject == "sccache"] == told


def test_none_takes_the_compilers_as_they_are(asked: Request) -> None:
    toolchain = found(replace(asked, launcher="none"))
    assert (toolchain.cc, toolchain.cxx, str(toolchain.launcher)) == ("gcc", "g++", "none")
    assert "CCACHE_BASEDIR" not in toolchain.build_env


def test_a_launcher_that_cc_contradicts_ends_the_run_with_what_to_do(asked: Request) -> None:
    with pytest.raises(ToolchainError, match="CC or CXX has ccache in front") as refused:
        found(replace(asked, launcher="none"), CXX="ccache g++")
    assert "leave --launcher out" in str(refused.value)


def test_hits_are_those_of_this_build_alone(asked: Request, tmp_path: Path) -> None:
    toolchain = found(asked)
    log = tmp_path / "stats.log"
    log.write_text("# of another build\ncache_miss\n")
    reading, env = cachestats.start(toolchain.launcher, toolchain.build_env, log)
    with Path(env["CCACHE_STATSLOG"]).open("a") as counted:
        counted.write("# a.o\ndirect_cache_hit\n")
    assert cachestats.finish(reading) == Hits(1, 0)


def test_a_stats_log_of_the_users_is_kept_and_read_from_its_end(asked: Request, tmp_path: Path) -> None:
    own = tmp_path / "own.log"
    own.write_text("# earlier\ncache_miss\n")
    toolchain = found(asked, CONFIG=f"(environment) stats_log = {own}")
    reading, env = cachestats.start(toolchain.launcher, toolchain.build_env, tmp_path / "ours.log")
    with Path(env["CCACHE_STATSLOG"]).open("a") as counted:
        counted.write("# a.o\ndirect_cache_hit\n")
    assert cachestats.finish(reading) == Hits(1, 0)
    assert own.read_text().startswith("# earlier")


def test_a_build_that_compiled_nothing_tells_no_rate(asked: Request, tmp_path: Path) -> None:
    toolchain = found(asked)
    reading, _ = cachestats.start(toolchain.launcher, toolchain.build_env, tmp_path / "stats.log")
    assert cachestats.finish(reading) is None
