"""Whether probes can be compiled in here: <sys/sdt.h> on Linux, the program dtrace elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.compilers import Compiler
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.request import search_path

_PACKAGES = (
    "apt install systemtap-sdt-dev (Debian, Ubuntu), dnf install systemtap-sdt-devel (Fedora), pacman -S"
    " systemtap (Arch); Alpine has no package (alpinelinux/docker-alpine#20): copy sys/sdt.h from SystemTap's"
    " sources. Or build with --no-probes."
)


def check_probe_headers(cxx: Compiler, env: Mapping[str, str], platform: str) -> Iterator[Finding]:
    """An error where what probes are compiled with is missing. About 0.02 s."""
    if platform != "linux":
        if shutil.which("dtrace", path=search_path(env)) is None:
            yield _missing("there is no dtrace on PATH.", "Install DTrace, or build with --no-probes.")
        return
    argv = [*cxx.command.own, "-E", "-x", "c++", "-", "-o", "/dev/null"]
    try:
        answer = capture(argv, env=env, stdin=b"#include <sys/sdt.h>\n", timeout=20)
    except (OSError, KilnError):
        return  # the look at the compiler tells of that
    if answer.returncode != 0:
        yield _missing("there is no <sys/sdt.h>.", _PACKAGES)


def _missing(what: str, remedy: str) -> Finding:
    return Finding(
        Severity.ERROR, "probes", what, "Node's USDT probes are compiled with it (nodejs/node#150).", remedy
    )
