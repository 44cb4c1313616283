"""Pictures and tables of a build's timings (matplotlib runs a program to find fonts)."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.building.timings import Timed, Timings
from nodekiln.core.errors import BuildError, UsageError
from nodekiln.core.reporting import Reporter
from nodekiln.pipelines.timings import TimingStore, report_timings, rows, summary, write_pictures

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
def test_pictures_are_svg_and_png_with_escaped_names(store: TimingStore) -> None:
    svg, png = write_pictures(BUILD, store)
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    texts = {element.text for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314
    assert any(text is not None and ODD in text for text in texts)
    assert sorted(path.name for path in store.folder.iterdir()) == ["v20.1.0.png", "v20.1.0.svg"]


def test_picture_is_reproducible(store: TimingStore) -> None:
    first, _ = write_pictures(BUILD, store)
    before = first.read_bytes()
    write_pictures(BUILD, store)
    assert first.read_bytes() == before


def test_kept_timings_are_found_by_name(store: TimingStore) -> None:
    store.keep(BUILD)
    assert store.get("v20.1.0") == BUILD


def test_missing_timings_list_the_kept_ones(store: TimingStore) -> None:
    store.keep(BUILD)
    store.learn(BUILD.steps)
    with pytest.raises(UsageError, match=r"timings of v20\.1\.1\. .*v20\.1\.0\."):
        store.get("v20.1.1")


@pytest.mark.parametrize("name", ["", "../x", ".steps", "a/b", "--help"])
def test_invalid_name_is_a_usage_error(store: TimingStore, name: str) -> None:
    with pytest.raises(UsageError):
        store.get(name)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_damaged_timings_are_an_error_with_their_path(store: TimingStore, content: bytes) -> None:
    store.keep(BUILD)
    store.path("v20.1.0").write_bytes(content)
    with pytest.raises(BuildError, match=r"v20\.1\.0\.json: .* damaged"):
        store.get("v20.1.0")


def test_learned_times_are_kept(store: TimingStore) -> None:
    store.learn(BUILD.steps)
    assert store.weights().expect("LINK node").seconds == 6.0


def test_learn_ignores_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "timings").touch()
    store = TimingStore(tmp_path / "timings")
    store.learn(BUILD.steps)
    assert store.weights().own == {}


def test_report_of_damaged_timings_is_a_warning(store: TimingStore) -> None:
    store.keep(BUILD)
    store.path("v20.1.0").write_text("{")
    output = io.StringIO()
    report_timings("v20.1.0", store, Reporter(Console(file=output, soft_wrap=True)))
    assert "damaged" in output.getvalue()


def test_rows_mark_the_critical_path() -> None:
    assert rows(BUILD)[0] == ("LINK node", "6.00 s", "*")
    assert summary(BUILD)[1].startswith("critical path: 2 steps, 9.0 s")
