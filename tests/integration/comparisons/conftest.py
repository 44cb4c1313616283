"""Two stand-ins for Node, and where they are compared."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.comparisons.bench import NODE, Bench


@pytest.fixture(scope="session")
def node() -> Path:
    """The machine's own."""
    found = shutil.which("node")
    version = (
        subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if found
        else ""
    )
    if found is None or int(re.findall(r"\d+", version)[0]) < 18:
        pytest.skip("there is no Node 18 or later on the PATH")
    return Path(found)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for name in "ab":
        (tmp_path / name).write_text(NODE)
        (tmp_path / name).chmod(0o755)
    return Bench(tmp_path, io.StringIO())
