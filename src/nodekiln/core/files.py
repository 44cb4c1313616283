"""Files that are whole at any moment: written beside their place, then renamed into it."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Puts `content` in place of what `path` holds: readers see the one or the other.

    A symbolic link stays one. Of processes that write at the same time one wins. Raises OSError, and leaves
    what was there.
    """
    place = Path(os.path.realpath(path))  # resolve() raises RuntimeError for a link to itself
    beside = place.with_name(f"{place.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(content)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
