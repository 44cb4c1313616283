"""Inputs made once, kept, checked and repeated; by ffmpeg where that is, here a stand-in that joins bytes."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.core.errors import UsageError
from nodekiln.core.reporting import Meter, Reporter
from nodekiln.experiment.inputs.inputs import Material, bytes_to_write, input_sizes, prepare
from nodekiln.experiment.measure.page_cache import cached_share, drop, warm
from nodekiln.experiment.model.request import CompareRequest

FFMPEG = f"""#!{sys.executable} -IS
import os, sys
names = open(sys.argv[sys.argv.index("-i") + 1]).read().split()[1::2]
print("total_size=5")
data = b"".join(open(name, "rb").read() for name in names)
if data.startswith(b"broken"):
    sys.exit("moov atom not found")
open(sys.argv[-1], "wb").write(b"header" + data)
"""
FILM = b"frames" * 100


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


def made(folder: Path, said: io.StringIO, *, path: str | None = None, **wanted: Any) -> Material:
    request = CompareRequest(**wanted)
    return prepare(
        request,
        input_sizes(request)[0],
        folder=folder / "inputs",
        env={**os.environ, "PATH": path or str(folder)},
        reporter=Reporter(Console(file=said, soft_wrap=True)),
    )


def put_ffmpeg(folder: Path) -> None:
    (folder / "ffmpeg").write_text(FFMPEG)
    (folder / "ffmpeg").chmod(0o755)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "inputs").iterdir())


def test_generated_data_is_written_once_and_kept(tmp_path: Path, said: io.StringIO) -> None:
    first = made(tmp_path, said, sizes=(100_000,), seed=4)
    written = first.path.stat().st_mtime_ns
    assert made(tmp_path, said, sizes=(100_000,), seed=4) == first
    assert first.path.stat().st_mtime_ns == written
    assert first.facts.size_bytes == 100_000
    assert first.facts.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert first.facts.kind == "generated"
    assert kept(tmp_path) == ["generated-100000-4.bin", "generated-100000-4.bin.json"]
    assert made(tmp_path, said, sizes=(100_000,), seed=5).facts.sha256 != first.facts.sha256


@pytest.mark.parametrize("damage", ["a byte", "a byte less", "its record", "its record gone"])
def test_changed_input_is_generated_again(tmp_path: Path, said: io.StringIO, damage: str) -> None:
    first = made(tmp_path, said, sizes=(100_000,))
    content = first.path.read_bytes()
    record = first.path.with_name(first.path.name + ".json")
    if damage == "a byte":
        first.path.write_bytes(content[:500] + b"x" + content[501:])
    elif damage == "a byte less":
        first.path.write_bytes(content[:-1])
    elif damage == "its record":
        record.write_text("[]")
    else:
        record.unlink()
    assert made(tmp_path, said, sizes=(100_000,)) == first
    assert first.path.read_bytes() == content
    assert ("is made again" in said.getvalue()) == damage.startswith("a byte")


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, said: io.StringIO) -> None:
    (tmp_path / "inputs" / ".part-1").mkdir(parents=True)
    (tmp_path / "inputs" / ".part-1" / "half.bin").write_bytes(b"half")
    made(tmp_path, said, sizes=(1000,))
    assert kept(tmp_path) == ["generated-1000-1.bin", "generated-1000-1.bin.json"]


def test_input_file_is_read_in_place(tmp_path: Path, said: io.StringIO) -> None:
    (tmp_path / "film.mp4").write_bytes(FILM)
    found = made(tmp_path, said, source=tmp_path / "film.mp4")
    assert found.path == tmp_path / "film.mp4"
    assert found.facts.name == "film.mp4"
    assert found.facts.kind == "file"
    assert kept(tmp_path) == []


def test_film_is_repeated_by_ffmpeg(tmp_path: Path, said: io.StringIO) -> None:
    """Whatever its name is: ffmpeg's list has quotes and escapes of its own."""
    put_ffmpeg(tmp_path)
    film = tmp_path / "it's\n a 'film'.MP4"
    film.write_bytes(FILM)
    found = made(tmp_path, said, source=film, repeat=9)
    assert found.path.read_bytes() == b"header" + FILM * 9
    assert found.facts.repeat == 9
    assert "without loss by ffmpeg" in found.note
    assert len(kept(tmp_path)) == 2
    assert made(tmp_path, said, source=film, repeat=9) == found


