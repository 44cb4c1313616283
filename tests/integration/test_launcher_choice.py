"""The choice of a launcher: settings for ccache, the size of farms, and counted hits."""

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
from nodekiln.toolchain import farms
from nodekiln.toolchain.launchers import Hits, counting_hits
from nodekiln.toolchain.model import Request, ToolOptions
from nodekiln.toolchain.toolchain import Programs, Toolchain, check_machine, detect

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
    """A build on a PATH with a ccache and a distcc that pass on every command."""
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
        platform="linux",
        configure_args=(),
        tools=ToolOptions(linker="default"),
    )


def using(request: Request, launcher: str, **variables: str) -> Request:
    tools = replace(request.tools, launcher=launcher)
    return replace(request, tools=tools, environ={**request.environ, **variables})


def nothing(path: str) -> bytes | None:
    return None


def found(request: Request, read: Read = nothing, **variables: str) -> Toolchain:
    return detect(Programs(replace(request, environ={**request.environ, **variables})), read)


def test_ccache_settings_let_trees_share_objects(asked: Request, tmp_path: Path) -> None:
    env = found(asked).build_env
    assert env["CCACHE_BASEDIR"] == str(tmp_path / "build")
    assert (env["CCACHE_NOHASHDIR"], env["CCACHE_COMPILERCHECK"]) == ("1", "content")


def test_ccache_settings_of_the_user_are_kept(asked: Request) -> None:
    config = (
        "(environment) hash_dir = true\n(/etc/ccache.conf) compiler_check = mtime\n(environment) base_dir = /"
    )
    env = found(asked, CONFIG=config, CCACHE_BASEDIR="/").build_env
    assert env["CCACHE_BASEDIR"] == "/"
    assert not {"CCACHE_NOHASHDIR", "CCACHE_COMPILERCHECK"} & set(env)


def test_distcc_is_put_behind_ccache(asked: Request) -> None:
    toolchain = found(using(asked, "distcc"))
    assert (toolchain.cxx, str(toolchain.launcher)) == ("ccache g++", "distcc behind ccache")
    assert toolchain.build_env["CCACHE_PREFIX"] == "distcc"
    assert toolchain.configure_env["CXX"] == found(asked).configure_env["CXX"]


def test_distcc_is_put_behind_a_ccache_in_cc_that_is_not_on_path(asked: Request, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ccache = (tmp_path / "bin" / "ccache").rename(tmp_path / "other" / "ccache")
    toolchain = found(using(asked, "distcc"), CC=f"{ccache} gcc", CXX=f"{ccache} g++")
    assert toolchain.cxx == f"{ccache} g++"
    assert toolchain.build_env["CCACHE_PREFIX"] == "distcc"


def test_check_machine_compiles_through_the_farm(asked: Request, tmp_path: Path) -> None:
    assert check_machine(Programs(using(asked, "distcc"))).errors == ()
    assert set((tmp_path / "prefixes").read_text().split()) == {"distcc"}


def test_prefix_command_of_the_user_is_a_farm(asked: Request) -> None:
    toolchain = found(asked, CONFIG="(environment) prefix_command = distcc", CCACHE_PREFIX="distcc")
    assert str(toolchain.launcher) == "distcc behind ccache"


def test_slots_of_a_farm_are_known_and_a_cache_has_none(asked: Request) -> None:
    farm, alone = found(using(asked, "distcc")), found(asked)
    assert farms.slots(farm.launcher, farm.build_env) == 12
    assert farms.slots(alone.launcher, alone.build_env) is None


def test_distcc_without_machines_is_an_error(asked: Request) -> None:
    lonely = using(asked, "distcc", DISTCC_HOSTS="")
    (error,) = check_machine(Programs(lonely)).errors
    assert (error.subject, "DISTCC_HOSTS" in error.remedy) == ("distcc", True)


SCCACHE = """\
case "$1" in
--show-stats) echo '{"cache_location": "'"$PLACE"'"}'; exit ;;
esac
exec "$@"
"""


@pytest.mark.parametrize(
    ("place", "store", "subjects"),
    [
        ("Local disk: /x", {"SCCACHE_REDIS_ENDPOINT": "tcp://10.0.0.5:6379"}, ["sccache"]),
        ("Redis: 10.0.0.5", {"SCCACHE_REDIS_ENDPOINT": "tcp://10.0.0.5:6379"}, []),
        ("Local disk: /x", {}, []),
    ],
)
def test_sccache_that_ignores_its_store_is_a_warning(
    asked: Request, tmp_path: Path, place: str, store: dict[str, str], subjects: list[str]
) -> None:
    program = tmp_path / "bin" / "sccache"
    program.write_text("#!/bin/sh\n" + SCCACHE)
    program.chmod(0o755)
    warnings = check_machine(Programs(using(asked, "sccache", PLACE=place, **store))).warnings
    assert [warning.subject for warning in warnings if warning.subject == "sccache"] == subjects


def test_launcher_none_uses_the_compilers_alone(asked: Request) -> None:
    toolchain = found(using(asked, "none"))
    assert (toolchain.cc, toolchain.cxx, str(toolchain.launcher)) == ("gcc", "g++", "none")
    assert "CCACHE_BASEDIR" not in toolchain.build_env


def test_launcher_that_conflicts_with_cc_raises_with_a_remedy(asked: Request) -> None:
    with pytest.raises(ToolchainError, match="CC or CXX has ccache in front") as refused:
        found(using(asked, "none"), CXX="ccache g++")
    assert "leave --launcher out" in str(refused.value)


def test_hits_of_other_builds_are_not_counted(asked: Request, tmp_path: Path) -> None:
    toolchain = found(asked)
    log = tmp_path / "stats.log"
    log.write_text("# of another build\ncache_miss\n")
    assert counted(toolchain, log, "# a.o\ndirect_cache_hit\n") == [Hits(1, 0)]


def test_stats_log_of_the_user_is_kept_and_read_from_its_end(asked: Request, tmp_path: Path) -> None:
    own = tmp_path / "own.log"
    own.write_text("# earlier\ncache_miss\n")
    toolchain = found(asked, CONFIG=f"(environment) stats_log = {own}")
    assert counted(toolchain, tmp_path / "ours.log", "# a.o\ndirect_cache_hit\n") == [Hits(1, 0)]
    assert own.read_text().startswith("# earlier")


def test_hits_of_a_build_that_compiled_nothing_are_not_reported(asked: Request, tmp_path: Path) -> None:
    assert counted(found(asked), tmp_path / "stats.log", "") == []


def counted(toolchain: Toolchain, log: Path, lines: str) -> list[Hits]:
    """Return the hits that are reported if a build adds `lines` to the log."""
    hits: list[Hits] = []
    with (
        counting_hits(toolchain.launcher, toolchain.build_env, log, hits.append) as env,
        Path(env["CCACHE_STATSLOG"]).open("a") as stats,
    ):
        stats.write(lines)
    return hits
