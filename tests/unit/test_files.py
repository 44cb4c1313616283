"""Atomic writes, hashes and full disks."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nodekiln.core.files import (
    atomic_write,
    disk_full_error,
    hash_file,
    is_disk_full,
    read_json,
    read_regular,
    staging_directory,
    temporary_directory,
)


def test_atomic_write_replaces_content_and_leaves_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    atomic_write(file, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"after")]


def test_atomic_write_replaces_a_link_and_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    (tmp_path / "link").symlink_to("file")
    atomic_write(tmp_path / "link", b"after")
    assert not (tmp_path / "link").is_symlink()
    assert [(tmp_path / name).read_bytes() for name in ("link", "file")] == [b"after", b"before"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_atomic_write_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")

    def fail(path: Path, target: Path) -> None:
        raise error

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(type(error)):
        atomic_write(file, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


def test_atomic_write_replaces_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    atomic_write(tmp_path / "loop", b"after")
    assert (tmp_path / "loop").read_bytes() == b"after"


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("file")])
def test_read_regular_refuses_pipes_folders_and_links_without_waiting(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    make(tmp_path / "other")
    assert read_regular(tmp_path / "file") == b"content"
    with pytest.raises(OSError, match="other"):
        read_regular(tmp_path / "other")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff", b""])
def test_read_json_raises_value_error_for_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "file")


def test_hash_file_returns_sha256_and_reports_progress(tmp_path: Path) -> None:
    content = b"x" * (2**20 + 1)
    (tmp_path / "file").write_bytes(content)
    read: list[int] = []
    assert hash_file(tmp_path / "file", read.append) == hashlib.sha256(content).hexdigest()
    assert read == [2**20, 2**20 + 1]


@pytest.mark.parametrize(
    ("failure", "is_full"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EACCES, "denied"), False),
        ("fatal: write error: No space left on device", True),
        ("Error: ENOSPC: no space left on device, write", True),
        ("remote: fatal: No space left on device", False),
        ("error: Permission denied", False),
    ],
)
def test_is_disk_full_recognizes_errors_and_messages(failure: OSError | str, is_full: bool) -> None:
    assert is_disk_full(failure) is is_full


def test_disk_full_error_names_folder_and_need(tmp_path: Path) -> None:
    error = disk_full_error(tmp_path, "the tree takes about 2 GB")
    assert error.exit_code == 6
    assert str(tmp_path) in error.message
    assert "2 GB" in error.message
    assert "./inv clean" in (error.remedy or "")


def test_staging_directory_is_removed_unless_renamed(tmp_path: Path) -> None:
    (tmp_path / "new-killed").mkdir()
    with staging_directory(tmp_path, "new-") as folder:
        (folder / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["new-killed"]
    with staging_directory(tmp_path, "new-", clear=True) as folder:
        folder.rename(tmp_path / "done")
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_temporary_directory_of_a_killed_run_is_removed_and_others_are_kept(tmp_path: Path) -> None:
    for name in ("nodekiln-killed", ".nodekiln-new", "nodekiln-checkout"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    for name in ("nodekiln-killed", ".nodekiln-new"):
        (tmp_path / name / ".nodekiln-temporary").touch()
    (tmp_path / "nodekiln-linked").symlink_to(tmp_path)
    (tmp_path / "nodekiln.txt").touch()
    kept = {"nodekiln-checkout", "nodekiln-linked", "nodekiln.txt"}
    with temporary_directory(tmp_path) as first:
        assert {path.name for path in tmp_path.iterdir()} == {*kept, first.name}
        with temporary_directory(tmp_path):
            assert first.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (tmp_path / "nodekiln-checkout" / "file").exists()