@pytest.mark.parametrize(
    ("name", "content", "has_ffmpeg", "why"),
    [
        pytest.param("film.mp4", FILM, False, "there is no ffmpeg", id="no ffmpeg"),
        pytest.param("film.mp4", b"broken" * 9, True, "moov atom not found", id="no film"),
        pytest.param("notes.txt", FILM, True, "not that of a video", id="a text"),
    ],
)
def test_bytes_are_repeated_where_ffmpeg_is_not_or_cannot(
    tmp_path: Path, said: io.StringIO, name: str, content: bytes, has_ffmpeg: bool, why: str
) -> None:
    if has_ffmpeg:
        put_ffmpeg(tmp_path)
    (tmp_path / name).write_bytes(content)
    found = made(tmp_path, said, source=tmp_path / name, repeat=3)
    assert found.path.read_bytes() == content * 3
    assert "bytes repeated 3 times" in found.note
    assert why in found.note


class Counting(Reporter):
    """Count how often a step reports progress."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.steps: dict[str, int] = {}

    @contextmanager
    def progress(self, title: str) -> Iterator[Meter]:
        self.steps[title] = 0
        counting = self

        class Count:
            def update(
                self, done: int, total: int | None, detail: str = "", *, left: float | None = None
            ) -> None:
                counting.steps[title] += 1

        yield Count()


@pytest.mark.parametrize(("content", "times"), [(b"small", 2_000_000), (b"0123456789abcdef" * 200_000, 3)])
def test_repeated_file_is_written_in_large_pieces(tmp_path: Path, content: bytes, times: int) -> None:
    """A piece for each of two million repetitions would take 17 s."""
    (tmp_path / "data.bin").write_bytes(content)
    request, reporter = CompareRequest(source=tmp_path / "data.bin", repeat=times), Counting()
    found = prepare(request, len(content) * times, folder=tmp_path / "inputs", env={}, reporter=reporter)
    assert found.path.read_bytes() == content * times
    assert reporter.steps["writing the input, MB"] <= 3


def test_file_that_changed_is_repeated_anew(tmp_path: Path, said: io.StringIO) -> None:
    (tmp_path / "data.bin").write_bytes(b"one" * 50)
    first = made(tmp_path, said, source=tmp_path / "data.bin", repeat=2)
    (tmp_path / "data.bin").write_bytes(b"two" * 50)
    second = made(tmp_path, said, source=tmp_path / "data.bin", repeat=2)
    assert first.path != second.path
    assert second.path.read_bytes() == b"two" * 100


def test_existing_inputs_need_no_disk_space(tmp_path: Path, said: io.StringIO) -> None:
    made(tmp_path, said, sizes=(1000,))
    both = CompareRequest(sizes=(1000, 2000))
    assert bytes_to_write(both, tmp_path / "inputs") == 2000
    (tmp_path / "data.bin").write_bytes(b"data")
    once, thrice = (CompareRequest(source=tmp_path / "data.bin", repeat=times) for times in (1, 3))
    assert bytes_to_write(once, tmp_path / "inputs") == 0
    assert bytes_to_write(thrice, tmp_path / "inputs") == 12


@pytest.mark.parametrize("has_ffmpeg", [False, True])
def test_input_repeated_before_needs_no_disk_space(
    tmp_path: Path, said: io.StringIO, has_ffmpeg: bool
) -> None:
    if has_ffmpeg:
        put_ffmpeg(tmp_path)
    film = tmp_path / "film.mp4"
    film.write_bytes(FILM)
    made(tmp_path, said, source=film, repeat=3)
    thrice, four_times = (CompareRequest(source=film, repeat=times) for times in (3, 4))
    assert bytes_to_write(thrice, tmp_path / "inputs") == 0
    assert bytes_to_write(four_times, tmp_path / "inputs") == len(FILM) * 4
    film.write_bytes(FILM[::-1])
    assert bytes_to_write(thrice, tmp_path / "inputs") == len(FILM) * 3


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing.bin", "can't be read: No such file"),
        ("empty.bin", "is empty"),
        ("folder", "is not a regular file"),
        pytest.param("pipe", "is not a regular file", id="a pipe, which is not waited for"),
    ],
)
def test_input_that_cannot_be_read_is_reported(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "empty.bin").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=f"--input .*{name} {why}"):
        input_sizes(CompareRequest(source=tmp_path / name))


def test_drop_and_warm_change_the_cached_share_of_a_file(tmp_path: Path) -> None:
    """The kernel may evict or keep a page at any moment, so only the direction of the change is checked."""
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system can't drop files")
    place = tmp_path / "data.bin"
    place.write_bytes(bytes(4_000_000))
    shares = []
    for change in (warm, drop) * 20:
        change(place)
        if (share := cached_share(place)) is None:
            pytest.skip("this file system does not report what is cached")
        shares.append(share)
    warmed, dropped = max(shares[::2]), min(shares[1::2])
    if dropped == 1:
        pytest.skip("this file system lives in memory")
    assert dropped < warmed
