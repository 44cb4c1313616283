"""Pictures and tables of what a build took (matplotlib looks for fonts with a program of its own)."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.building.timings import Timed, Timings
from nodekiln.core.errors import BuildError, UsageError
from nodekiln.core.reporting import Reporter
from nodekiln.pipelines.timings import Shown, TimingStore, tell, write_pictures

ODD = "ACTION <b>&amp;</b> $x_1$ %s"
BUILD = Timings(
    name="v20.1.0",
    jobs=2,
    steps=(Timed(ODD, 0.0, 3.0), Timed("LINK node", 3.0, 9.0, (0,))),
)


@pytest.fixture
def store(tmp_path: Path) -> TimingStore:
    return TimingStore(tmp_path / "timings")


@pytest.mark.slow
def test_a_picture_is_written_twice_and_shows_names_as_they_are(store: TimingStore) -> None:
    svg, png = write_pictures(BUILD, store)
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    texts = {element.text for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314
    assert any(text is not None and ODD in text for text in texts)
    assert sorted(path.name for path in store.folder.iterdir()) == ["v20.1.0.png", "v20.1.0.svg"]


def test_the_same_build_gives_the_same_picture(store: TimingStore) -> None:
    first, _ = write_pictures(BUILD, store)
    before = first.read_bytes()
    write_pictures(BUILD, store)
    assert first.read_bytes() == before


def test_what_is_kept_is_found_by_name(store: TimingStore) -> None:
    store.keep(BUILD)
    assert store.get("v20.1.0") == BUILD


def test_a_name_without_timings_is_told_with_those_that_are_there(store: TimingStore) -> None:
    store.keep(BUILD)
    store.learn(BUILD.steps)
    with pytest.raises(UsageError, match=r"no timings of v20\.1\.1; there are: v20\.1\.0\."):
        store.get("v20.1.1")


@pytest.mark.parametrize("name", ["", "../x", ".steps", "a/b", "--help"])
def test_what_is_no_name_is_refused(store: TimingStore, name: str) -> None:
    with pytest.raises(UsageError):
        store.get(name)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_damaged_timings_are_told_with_their_place(store: TimingStore, content: bytes) -> None:
    store.keep(BUILD)
    store.path("v20.1.0").write_bytes(content)
    with pytest.raises(BuildError, match=r"v20\.1\.0\.json: .* damaged"):
        store.get("v20.1.0")


def test_what_builds_teach_is_kept(store: TimingStore) -> None:
    store.learn(BUILD.steps)
    assert store.weights().expect("LINK node").seconds == 6.0


def test_a_place_that_takes_no_times_ends_no_build(tmp_path: Path) -> None:
    (tmp_path / "timings").touch()
    store = TimingStore(tmp_path / "timings")
    store.learn(BUILD.steps)
    assert store.weights().own == {}


def test_damaged_timings_end_no_build(store: TimingStore) -> None:
    store.keep(BUILD)
    store.path("v20.1.0").write_text("{")
    said = io.StringIO()
    tell("v20.1.0", store, Reporter(Console(file=said, soft_wrap=True)))
    assert "damaged" in said.getvalue()


def test_a_table_marks_the_critical_path() -> None:
    assert Shown(BUILD).rows[0] == ("LINK node", "6.00 s", "*")
    assert Shown(BUILD).summary[1] == "critical path: 2 steps, 9.0 s: no number of jobs takes less"
