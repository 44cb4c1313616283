"""Where Node's files come from: git repositories, tarballs, and the working trees made of them."""

from __future__ import annotations

from nodekiln.errors import SourceError

try:
    import git as git
except ImportError:  # GitPython looks for git when it is imported, here before any module of this package
    raise SourceError(
        "There is no git on the PATH.",
        remedy="Install git (apt install git, dnf install git, brew install git).",
    ) from None
