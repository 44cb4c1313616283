"""Two stand-ins for Node, and where they are compared."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.integration.comparisons.bench import NODE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for name in "ab":
        (tmp_path / name).write_text(NODE)
        (tmp_path / name).chmod(0o755)
    return Bench(tmp_path, io.StringIO())
