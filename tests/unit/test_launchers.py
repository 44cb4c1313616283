"""The choice of a launcher, and the output of caches and farms. Fake programs are files on a PATH."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.toolchain.environment import Command
from nodekiln.toolchain.farms import icecc_slots, sccache_slots
from nodekiln.toolchain.launchers import (
    Hits,
    Launcher,
    between,
    check_choice,
    choose_launcher,
    from_log,
    own_settings,
)
from nodekiln.toolchain.model import Finding

CONFIG = """\
(default) base_dir =
(environment) cache_dir = /srv/ccache
(/home/me/.config/ccache/ccache.conf) hash_dir = false
(default) compiler_check = mtime
(environment) stats_log = /var/a (b) = c
"""


def command(launcher: str | None = None) -> Command:
    words = ("g++",) if launcher is None else (launcher, "g++")
    return Command(words, launcher, ("g++",), Path("/usr/bin/g++"))


def choose(
    folder: Path, wanted: str | None, *installed: str, named: str | None = None, **variables: str
) -> Launcher | Finding:
    """Choose with the programs `installed` on PATH and the launcher `named` in CC and CXX."""
    for name in installed:
        (folder / name).touch(mode=0o755)
    env = {"PATH": str(folder), **variables}
    return choose_launcher(wanted, [command(named), command(named)], env, Path("/build"))


def test_own_settings_leave_out_defaults() -> None:
    assert own_settings(CONFIG) == {
        "cache_dir": "/srv/ccache",
        "hash_dir": "false",
        "stats_log": "/var/a (b) = c",
    }


@pytest.mark.parametrize("text", ["", "ccache: error: no such option", "(default) x"])
def test_own_settings_of_other_text_are_empty(text: str) -> None:
    assert own_settings(text) == {}


def test_sccache_is_used_without_ccache(tmp_path: Path) -> None:
    assert choose(tmp_path, None, "sccache") == Launcher(
        prefix="sccache", cache="sccache", settings={"SCCACHE_BASEDIRS": "/build"}
    )


def test_sccache_base_directories_of_the_user_are_kept(tmp_path: Path) -> None:
    chosen = choose(tmp_path, "sccache", "sccache", SCCACHE_BASEDIRS="/mine")
    assert chosen == Launcher(prefix="sccache", cache="sccache")


def test_nothing_installed_means_no_launcher(tmp_path: Path) -> None:
    assert choose(tmp_path, None) == Launcher()


def test_launcher_none_ignores_installed_caches(tmp_path: Path) -> None:
    assert choose(tmp_path, "none", "ccache", "sccache", "distcc") == Launcher()


@pytest.mark.parametrize("farm", ["distcc", "icecc"])
def test_farm_without_ccache_has_no_cache(tmp_path: Path, farm: str) -> None:
    chosen = choose(tmp_path, farm, farm, "sccache")
    assert chosen == Launcher(prefix=farm, farm=farm)
    assert str(chosen) == farm


def test_farm_in_cc_is_used(tmp_path: Path) -> None:
    chosen = choose(tmp_path, None, "distcc", "sccache", named="distcc")
    assert isinstance(chosen, Launcher)
    assert chosen.farm == "distcc"
    assert chosen.in_front(command("distcc")) is None


@pytest.mark.parametrize("wanted", ["ccache", "sccache", "distcc", "icecc"])
def test_missing_launcher_is_an_error_with_its_package(tmp_path: Path, wanted: str) -> None:
    refused = choose(tmp_path, wanted)
    assert isinstance(refused, Finding)
    assert refused.what == f"{wanted} was not found on PATH."
    assert f"apt install {wanted}" in refused.remedy


@pytest.mark.parametrize(
    ("wanted", "named", "refused"),
    [
        ("ccache", "sccache", True),
        ("sccache", "ccache", True),
        ("none", "ccache", True),
        ("icecc", "distcc", True),
        ("distcc", "sccache", True),
        ("distcc", "distcc", False),
        ("sccache", "sccache", False),
    ],
)
def test_launcher_that_conflicts_with_cc_is_an_error(
    tmp_path: Path, wanted: str, named: str, refused: bool
) -> None:
    chosen = choose(tmp_path, wanted, "ccache", "sccache", "distcc", "icecc", named=named)
    assert isinstance(chosen, Finding) is refused


def test_farm_that_conflicts_with_ccache_prefix_is_an_error(tmp_path: Path) -> None:
    refused = choose(tmp_path, "distcc", "distcc", CCACHE_PREFIX="/usr/bin/icecc")
    assert isinstance(refused, Finding)
    assert refused.subject == "CCACHE_PREFIX"


def test_unknown_launcher_is_a_usage_error() -> None:
    assert check_choice("icecc") == "icecc"
    with pytest.raises(UsageError, match="ccache, sccache, distcc, icecc or none, not 'make'"):
        check_choice("make")


LOG = """\
# obj/a.o
direct_cache_hit
local_storage_hit
# obj/b.o
preprocessed_cache_hit
remote_storage_hit
# direct_cache_hit
cache_miss
direct_cache_miss
# obj/d.o
called_for_link
"""


@pytest.mark.parametrize(("log", "hits"), [(LOG, Hits(2, 1, remote=1)), ("", Hits(0, 0))])
def test_ccache_stats_log_is_counted(log: str, hits: Hits) -> None:
    assert from_log(log) == hits


@pytest.mark.parametrize(
    ("hits", "text"),
    [
        (Hits(1, 0), "1 of 1 compilations from the cache (100%)"),
        (Hits(1999, 1), "1999 of 2000 compilations from the cache (99.9%)"),
        (Hits(19999, 1), "19999 of 20000 compilations from the cache (99.9%)"),
        (Hits(0, 3), "0 of 3 compilations from the cache (0%)"),
        (Hits(2, 1, remote=2), "2 of 3 compilations from the cache (66.6%), 2 of them from the remote store"),
    ],
)
def test_hit_rate_is_rounded_down(hits: Hits, text: str) -> None:
    assert str(hits) == text


def stats(hits: dict[str, int], misses: dict[str, int]) -> str:
    return json.dumps({"stats": {"cache_hits": {"counts": hits}, "cache_misses": {"counts": misses}}})


def test_sccache_hits_are_the_difference_over_all_languages() -> None:
    before, after = stats({"C/C++": 1}, {}), stats({"C/C++": 5, "Rust": 2}, {"C/C++": 3})
    assert between(before, after) == Hits(6, 3)


def test_sccache_hits_after_a_server_restart_count_from_zero() -> None:
    assert between(stats({"C/C++": 9}, {"C/C++": 9}), stats({"C/C++": 2}, {"C/C++": 1})) == Hits(2, 1)


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"stats": 1}', "sccache: error"])
def test_sccache_hits_of_invalid_output_are_unknown(answer: str) -> None:
    assert between(answer, answer) is None


@pytest.mark.parametrize(
    ("status", "slots"),
    [
        ('{"SchedulerStatus": ["http://10.0.0.1:10600/", {"num_servers": 2, "num_cpus": 24}]}', 24),
        ('{"SchedulerStatus": ["http://10.0.0.1:10600/", {"num_servers": 0, "num_cpus": 0}]}', None),
        ('{"Disabled": "disabled"}', None),
        ('{"SchedulerStatus": []}', None),
        ("null", None),
        ("", None),
    ],
)
def test_sccache_slots_are_the_schedulers_cores(status: str, slots: int | None) -> None:
    assert sccache_slots(status) == slots


LISTING = """\
200-ICECC 1.4.0: 10s uptime, 2 hosts, 0 jobs in queue (0 total).
200 Use 'help' for help and 'quit' to quit.
 one (10.0.0.1:10245) [x86_64] speed=0.00 jobs=0/3 load=471
 two (10.0.0.2:10245) [x86_64] speed=9.10 jobs=2/8 load=12
200 done
"""


@pytest.mark.parametrize(
    ("listing", "slots"), [(LISTING, 11), ("", None), ("200 done", None), (" x jobs=0/? jobs=1", None)]
)
def test_icecc_slots_are_the_jobs_of_all_machines(listing: str, slots: int | None) -> None:
    assert icecc_slots(listing) == slots
