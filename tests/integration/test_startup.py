"""CPU time of a start, as the binary itself reports it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.binaries.startup import startup_cpu
from nodekiln.core.errors import CheckError


def program(path: Path, script: str, mode: int = 0o755) -> Path:
    """Write a program that is called as a Node binary is."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path


def test_each_binary_has_its_own_median(tmp_path: Path) -> None:
    first = program(tmp_path / "first", '[ "$1" = -e ] && echo 20000')
    counting = f"echo >>{tmp_path}/runs; wc -l <{tmp_path}/runs | sed 's/ //g; s/$/000/'"
    second = program(tmp_path / "second", counting)
    assert startup_cpu((first, second), env={"PATH": "/usr/bin:/bin"}) == (0.02, 0.003)


@pytest.mark.parametrize(("script", "mode"), [("echo broken >&2; exit 1", 0o755), ("echo 1", 0o644)])
def test_binary_that_does_not_start_is_reported(tmp_path: Path, script: str, mode: int) -> None:
    with pytest.raises(CheckError, match="broken"):
        startup_cpu((program(tmp_path / "broken", script, mode),), env={"PATH": "/usr/bin:/bin"})
