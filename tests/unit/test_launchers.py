"""What caches and farms answer, and which launcher is taken. Fake programs are files on a PATH."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.toolchain.cachestats import Hits, between, from_log
from nodekiln.toolchain.commands import Command
from nodekiln.toolchain.farms import icecc_slots, sccache_slots
from nodekiln.toolchain.findings import Finding
from nodekiln.toolchain.launchers import Launcher, check_choice, choose_launcher, own_settings

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
    folder: Path, wanted: str | None, *there: str, named: str | None = None, **variables: str
) -> Launcher | Finding:
    """The choice where the programs `there` are on PATH and CC and CXX name the launcher `named`."""
    for name in there:
        (folder / name).touch(mode=0o755)
    env = {"PATH": str(folder), **variables}
    return choose_launcher(wanted, [command(named), command(named)], env, Path("/build"))


def test_only_what_somebody_has_set_counts_as_set() -> None:
    assert own_settings(CONFIG) == {
        "cache_dir": "/srv/ccache",
        "hash_dir": "false",
        "stats_log": "/var/a (b) = c",
    }


@pytest.mark.parametrize("text", ["", "ccache: error: no such option", "(default) x"])
def test_an_answer_that_is_no_configuration_sets_nothing(text: str) -> None:
    assert own_settings(text) == {}


def test_sccache_is_taken_where_there_is_no_ccache(tmp_path: Path) -> None:
    assert choose(tmp_path, None, "sccache") == Launcher(
        prefix="sccache", cache="sccache", settings={"SCCACHE_BASEDIRS": "/build"}
    )


def test_base_directories_of_the_users_stay(tmp_path: Path) -> None:
    chosen = choose(tmp_path, "sccache", "sccache", SCCACHE_BASEDIRS="/mine")
    assert chosen == Launcher(prefix="sccache", cache="sccache")


def test_where_nothing_is_there_nothing_is_put_in_front(tmp_path: Path) -> None:
    assert choose(tmp_path, None) == Launcher()


def test_none_is_nothing_even_where_a_cache_is_there(tmp_path: Path) -> None:
    assert choose(tmp_path, "none", "ccache", "sccache", "distcc") == Launcher()


@pytest.mark.parametrize("farm", ["distcc", "icecc"])
def test_a_farm_stands_alone_where_there_is_no_ccache(tmp_path: Path, farm: str) -> None:
    chosen = choose(tmp_path, farm, farm, "sccache")
    assert chosen == Launcher(prefix=farm, farm=farm)
    assert str(chosen) == farm


def test_a_farm_that_cc_names_is_one(tmp_path: Path) -> None:
    chosen = choose(tmp_path, None, "distcc", "sccache", named="distcc")
    assert isinstance(chosen, Launcher)
    assert chosen.farm == "distcc"
    assert chosen.in_front(command("distcc")) is None


@pytest.mark.parametrize("wanted", ["ccache", "sccache", "distcc", "icecc"])
def test_a_launcher_that_is_not_there_is_named_with_its_packages(tmp_path: Path, wanted: str) -> None:
    refused = choose(tmp_path, wanted)
    assert isinstance(refused, Finding)
    assert refused.what == f"there is no {wanted} on PATH."
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
def test_cc_and_the_option_may_not_name_two(tmp_path: Path, wanted: str, named: str, refused: bool) -> None:
    chosen = choose(tmp_path, wanted, "ccache", "sccache", "distcc", "icecc", named=named)
    assert isinstance(chosen, Finding) is refused


def test_a_prefix_of_the_users_and_another_farm_are_told_apart(tmp_path: Path) -> None:
    refused = choose(tmp_path, "distcc", "distcc", CCACHE_PREFIX="/usr/bin/icecc")
    assert isinstance(refused, Finding)
    assert refused.subject == "CCACHE_PREFIX"


def test_a_launcher_that_is_none_is_refused() -> None:
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
def test_a_stats_log_is_counted(log: str, hits: Hits) -> None:
    assert from_log(log) == hits


@pytest.mark.parametrize(
    ("hits", "told"),
    [
        (Hits(1, 0), "1 of 1 compilations from the cache (100%)"),
        (Hits(1999, 1), "1999 of 2000 compilations from the cache (99.9%)"),
        (Hits(19999, 1), "19999 of 20000 compilations from the cache (99.9%)"),
        (Hits(0, 3), "0 of 3 compilations from the cache (0%)"),
        (Hits(2, 1, remote=2), "2 of 3 compilations from the cache (66.6%), 2 of them from the remote store"),
    ],
)
def test_a_rate_is_not_rounded_up(hits: Hits, told: str) -> None:
    assert str(hits) == told


def stats(hits: dict[str, int], misses: dict[str, int]) -> str:
    return json.dumps({"stats": {"cache_hits": {"counts": hits}, "cache_misses": {"counts": misses}}})


def test_sccache_is_counted_by_difference_over_all_languages() -> None:
    before, after = stats({"C/C++": 1}, {}), stats({"C/C++": 5, "Rust": 2}, {"C/C++": 3})
    assert between(before, after) == Hits(6, 3)


def test_a_server_that_was_started_anew_counts_from_nothing() -> None:
    assert between(stats({"C/C++": 9}, {"C/C++": 9}), stats({"C/C++": 2}, {"C/C++": 1})) == Hits(2, 1)


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"stats": 1}', "sccache: error"])
def test_an_sccache_that_does_not_tell_has_no_rate(answer: str) -> None:
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
def test_sccaches_scheduler_tells_its_cores(status: str, slots: int | None) -> None:
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
def test_iceccs_scheduler_tells_the_jobs_of_its_machines(listing: str, slots: int | None) -> None:
    assert icecc_slots(listing) == slots
