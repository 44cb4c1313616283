"""The program in front of the compilers: a cache (ccache, sccache), a farm (distcc, icecc), or none.

Chooses it and its settings, which do not override the user's, and counts a cache's hits.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.process import capture
from nodekiln.toolchain.environment import Command
from nodekiln.toolchain.model import Finding, Severity, search_path

CACHES, FARMS = ("ccache", "sccache"), ("distcc", "icecc")
CHOICES = (*CACHES, *FARMS, "none")
SCCACHE_STATS = ("sccache", "--show-stats", "--stats-format=json")

_CCACHE_SETTING = re.compile(r"^\(([^)]*)\) (\w+) = ?(.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """A launcher; `prefix` is put in front of every compiler that has no launcher (None: nothing).

    `cache` counts hits, `farm` compiles on other machines; `settings` are variables for the build, without
    those that the user has set. `stats_log` is the log that the user has configured for ccache.
    """

    prefix: str | None = None
    cache: str | None = None
    farm: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    stats_log: str | None = None

    def __str__(self) -> str:
        return " behind ".join(filter(None, (self.farm, self.cache))) or "none"

    @property
    def is_remote(self) -> bool:
        """True if it may compile on other machines, or has a remote store."""
        return self.farm is not None or self.cache == "sccache"

    def in_front(self, command: Command) -> str | None:
        """Return the word that the build puts in front of this compiler, if any."""
        return None if command.launcher is not None else self.prefix


def check_choice(name: str) -> str:
    """Return the name of a launcher; raise UsageError for another word."""
    if name not in CHOICES:
        raise UsageError(f"--launcher takes {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, not {name!r}.")
    return name


def choose_launcher(
    wanted: str | None, commands: Iterable[Command], env: Mapping[str, str], base: Path
) -> Launcher | Finding:
    """Return the launcher for these compilers; an error if `wanted` is missing or CC and CXX name another.

    By default the one that CC and CXX name, otherwise ccache, otherwise sccache, if installed. Paths below
    `base` do not count for a cache. Runs ccache once (5 ms).
    """
    installed = {name for name in (*CACHES, *FARMS) if shutil.which(name, path=search_path(env))}
    named = {command.launcher for command in commands if command.launcher is not None}
    if wanted is not None and (problem := _refusal(wanted, named, installed, env)) is not None:
        return problem
    cache = next((name for name in CACHES if name in (named or installed)), None)
    farm = next((name for name in FARMS if name in named), None)
    match wanted:
        case "none":
            return Launcher()
        case "ccache" | "sccache":
            cache = wanted
        case "distcc" | "icecc":
            farm = wanted
            # sccache can't pass its misses to another launcher, and a farm in CC has no cache in front.
            cache = "ccache" if "ccache" in (named or installed) else None
    if cache != "ccache":
        settings = {"SCCACHE_BASEDIRS": str(base)} if cache and "SCCACHE_BASEDIRS" not in env else {}
        return Launcher(prefix=cache or farm, cache=cache, farm=farm, settings=settings)
    settings, own = _ccache(env, base, farm)
    own_farm = Path(own.get("prefix_command", "")).name
    return Launcher(
        prefix="ccache",
        cache="ccache",
        farm=farm or (own_farm if own_farm in FARMS else None),
        settings=settings,
        stats_log=own.get("stats_log"),
    )


@cache
def _facts() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("launchers.toml").read_text())


def _refusal(wanted: str, named: set[str], installed: set[str], env: Mapping[str, str]) -> Finding | None:
    if wanted != "none" and wanted not in installed:
        return _missing(wanted)
    if others := sorted(named - set(_facts()[wanted]["takes"])):
        return Finding(
            Severity.ERROR,
            "CC",
            f"CC or CXX has {' and '.join(others)} in front of the compiler.",
            f"--launcher {wanted} conflicts with it.",
            "Set CC and CXX to the compilers alone (or unset them), or leave --launcher out.",
        )
    prefix = env.get("CCACHE_PREFIX", "")
    if wanted in FARMS and prefix and Path(prefix).name != wanted:
        return Finding(
            Severity.ERROR,
            "CCACHE_PREFIX",
            f"CCACHE_PREFIX is {prefix!r}.",
            f"With --launcher {wanted}, ccache passes its misses to {wanted}.",
            "unset CCACHE_PREFIX, or leave --launcher out.",
        )
    return None


def _missing(name: str) -> Finding:
    return Finding(
        Severity.ERROR,
        name,
        f"{name} was not found on PATH.",
        f"--launcher {name} requires it.",
        f"Install it ({_facts()[name]['install']}), or leave --launcher out.",
    )


def _ccache(env: Mapping[str, str], base: Path, farm: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return our settings for ccache, and the user's own (environment or a configuration file)."""
    try:
        config = capture(["ccache", "--show-config"], env=env, timeout=20).stdout.decode(errors="replace")
    except (OSError, KilnError):
        config = ""  # the check of the compilers reports a ccache that does not work
    own = own_settings(config)
    settings = {variable: value for name, (variable, value) in _relocatable(base).items() if name not in own}
    if farm is not None:
        settings["CCACHE_PREFIX"] = farm
    return settings, own


