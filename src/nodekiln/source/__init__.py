"""Where Node's files come from: git repositories, tarballs, and the working trees made of them."""

from __future__ import annotations

import shutil
import subprocess

from nodekiln.core.errors import SourceError
from nodekiln.core.reporting import escape_unprintable

_PATIENCE = 10.0
"""Seconds for `git version`, which takes a few milliseconds."""


def _trouble() -> SourceError | None:
    """Why GitPython found no git that works; None where there is one."""
    if shutil.which("git") is None:
        return SourceError(
            "There is no git on the PATH.",
            remedy="Install git (apt install git, dnf install git, brew install git).",
        )
    try:
        done = subprocess.run(["git", "version"], capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        told = str(error)
    else:
        if done.returncode == 0:
            return None
        lines = done.stderr.decode(errors="backslashreplace").splitlines()
        told = next(iter(lines), f"exit code {done.returncode}").removeprefix("fatal: ")
    return SourceError(
        f"git fails: {escape_unprintable(told)}.", remedy="Run the command again once `git version` works."
    )


try:
    import git as git
except ImportError:  # GitPython looks for git when it is imported, here before any module of this package
    if (error := _trouble()) is not None:
        raise error from None
    raise
