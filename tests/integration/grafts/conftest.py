"""The release that the tests of grafts start from."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from tests.integration.grafts.desk import ADAPTERS, WRITABLE, Desk, compile_node


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release; not to be written to."""
    return compile_node(tmp_path_factory.mktemp("stock"), WRITABLE, b"'use strict';\n", ADAPTERS)


@pytest.fixture
def desk(tmp_path: Path, stock: Path) -> Desk:
    release = tmp_path / "release" / "node"
    release.parent.mkdir()
    shutil.copy2(stock, release)
    return Desk(tmp_path, release, io.StringIO())
