"""Three-way merges of single files, by `git merge-file`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture

_BINARY = 255
"""git's exit code for a failure; below that it is the number of conflicts, 127 at most."""
_SEALED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged content, with markers where `conflicts` places need a decision."""

    content: bytes
    conflicts: int


@dataclass(frozen=True, slots=True)
class Labels:
    """The names of the three sides in conflict markers."""

    ours: str
    base: str
    theirs: str


def merge(ours: bytes, base: bytes, theirs: bytes, labels: Labels, environment: Mapping[str, str]) -> Merged:
    """Return `theirs` with the changes from `base` to `ours`; conflicts show all three sides.

    Raises SourceError for binary files.
    """
    with temporary_directory() as folder:
        names = ("ours", "base", "theirs")
        for name, content in zip(names, (ours, base, theirs), strict=True):
            Path(folder, name).write_bytes(content)
        marked = [word for label in (labels.ours, labels.base, labels.theirs) for word in ("-L", label)]
        done = capture(
            ["git", "merge-file", "-p", "-q", "--diff3", *marked, *names],
            env={**environment, **_SEALED, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
            cwd=folder,
        )
    if done.returncode >= _BINARY or done.returncode < 0:
        reason = done.stderr.decode(errors="backslashreplace").strip().removeprefix("error: ")
        raise SourceError(f"Merging {labels.ours} failed: {reason}.")
    return Merged(done.stdout, done.returncode)
