"""How many compilers a farm runs at once, and whether it can be reached. Asks the farm's own programs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.launchers import SCCACHE_STATS, Launcher

MEMORY_PER_JOB = 500_000_000
"""Bytes: a job whose compiler runs elsewhere preprocesses here, which takes up to 300 MB for V8's files."""

_SCCACHE_STORES = (
    *("SCCACHE_REDIS", "SCCACHE_MEMCACHED", "SCCACHE_BUCKET", "SCCACHE_WEBDAV_ENDPOINT"),
    *("SCCACHE_GCS_BUCKET", "SCCACHE_AZURE_CONNECTION_STRING", "SCCACHE_OSS_BUCKET"),
)
"""What the names of variables begin with that name a remote store."""
_SCHEDULER_PORT, _PATIENCE, _LISTING = 8766, 2.0, 2**20
"""Where icecc's scheduler answers people; seconds of silence; bytes of an answer: 200 a machine."""


def slots(launcher: Launcher, env: Mapping[str, str]) -> int | None:
    """Compilations at once that the farm is good for; None where there is no farm, or it does not tell."""
    if launcher.farm == "distcc":
        said = _ask(["distcc", "-j"], env)
        return int(said) if said.isdecimal() and int(said) > 0 else None
    if launcher.farm == "icecc":
        return _icecc_slots(env)
    if launcher.cache == "sccache":
        return sccache_slots(_ask(["sccache", "--dist-status"], env))
    return None


def sccache_slots(status: str) -> int | None:
    """The cores that sccache's scheduler has, from the answer to --dist-status (JSON); None without one."""
    with suppress(ValueError, TypeError, KeyError, IndexError):
        told = json.loads(status)["SchedulerStatus"][1]
        if (cores := int(told["num_cpus"])) > 0:
            return cores
    return None


def icecc_slots(listing: str) -> int | None:
    """The jobs of all machines in what icecc's scheduler says to `listcs`; None where there are none."""
    found = [word for word in listing.split() if word.startswith("jobs=")]
    limits = (word.removeprefix("jobs=").partition("/")[2] for word in found)
    return sum(int(limit) for limit in limits if limit.isdecimal()) or None


def check_farm(launcher: Launcher, env: Mapping[str, str]) -> Iterator[Finding]:
    """An error or a warning where the farm, or the remote store of a cache, is none."""
    if launcher.farm == "distcc" and not _ask(["distcc", "--show-hosts"], env):
        yield Finding(
            Severity.ERROR,
            "distcc",
            "distcc knows no machines.",
            "Everything would be compiled here, by one compiler at a time.",
            "export DISTCC_HOSTS='localhost/2 other.machine/8' (or write them into ~/.distcc/hosts).",
        )
    stores = sorted(name for name in env if name.startswith(_SCCACHE_STORES) and env[name])
    if launcher.cache == "sccache" and stores and is_local(_ask(SCCACHE_STATS, env)):
        yield Finding(
            Severity.WARNING,
            "sccache",
            f"sccache keeps objects on this disk alone, though {stores[0]} names a store.",
            "Its server was started without that variable, or it is compiled without stores (Debian's is).",
            "sccache --stop-server; if this stays, install one with stores (cargo install sccache).",
        )
    if launcher.farm == "icecc" and _icecc_slots(env) is None:
        yield Finding(
            Severity.WARNING,
            "icecc",
            "icecc's scheduler does not tell how large the farm is.",
            "As many compilers run at once as this machine is good for.",
            "Name its machine with ICECC_SCHEDULER, or say how many with --jobs.",
        )


def is_local(stats: str) -> bool:
    """Whether sccache's statistics (JSON) name nothing but a folder as the place of its objects."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(stats)["cache_location"]).startswith("Local disk")
    return False


def _icecc_slots(env: Mapping[str, str]) -> int | None:
    host = env.get("ICECC_SCHEDULER") or env.get("USE_SCHEDULER") or "localhost"
    listing = b""
    try:
        with socket.create_connection((host, _SCHEDULER_PORT), _PATIENCE) as scheduler:
            scheduler.sendall(b"listcs\nquit\n")
            while len(listing) < _LISTING and (part := scheduler.recv(65536)):
                listing += part
    except OSError:
        pass  # it ends the connection as it likes; what was said by then counts
    return icecc_slots(listing.decode(errors="replace"))


def _ask(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """The answer on stdout, empty where there is none."""
    try:
        answer = capture(argv, env=env, timeout=20)
    except (OSError, KilnError):
        return ""
    return answer.stdout.decode(errors="replace").strip() if answer.returncode == 0 else ""
