"""How much disk a build will take, and whether it is there."""

from __future__ import annotations

from nodekiln.core import platform as machine
from nodekiln.core.errors import SourceError
from nodekiln.core.reporting import Reporter, format_size
from nodekiln.core.settings import Workspace

FIRST_BUILD = 3 * 10**9
"""Bytes that fetching, checking out and building a whole official tree may take, before its real size is
known: with room to spare. v20.19.2 as Debian packages it, with shared libraries, takes 40 + 220 + 320 MB."""
NEXT_BUILD = 200 * 10**6
"""Bytes for building again in a tree that is there: a second binary, published and in out/."""
_OUTPUTS_PER_SOURCE = 2
"""out/ by what is checked out; 1.5 for v20.19.2 above."""


def ensure_room(workspace: Workspace, reporter: Reporter, *, checkout: int, is_checked_out: bool) -> None:
    """Says what the tree (`checkout` bytes) and its outputs take; raises SourceError without that room."""
    needed = (0 if is_checked_out else checkout) + _OUTPUTS_PER_SOURCE * checkout
    free = machine.free_disk(workspace.root)
    reporter.say(
        f"disk: the tree and its build take about {format_size(needed)}; {format_size(free)} are free"
    )
    if free < needed:
        raise SourceError(
            f"{workspace.root} has room for {format_size(free)}, and this build takes about"
            f" {format_size(needed)}.",
            remedy="Make room (./inv clean removes what is no longer needed), or set NODEKILN_BUILD to a"
            " folder on another disk.",
        )
