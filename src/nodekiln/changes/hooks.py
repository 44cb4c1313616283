"""The Python that single changes need, by the names that their change.toml refers to.

Everything else about a change is in its folder. Only this module and the command line name a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodekiln.changes import no_backpressure
from nodekiln.core.edit import Edit, Read, Refusal, Remember

_PROBES = "src/node_provider.d"
_CONFIGURES = ("configure.py", "configure")
"""In old releases the second is the Python script."""
_UPSTREAM = ("src/node_usdt.h", "src/node_provider_linux.h")
"""The files of nodejs/node#62118; a tree with one of them has a provider."""
PATHS = (_PROBES, *_CONFIGURES, *_UPSTREAM)
"""All files that `find_provider` may read."""


class Provider(StrEnum):
    """The provider that a tree already has."""

    NATIVE = "native"
    UPSTREAMED = "upstreamed"

    @property
    def text(self) -> str:
        """One line for the log."""
        if self is Provider.NATIVE:
            return "this tag has the probes already; --with-dtrace enables them"
        return (
            "this tag has a probe provider already, as nodejs/node#62118 adds one; the binary gets its"
            " probes, and our patches are skipped"
        )

    @property
    def configure_args(self) -> tuple[str, ...]:
        """The options of configure that build it, beyond the defaults."""
        return ("--with-dtrace",) if self is Provider.NATIVE else ()


def find_provider(read: Read) -> Provider | None:
    """Return the provider in the tree behind `read`, None if there is none."""
    probes = read(_PROBES)
    configurable = any(b"--with-dtrace" in (read(path) or b"") for path in _CONFIGURES)
    if probes is not None and b"gc__start" in probes and configurable:
        return Provider.NATIVE
    if probes is not None or any(read(path) is not None for path in _UPSTREAM):
        return Provider.UPSTREAMED
    return None


NO_BACKPRESSURE = "no-backpressure"
"""The change that --no-backpressure selects."""
USDT = "usdt"
"""The change that --no-probes leaves out."""
MARKED = (NO_BACKPRESSURE,)
"""The changes of a graft whose comment names none, for lack of room (Mach-O and PE have no notes)."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Edits found by the structure of the code; `plan` reads no files other than `paths`."""

    paths: tuple[str, ...]
    plan: Callable[[Read, Remember], tuple[Edit, ...] | Refusal]


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds out whether a tree already has what the change adds; `find` reads no files other than `paths`."""

    paths: tuple[str, ...]
    find: Callable[[Read], Provider | None]


REWRITES: Mapping[str, Rewrite] = {
    "no_backpressure": Rewrite(no_backpressure.PATHS, no_backpressure.plan_backpressure),
}
"""For `rewrite = "..."` in change.toml."""

DETECTORS: Mapping[str, Detector] = {
    "usdt_provider": Detector(PATHS, find_provider),
}
"""For `existing = "..."` in change.toml."""