def own_settings(config: str) -> dict[str, str]:
    """Return the settings in `ccache --show-config` that are not defaults, by ccache's names."""
    return {
        name: value.strip() for origin, name, value in _CCACHE_SETTING.findall(config) if origin != "default"
    }


def _relocatable(base: Path) -> dict[str, tuple[str, str]]:
    """Return the settings that let trees share objects, by ccache's name.

    Absolute paths below `base` count as relative; the compiler's working directory does not count; a compiler
    is identified by its content, which another installation of the same version has too.
    """
    return {
        "base_dir": ("CCACHE_BASEDIR", str(base)),
        "hash_dir": ("CCACHE_NOHASHDIR", "1"),
        "compiler_check": ("CCACHE_COMPILERCHECK", "content"),
    }


# Hits of a cache during one build


@dataclass(frozen=True, slots=True)
class Hits:
    """Compilations that the cache answered (`hits`, `remote` of them from a remote store), and the others."""

    hits: int
    misses: int
    remote: int = 0

    def __str__(self) -> str:
        total = self.hits + self.misses
        # Rounded down: less than all is never 100%.
        rate = self.hits * 1000 // total / 10 if total else 0.0
        text = f"{self.hits} of {total} compilations from the cache ({rate:g}%)"
        return text + (f", {self.remote} of them from the remote store" if self.remote else "")


@contextmanager
def counting_hits(
    launcher: Launcher, env: Mapping[str, str], log: Path, report: Callable[[Hits], None]
) -> Iterator[Mapping[str, str]]:
    """Yield the environment for a build, and report the cache's hits at its end, if anything was compiled.

    ccache counts in `log`, which belongs to this build, so that simultaneous builds are not counted; if the
    user has configured another log, in that.
    """
    start = 0
    if launcher.stats_log:
        log = Path(launcher.stats_log)
        start = log.stat().st_size if log.is_file() else 0
    else:
        log.unlink(missing_ok=True)
    before = _sccache_stats(launcher, env)
    yield {**env, "CCACHE_STATSLOG": str(log)} if launcher.cache == "ccache" else env
    hits = None
    if launcher.cache == "ccache":
        with suppress(OSError):
            hits = from_log(log.read_bytes()[start:].decode(errors="replace"))
    elif launcher.cache == "sccache":
        hits = between(before, _sccache_stats(launcher, env))
    if hits is not None and hits.hits + hits.misses:
        report(hits)


def from_log(log: str) -> Hits:
    """Return the counts in a stats log of ccache 4.0 or later: a counter's name a line, # before a file's."""
    counted = Counter(line for line in log.splitlines() if not line.startswith("#"))
    return Hits(
        counted["direct_cache_hit"] + counted["preprocessed_cache_hit"],
        counted["cache_miss"],
        counted["remote_storage_hit"],
    )


def between(before: str, after: str) -> Hits | None:
    """Return the difference of two outputs of sccache --show-stats (JSON); None if one is invalid."""
    with suppress(ValueError, TypeError, KeyError):
        first, last = _counts(before), _counts(after)
        # A server that was restarted in between counts from zero.
        base = first if last[0] >= first[0] and last[1] >= first[1] else (0, 0)
        return Hits(last[0] - base[0], last[1] - base[1])
    return None


def _counts(output: str) -> tuple[int, int]:
    stats = json.loads(output)["stats"]
    hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return hits, misses


def _sccache_stats(launcher: Launcher, env: Mapping[str, str]) -> str:
    """Start sccache's server as well, if none runs: started by the build, it would end with it."""
    if launcher.cache != "sccache":
        return ""
    try:
        answer = capture(SCCACHE_STATS, env=env, timeout=60)
    except (OSError, KilnError):
        return ""  # the check of the compilers reports an sccache that does not work
    return answer.stdout.decode(errors="replace")
