"""Describe the machine of an experiment for results.json, without paths and host names."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import psutil

from nodekiln.core import platform as machine
from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.experiment.model.results import Environment

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")
_OS_RELEASE = Path("/etc/os-release")


def read_environment(folder: Path, env: Mapping[str, str], *, tracer: str | None) -> Environment:
    """`folder` is where input and output lie; `tracer` is what will read the probes."""
    cpuinfo = _text(Path("/proc/cpuinfo"))
    return Environment(
        cpu=name_processor(cpuinfo) or _asked(env) or platform.processor() or platform.machine(),
        cores=machine.cores(),
        governor=_text(_GOVERNOR) or None,
        kernel=f"{platform.system()} {platform.release()}",
        os=name_system(_text(_OS_RELEASE)) or platform.platform(terse=True),
        architecture=platform.machine(),
        memory_bytes=int(psutil.virtual_memory().total),
        available_memory_bytes=machine.available_memory(),
        load=os.getloadavg()[0],
        filesystem=_filesystem(folder),
        virtual_machine=name_hypervisor(cpuinfo, _text(_VENDOR)),
        tracer=tracer,
    )


def name_processor(cpuinfo: str) -> str:
    """Return the CPU name in Linux's /proc/cpuinfo, with the vendor if it is only a number; "" if missing."""
    name, vendor = _field("model name", cpuinfo), _field("vendor_id", cpuinfo)
    return f"{vendor} {name}".strip() if name.isdigit() else name


def name_hypervisor(cpuinfo: str, vendor: str) -> str | None:
    """Return the hypervisor, from /proc/cpuinfo and the firmware's vendor; None on a physical machine."""
    if "hypervisor" not in _field("flags", cpuinfo).split():
        return None
    return vendor or "yes, of an unknown kind"


def name_system(os_release: str) -> str:
    """Return the name in the text of /etc/os-release, "" if there is none."""
    return _field("PRETTY_NAME", os_release, "=").strip('"')


def _field(name: str, text: str, sign: str = ":") -> str:
    found = re.search(rf"^{re.escape(name)}\s*{sign}[ \t]*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _asked(env: Mapping[str, str]) -> str:
    """macOS has no /proc."""
    try:
        return (
            capture(["sysctl", "-n", "machdep.cpu.brand_string"], env=env, timeout=10).stdout.decode().strip()
        )
    except (OSError, KilnError, UnicodeDecodeError):
        return ""


def _filesystem(folder: Path) -> str | None:
    """Return the file system of the nearest mount above `folder`."""
    place = folder.resolve()
    try:
        mounted = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    except OSError:
        return None
    return next((mounted[above] for above in (place, *place.parents) if above in mounted), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
