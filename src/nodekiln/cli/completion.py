"""What <TAB> offers where invoke would offer the tasks again: binaries, scripts, else the shell's files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nodekiln.cli.options import HERE
from nodekiln.core.errors import KilnError

_TAKES_BINARY = ("path", "probes", "timings")
_TAKES_SCRIPT = "trace"
_BINARY_OPTIONS = ("--binary", "--binaries")


def candidates(words: Sequence[str], tasks: Sequence[str]) -> list[str] | None:
    """Words that may come next, or end the last of `words` (those after ./inv); None leaves it to invoke.

    A shell does not tell whether a space follows the last word: it compares what it gets with what is there.
    """
    if not words or words[0] not in tasks:
        return None
    if words[-1] in _BINARY_OPTIONS:
        return _binaries()
    if words[-2:-1] and words[-2] in _BINARY_OPTIONS:  # A,B,... may be begun
        before, comma, _ = words[-1].rpartition(",")
        return [f"{before}{comma}{name}" for name in _binaries()]
    if words[-1].startswith("-"):
        return None
    if len(words) <= 2 and words[0] in _TAKES_BINARY:
        return _binaries()
    if len(words) <= 2 and words[0] == _TAKES_SCRIPT:
        from nodekiln.tracing.scripts import script_names

        return list(script_names())
    return []


def _binaries() -> list[str]:
    from nodekiln.core.settings import Settings

    try:
        settings = Settings.read(environ=os.environ, config=None, root=HERE, here=HERE, venv=None)
        return sorted(path.name for path in settings.workspace.binaries.iterdir() if path.name[0] != ".")
    except (KilnError, OSError):
        return []
