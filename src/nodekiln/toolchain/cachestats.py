"""How many objects of one build came from the compiler cache."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.launchers import SCCACHE_STATS, Launcher


@dataclass(frozen=True, slots=True)
class Hits:
    """Compilations that the cache answered (`hits`, of which `remote` from a remote store), and others."""

    hits: int
    misses: int
    remote: int = 0

    def __str__(self) -> str:
        total = self.hits + self.misses
        # Rounded down: 100% is said of nothing less.
        rate = self.hits * 1000 // total / 10 if total else 0.0
        told = f"{self.hits} of {total} compilations from the cache ({rate:g}%)"
        return told + (f", {self.remote} of them from the remote store" if self.remote else "")


@dataclass(frozen=True, slots=True)
class Reading:
    """A cache's counters before a build. `log` is where ccache counts, and how long it was."""

    launcher: Launcher
    env: Mapping[str, str]
    log: Path
    begin: int
    sccache: str


def start(launcher: Launcher, env: Mapping[str, str], log: Path) -> tuple[Reading, dict[str, str]]:
    """Reads the counters, and returns the environment in which the build counts.

    ccache counts in `log`, which is this build's alone, so that other builds at the same time don't count in;
    where the user has named a log of his own, in that.
    """
    if launcher.stats_log:
        log = Path(launcher.stats_log)
        begin = log.stat().st_size if log.is_file() else 0
    else:
        log.unlink(missing_ok=True)
        begin = 0
    counting = {"CCACHE_STATSLOG": str(log)} if launcher.cache == "ccache" else {}
    reading = Reading(launcher, env, log, begin, _sccache(launcher, env))
    return reading, {**env, **counting}


def finish(reading: Reading) -> Hits | None:
    """What was counted since; None where nothing was compiled, or the cache does not tell."""
    hits = None
    if reading.launcher.cache == "ccache":
        with suppress(OSError):
            hits = from_log(reading.log.read_bytes()[reading.begin :].decode(errors="replace"))
    elif reading.launcher.cache == "sccache":
        hits = between(reading.sccache, _sccache(reading.launcher, reading.env))
    return hits if hits is not None and hits.hits + hits.misses else None


def from_log(log: str) -> Hits:
    """Counts in a stats log of ccache's (4.0 and later): a counter's name a line, # before a file's."""
    counted = Counter(line for line in log.splitlines() if not line.startswith("#"))
    return Hits(
        counted["direct_cache_hit"] + counted["preprocessed_cache_hit"],
        counted["cache_miss"],
        counted["remote_storage_hit"],
    )


def between(before: str, after: str) -> Hits | None:
    """What two answers of `sccache --show-stats --stats-format=json` differ by; None where one is none."""
    with suppress(ValueError, TypeError, KeyError):
        first, last = _counts(before), _counts(after)
        # A server that was started anew in between counts from nothing.
        base = first if last[0] >= first[0] and last[1] >= first[1] else (0, 0)
        return Hits(last[0] - base[0], last[1] - base[1])
    return None


def _counts(answer: str) -> tuple[int, int]:
    stats = json.loads(answer)["stats"]
    hits, misses = (sum(stats[name]["counts"].values()) for name in ("cache_hits", "cache_misses"))
    return hits, misses


def _sccache(launcher: Launcher, env: Mapping[str, str]) -> str:
    """Starts sccache's server as well, where none runs: before the build, whose end must not be its end."""
    if launcher.cache != "sccache":
        return ""
    try:
        answer = capture(SCCACHE_STATS, env=env, timeout=60)
    except (OSError, KilnError):
        return ""  # the look at the compilers tells of an sccache that does not answer
    return answer.stdout.decode(errors="replace")
