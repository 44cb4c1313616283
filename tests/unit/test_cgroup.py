"""Limits of containers: files as the kernel shows them, laid out in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.core.cgroup import available_memory, cpu_limit

GB = 10**9


def lay_out(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, content in files.items():
        file = folder / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    (folder / "membership").write_text(membership)
    return folder / "cgroup", folder / "membership"


def test_version_2_in_a_container_is_limited_at_the_top(tmp_path: Path) -> None:
    files = {"cpu.max": "150000 100000", "memory.max": str(4 * GB), "memory.current": str(GB)}
    places = lay_out(tmp_path, "0::/\n", files)
    assert cpu_limit(*places) == 1.5
    assert available_memory(*places) == 3 * GB


def test_version_2_counts_every_group_above(tmp_path: Path) -> None:
    files = {
        "a/cpu.max": "100000 100000",
        "a/b/cpu.max": "max 100000",
        "a/memory.max": str(2 * GB),
        "a/memory.current": str(GB),
        "a/b/memory.max": "max",
        "a/b/memory.current": str(GB // 2),
    }
    places = lay_out(tmp_path, "0::/a/b\n", files)
    assert cpu_limit(*places) == 1
    assert available_memory(*places) == GB


def test_inactive_file_pages_are_available(tmp_path: Path) -> None:
    files = {
        "memory.max": "4294967296",
        "memory.current": "4200000000",
        "memory.stat": "anon 1\ninactive_file 3900000000\nactive_file 2",
    }
    assert available_memory(*lay_out(tmp_path, "0::/\n", files)) == 3994967296


def test_version_1_reads_the_group_of_each_controller(tmp_path: Path) -> None:
    files = {
        "memory/G/memory.limit_in_bytes": "1500000000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "cpu/G/cpu.cfs_quota_us": "50000",
        "cpu/cpu.cfs_quota_us": "-1",
    }
    places = lay_out(tmp_path, "5:cpu,cpuacct:/G\n4:memory:/G\n", files)
    assert cpu_limit(*places) == 0.5
    assert available_memory(*places) == 1500000000


def test_version_1_with_controllers_mounted_together(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/G/cpu.cfs_quota_us": "300000", "cpu,cpuacct/G/cpu.cfs_period_us": "150000"}
    assert cpu_limit(*lay_out(tmp_path, "5:cpu,cpuacct:/G\n", files)) == 2


@pytest.mark.parametrize("place", ["cpu", "cpu/G"])
def test_version_1_without_an_entry_for_the_controller_takes_the_group_of_the_others(
    tmp_path: Path, place: str
) -> None:
    files = {"memory/G/memory.limit_in_bytes": "1500000000", f"{place}/cpu.cfs_quota_us": "50000"}
    places = lay_out(tmp_path, "4:memory:/G\n", files)
    assert (cpu_limit(*places), available_memory(*places)) == (0.5, 1500000000)


def test_group_of_the_host_that_a_container_does_not_see_falls_back_to_the_top(tmp_path: Path) -> None:
    files = {"memory/memory.limit_in_bytes": str(GB), "memory/memory.usage_in_bytes": "0"}
    places = lay_out(tmp_path, "4:memory:/docker/0123\n", files)
    assert available_memory(*places) == GB


@pytest.mark.parametrize("membership", ["", "nonsense\n", "0::/../..\n", ":::\n"])
def test_files_that_are_missing_or_damaged_mean_no_limit(tmp_path: Path, membership: str) -> None:
    places = lay_out(tmp_path, membership, {"cpu.max": "a b", "memory.max": "", "memory.current": "x"})
    assert (cpu_limit(*places), available_memory(*places)) == (None, None)


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    files = {"memory.max": "10", "memory.current": "20"}
    assert available_memory(*lay_out(tmp_path, "0::/\n", files)) == 0
