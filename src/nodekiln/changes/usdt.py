"""Recognises trees that bring a `node` probe provider of their own: by what is in them, never by version."""

from __future__ import annotations

from enum import StrEnum

from nodekiln.core.edit import Read

_PROBES = "src/node_provider.d"
_CONFIGURES = ("configure.py", "configure")
"""In old releases the second is the Python script itself."""
_UPSTREAM = "src/node_usdt.h"
PATHS = (_PROBES, *_CONFIGURES, _UPSTREAM)
"""All that `find_provider` may read."""


class Provider(StrEnum):
    """Whose provider a tree brings."""

    NATIVE = "native"
    UPSTREAMED = "upstreamed"

    @property
    def text(self) -> str:
        """For people, in one line."""
        if self is Provider.NATIVE:
            return "these sources have the probes themselves, and --with-dtrace turns them on"
        return (
            "these sources have a probe provider already, as nodejs/node#62118 adds one: its probes are what"
            " this binary gets, and our patches are left out"
        )

    @property
    def configure_args(self) -> tuple[str, ...]:
        """What configure needs to be told, beyond its defaults, to build it."""
        return ("--with-dtrace",) if self is Provider.NATIVE else ()


def find_provider(read: Read) -> Provider | None:
    """The provider in the tree behind `read`; None where there is none."""
    probes = read(_PROBES)
    configurable = any(b"--with-dtrace" in (read(path) or b"") for path in _CONFIGURES)
    if probes is not None and b"gc__start" in probes and configurable:
        return Provider.NATIVE
    if probes is not None or read(_UPSTREAM) is not None:
        return Provider.UPSTREAMED
    return None
