"""Official releases for the tests that graft, fetched once through npm and kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

_RELEASES = os.environ.get("NODEKILN_RELEASES")  # the fixtures hide it from the tests


@pytest.fixture(scope="session")
def fetch_release(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Answers where the official binary of "22.20.0" is, or of "22.20.0-arm64" or "22.20.0-win-x64".

    Nobody may write to it.
    """
    releases = Path(_RELEASES) if _RELEASES is not None else tmp_path_factory.mktemp("releases")

    def fetch(version: str) -> Path:
        node = releases / version / "node"
        node.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(node.parent / "fetch.lock"):
            if not node.is_file():
                number, _, platform = version.partition("-")
                package = f"node-{platform}" if "-" in platform else f"node-linux-{platform or 'x64'}"
                argv = ["npm", "pack", "--silent", f"{package}@{number}"]
                subprocess.run(argv, cwd=node.parent, check=True, capture_output=True, timeout=600)
                (archive,) = node.parent.glob("*.tgz")
                packed = f"package/bin/node{'.exe' * platform.startswith('win')}"
                unpack = ["tar", "--extract", "--file", archive.name, packed]
                subprocess.run(unpack, cwd=node.parent, check=True)
                archive.unlink()
                (node.parent / packed).rename(node)
        return node

    return fetch
