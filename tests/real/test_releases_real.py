"""Official releases of every minor, grafted and run: docs/releases.md says what comes out."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence

import pytest

from tests.releases import batches, examine_all, rows

DOCUMENTED = {row.version: row for row in rows()}

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="runs releases for linux-x64"
    ),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm not found"),
]


@pytest.mark.parametrize("wanted", batches(tuple(DOCUMENTED)), ids=lambda batch: f"{batch[0]}-{batch[-1]}")
def test_grafts_of_releases_do_what_the_table_says(wanted: Sequence[str]) -> None:
    found = {row.version: row for row in examine_all(wanted)}
    different = {
        version: (str(row), str(DOCUMENTED[version]))
        for version, row in found.items()
        if not row.agrees(DOCUMENTED[version])
    }
    assert different == {}, "run .venv/bin/python tests/releases.py VERSION ..., and look at what changed"
    assert set(found) == set(wanted)
