"""Compile farms: how many compilations they run at once, and checks that they work."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.launchers import SCCACHE_STATS, Launcher
from nodekiln.toolchain.model import Finding, Severity

MEMORY_PER_JOB = 500_000_000
"""Bytes: preprocessing on this machine takes up to 300 MB for V8's files."""

_SCCACHE_STORES = (
    *("SCCACHE_REDIS", "SCCACHE_MEMCACHED", "SCCACHE_BUCKET", "SCCACHE_WEBDAV_ENDPOINT"),
    *("SCCACHE_GCS_BUCKET", "SCCACHE_AZURE_CONNECTION_STRING", "SCCACHE_OSS_BUCKET"),
)
"""Prefixes of the variables that configure a remote store."""
_SCHEDULER_PORT = 8766
"""icecc's scheduler takes commands on it."""
_SCHEDULER_TIMEOUT = 2.0
_MAX_LISTING = 2**20
"""Bytes; a machine takes about 200."""


def slots(launcher: Launcher, env: Mapping[str, str]) -> int | None:
    """Return how many compilations the farm runs at once; None without a farm, or if that is unknown."""
    if launcher.farm == "distcc":
        count = _ask(["distcc", "-j"], env)
        return int(count) if count.isdecimal() and int(count) > 0 else None
    if launcher.farm == "icecc":
        return _icecc_slots(env)
    if launcher.cache == "sccache":
        return sccache_slots(_ask(["sccache", "--dist-status"], env))
    return None


def sccache_slots(status: str) -> int | None:
    """Return the cores in the output of sccache --dist-status (JSON); None without a scheduler."""
    with suppress(ValueError, TypeError, KeyError, IndexError):
        scheduler = json.loads(status)["SchedulerStatus"][1]
        if (cores := int(scheduler["num_cpus"])) > 0:
            return cores
    return None


def icecc_slots(listing: str) -> int | None:
    """Return the jobs of all machines in the scheduler's answer to `listcs`; None if there are none."""
    found = [word for word in listing.split() if word.startswith("jobs=")]
    limits = (word.removeprefix("jobs=").partition("/")[2] for word in found)
    return sum(int(limit) for limit in limits if limit.isdecimal()) or None


def check_farm(launcher: Launcher, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield an error or a warning if the farm, or the remote store of a cache, does not work."""
    if launcher.farm == "distcc" and not _ask(["distcc", "--show-hosts"], env):
        yield Finding(
            Severity.ERROR,
            "distcc",
            "distcc has no machines.",
            "Everything would be compiled on this machine, by one compiler at a time.",
            "export DISTCC_HOSTS='localhost/2 other.machine/8' (or write them into ~/.distcc/hosts).",
        )
    stores = sorted(name for name in env if name.startswith(_SCCACHE_STORES) and env[name])
    if launcher.cache == "sccache" and stores and is_local(_ask(SCCACHE_STATS, env)):
        yield Finding(
            Severity.WARNING,
            "sccache",
            f"sccache keeps objects on this disk only, though {stores[0]} names a store.",
            "Its server was started without that variable, or it is compiled without stores (Debian's is).",
            "sccache --stop-server; if this stays, install one with stores (cargo install sccache).",
        )
    if launcher.farm == "icecc" and _icecc_slots(env) is None:
        yield Finding(
            Severity.WARNING,
            "icecc",
            "The number of machines is unknown: icecc's scheduler does not answer.",
            "The number of jobs is limited to that of this machine.",
            "Set ICECC_SCHEDULER to its machine, or set the number with --jobs.",
        )


def is_local(stats: str) -> bool:
    """Return True if sccache's statistics (JSON) name a local folder as the only store."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(stats)["cache_location"]).startswith("Local disk")
    return False


def _icecc_slots(env: Mapping[str, str]) -> int | None:
    host = env.get("ICECC_SCHEDULER") or env.get("USE_SCHEDULER") or "localhost"
    listing = b""
    try:
        with socket.create_connection((host, _SCHEDULER_PORT), _SCHEDULER_TIMEOUT) as scheduler:
            scheduler.sendall(b"listcs\nquit\n")
            while len(listing) < _MAX_LISTING and (part := scheduler.recv(65536)):
                listing += part
    except OSError:
        pass  # it may close the connection early; use what has been read
    return icecc_slots(listing.decode(errors="replace"))


def _ask(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Return stdout; empty if the program fails."""
    try:
        answer = capture(argv, env=env, timeout=20)
    except (OSError, KilnError):
        return ""
    return answer.stdout.decode(errors="replace").strip() if answer.returncode == 0 else ""
