"""Read Node's sources from git repositories and tarballs, and keep working trees of them."""

from __future__ import annotations

import shutil
import subprocess

from nodekiln.core.errors import SourceError
from nodekiln.core.reporting import escape_unprintable

_TIMEOUT = 10.0
"""Seconds for `git version`, which takes a few milliseconds."""


def _find_git_problem() -> SourceError | None:
    """Return an error that says why GitPython found no working git, or None if git works."""
    if shutil.which("git") is None:
        return SourceError(
            "git not found on the PATH.",
            remedy="Install git (apt install git, dnf install git, brew install git).",
        )
    try:
        done = subprocess.run(["git", "version"], capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    else:
        if done.returncode == 0:
            return None
        lines = done.stderr.decode(errors="backslashreplace").splitlines()
        reason = next(iter(lines), f"exit code {done.returncode}").removeprefix("fatal: ")
    return SourceError(
        f"git failed: {escape_unprintable(reason)}.", remedy="Run the command again once `git version` works."
    )


try:
    import git as git
except ImportError:  # GitPython looks for git at import time; this runs before any module of this package
    if (error := _find_git_problem()) is not None:
        raise error from None
    raise
