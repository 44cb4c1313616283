"""What stands in front of the compilers: a cache (ccache, sccache), a farm (distcc, icecc), or nothing.

Settles which, and with which settings; whoever has set one of these already wins. What a farm can do is asked
in farms.py.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.process import capture
from nodekiln.toolchain.commands import Command
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.request import search_path

CACHES, FARMS = ("ccache", "sccache"), ("distcc", "icecc")
CHOICES = (*CACHES, *FARMS, "none")
SCCACHE_STATS = ("sccache", "--show-stats", "--stats-format=json")

_CCACHE_SETTING = re.compile(r"^\(([^)]*)\) (\w+) = ?(.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """`prefix` is put in front of every compiler that has no launcher (None: of none).

    `cache` counts hits, `farm` compiles on other machines; `settings` are variables for the build, without
    those that the user has set. `stats_log` is the file in which the user's own settings let ccache count.
    """

    prefix: str | None = None
    cache: str | None = None
    farm: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    stats_log: str | None = None

    def __str__(self) -> str:
        return " behind ".join(filter(None, (self.farm, self.cache))) or "none"

    def in_front(self, command: Command) -> str | None:
        """What the build puts in front of this compiler."""
        return None if command.launcher is not None else self.prefix


def check_choice(name: str) -> str:
    """Returns the name if there is such a launcher; raises UsageError otherwise."""
    if name not in CHOICES:
        raise UsageError(f"--launcher takes {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, not {name!r}.")
    return name


def choose_launcher(
    wanted: str | None, commands: Iterable[Command], env: Mapping[str, str], base: Path
) -> Launcher | Finding:
    """The launcher for these compilers; an error where `wanted` is not there or CC and CXX name another.

    Without a wish: what CC and CXX name, else ccache, else sccache, as far as they are there. `base` is the
    folder whose paths mean nothing to a cache. Takes one run of ccache (5 ms).
    """
    there = {name for name in (*CACHES, *FARMS) if shutil.which(name, path=search_path(env))}
    named = {command.launcher for command in commands if command.launcher is not None}
    if wanted is not None and (trouble := _refusal(wanted, named, there, env)) is not None:
        return trouble
    cache = next((name for name in CACHES if name in (named or there)), None)
    farm = next((name for name in FARMS if name in named), None)
    match wanted:
        case "none":
            return Launcher()
        case "ccache" | "sccache":
            cache = wanted
        case "distcc" | "icecc":
            farm = wanted
            # sccache can't hand its misses to another launcher, and a farm that CC names stands there alone.
            cache = "ccache" if "ccache" in (named or there) else None
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


def _refusal(wanted: str, named: set[str], there: set[str], env: Mapping[str, str]) -> Finding | None:
    if wanted != "none" and wanted not in there:
        return _missing(wanted)
    if others := sorted(named - set(_facts()[wanted]["takes"])):
        return Finding(
            Severity.ERROR,
            "CC",
            f"CC or CXX has {' and '.join(others)} in front of the compiler.",
            f"--launcher {wanted} asks for something else there.",
            "Set CC and CXX to the compilers alone (or unset them), or leave --launcher out.",
        )
    prefix = env.get("CCACHE_PREFIX", "")
    if wanted in FARMS and prefix and Path(prefix).name != wanted:
        return Finding(
            Severity.ERROR,
            "CCACHE_PREFIX",
            f"CCACHE_PREFIX is {prefix!r}.",
            f"--launcher {wanted} makes ccache hand what it doesn't have to {wanted}.",
            "unset CCACHE_PREFIX, or leave --launcher out.",
        )
    return None


def _missing(name: str) -> Finding:
    return Finding(
        Severity.ERROR,
        name,
        f"there is no {name} on PATH.",
        f"--launcher {name} asks for it.",
        f"Install it ({_facts()[name]['install']}), or leave --launcher out.",
    )


def _ccache(env: Mapping[str, str], base: Path, farm: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Our settings for ccache, and those that a user has made (environment or a configuration file)."""
    try:
        said = capture(["ccache", "--show-config"], env=env, timeout=20).stdout.decode(errors="replace")
    except (OSError, KilnError):
        said = ""  # the look at the compilers tells of a ccache that does not answer
    own = own_settings(said)
    settings = {variable: value for name, (variable, value) in _relocatable(base).items() if name not in own}
    if farm is not None:
        settings["CCACHE_PREFIX"] = farm
    return settings, own


def own_settings(config: str) -> dict[str, str]:
    """Those of `ccache --show-config` that somebody has set, by ccache's names."""
    return {
        name: value.strip() for origin, name, value in _CCACHE_SETTING.findall(config) if origin != "default"
    }


def _relocatable(base: Path) -> dict[str, tuple[str, str]]:
    """What lets trees share objects, by ccache's name of the setting.

    Absolute paths below `base` count as relative; the folder that a compiler runs in does not count; a
    compiler counts by its bytes, which another installation of the same version has too.
    """
    return {
        "base_dir": ("CCACHE_BASEDIR", str(base)),
        "hash_dir": ("CCACHE_NOHASHDIR", "1"),
        "compiler_check": ("CCACHE_COMPILERCHECK", "content"),
    }
