"""Under limits of the process (ulimit) a command works, or names the limit; it never ends in a traceback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems know other limits")


def limited(option: str, value: int) -> tuple[str, ...]:
    return ("sh", "-c", f'ulimit {option} {value}; exec "$@"', "sh")


@pytest.mark.parametrize("number", [8, 20])
def test_hard_limit_of_open_files_is_named(kiln: Kiln, number: int) -> None:
    done = kiln.run("list", prefix=limited("-n", number))
    assert done.code == 3
    assert f"may open {number} files" in done.stderr
    assert "ulimit -n" in done.stderr


def test_soft_limit_of_open_files_is_raised(kiln: Kiln) -> None:
    done = kiln.run("patch", "v22.20.0", prefix=limited("-Sn", 16))
    assert "open files" not in done.stderr
    assert "v22.20.0" in done.stderr


@pytest.mark.parametrize("kilobytes", [30_000, 40_000, 50_000, 60_000])
def test_too_little_memory_is_an_error_without_traceback(kiln: Kiln, kilobytes: int) -> None:
    done = kiln.run("patch", "v22.20.0", prefix=limited("-v", kilobytes))
    assert done.code != 1
    assert "Traceback" not in done.stderr
