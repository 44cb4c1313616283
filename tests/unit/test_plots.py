"""What plots are made from: fewer points, names short enough, colours for dark grounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodekiln.experiment.model.naming import as_text, display_names, legend
from nodekiln.experiment.model.results import Experiment, load
from nodekiln.experiment.report.drawing import dark_rules, series
from nodekiln.experiment.report.plots import thinned

_EXAMPLE = load((Path(__file__).parents[1] / "examples/experiment.json").read_bytes())
assert isinstance(_EXAMPLE, Experiment)
STOCK, CHANGED = _EXAMPLE.binaries


def test_short_line_stays_as_it_is() -> None:
    points = [(float(at), at * at) for at in range(200)]
    assert thinned(points) == points


def test_long_line_keeps_its_ends_and_every_peak() -> None:
    points = [(float(at), 7) for at in range(72_000)]
    points[31_234] = (31_234.0, 900)
    points[50_001] = (50_001.0, 1)
    thin = thinned(points)
    assert len(thin) < 300
    assert {points[0], points[31_234], points[50_001], points[-1]} <= set(thin)
    assert thin == sorted(thin)


def test_short_labels_are_shown_as_they_are() -> None:
    assert display_names([STOCK, CHANGED]) == {one.label: one.label for one in (STOCK, CHANGED)}
    assert legend([STOCK, CHANGED], display_names([STOCK, CHANGED])) == {
        "stock": "v22.20.0-usdt-graft",
        "no backpressure": "v22.20.0-no-backpressure-usdt-graft",
    }


def test_classic_pair_has_short_names_whatever_its_labels() -> None:
    pair = [replace(one, label=one.name) for one in (STOCK, CHANGED)]
    assert list(display_names(pair).values()) == ["stock", "no backpressure"]
    assert legend(pair, display_names(pair))["stock"] == "v22.20.0-usdt-graft"


def test_other_long_labels_are_numbered() -> None:
    three = [replace(STOCK, label=f"v22.20.0-usdt-graft ({place})") for place in (1, 2, 3)]
    assert list(display_names(three).values()) == ["#1", "#2", "#3"]
    assert legend(three, display_names(three))["#2"] == "v22.20.0-usdt-graft (2), v22.20.0-usdt-graft"


def test_display_names_of_labels_that_look_the_same_are_numbers() -> None:
    alike = [replace(STOCK, label="a b"), replace(STOCK, label="a  b")]
    assert list(display_names(alike).values()) == ["#1", "#2"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("film.mp4", "film.mp4"),
        ("\u00fcber.mp4", "\u00fcber.mp4"),
        pytest.param("\udcc3\udcbcber.mp4", "\u00fcber.mp4", id="UTF-8, as Python reads it in the C locale"),
        pytest.param("no\udcffdekiln", "no\ufffddekiln", id="a byte that is no UTF-8"),
    ],
)
def test_name_of_a_file_becomes_a_text(name: str, text: str) -> None:
    assert as_text(name) == text


def test_every_series_has_a_color_for_dark_grounds() -> None:
    rules = "\n".join(dark_rules())
    for place in range(6):
        color, _ = series(place)
        assert f"fill: {color}" in rules
        assert f"stroke: {color}" in rules
    assert len({series(place) for place in range(6)}) == 6
