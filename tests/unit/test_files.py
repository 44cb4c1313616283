"""Files that are whole at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.core.files import atomic_write


def test_what_was_there_is_replaced_and_nothing_is_left_beside(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    atomic_write(file, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"after")]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    atomic_write(tmp_path / "link", b"after")
    assert (tmp_path / "link").readlink() == Path("file")
    assert (tmp_path / "file").read_bytes() == b"after"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")

    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as opened:
            opened.write(content[:3])
        raise error

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(type(error)):
        atomic_write(file, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


def test_a_link_that_leads_nowhere_but_to_itself_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    atomic_write(tmp_path / "loop", b"after")
    assert (tmp_path / "loop").read_bytes() == b"after"
