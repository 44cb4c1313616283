"""Which files that no commit has would get into a build. The facts stand in untracked.toml.

Looks at names only.
"""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

_FACTS = tomllib.loads(Path(__file__).with_name("untracked.toml").read_text())

MADE: tuple[str, ...] = tuple(_FACTS["made"])
"""Patterns, as in a .gitignore, of what builds leave in a tree."""
_FOLDERS: tuple[str, ...] = tuple(_FACTS["folders"])
_TOP: tuple[str, ...] = tuple(_FACTS["top"])


def is_built_from(path: str) -> bool:
    """Whether configure or the build looks at a file of this path ("lib/handmade.js")."""
    if "/" in path:
        return path.startswith(_FOLDERS)
    return any(fnmatchcase(path, pattern) for pattern in _TOP)
