"""What is decided before anything runs: sizes, labels, room, and what it will take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.settings import parse_list
from nodekiln.experiment.inputs.binaries import Named, make_labels
from nodekiln.experiment.inputs.resource_checks import (
    BASE,
    RESERVE,
    check_disk,
    check_memory,
    disk_needed,
    expected_peak,
)
from nodekiln.experiment.inputs.workloads import child_environment, find_workload, workload_names
from nodekiln.experiment.measure.forecast import forecast, piles_up
from nodekiln.experiment.model.request import CompareRequest, make_request, parse_size

GB = 10**9
LOTS = 10**15


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512_000_000),
        ("512 MB", 512_000_000),
        ("1.5g", 1_500_000_000),
        ("64KiB", 65_536),
        ("64Ki", 65_536),
        ("65536", 65_536),
        ("7b", 7),
    ],
)
def test_size_is_decimal_but_for_an_i(text: str, size: int) -> None:
    assert parse_size(text, "--size") == size


@pytest.mark.parametrize("text", ["", "M", "0", "0.1", "-1", "1e6", "5iB", "1 2", "9999T", "512MBit", "٣M"])
def test_another_word_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(text, "--size")


def test_list_has_no_empty_place() -> None:
    assert parse_list("a, b,c", str, "--binaries") == ("a", "b", "c")
    for text in ("", ",", "a,", "a,,b"):
        with pytest.raises(UsageError, match="--binaries"):
            parse_list(text, str, "--binaries")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"binaries": ("one",)}, "can't be compared"),
        ({"trials": 0}, "--trials"),
        ({"trials": 1001}, "--trials"),
        ({"gc_rounds": -1}, "--gc-rounds"),
        ({"repeat": 2}, "--repeat"),
        ({"repeat": 0, "source": Path("film.mp4")}, "--repeat"),
        ({"source": Path("film.mp4"), "sizes": (1, 2)}, "--input"),
        ({"sizes": (5, 5)}, "--size"),
        ({"high_water_marks": ()}, "--high-water-mark"),
    ],
)
def test_request_that_makes_no_sense_is_refused(wanted: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        CompareRequest(**wanted)  # type: ignore[arg-type]


def test_words_of_a_command_line_make_a_request(tmp_path: Path) -> None:
    assert make_request(cwd=tmp_path) == CompareRequest()
    made = make_request(
        cwd=tmp_path,
        binaries="a, /opt/b",
        size="1M,2M",
        high_water_mark="16KiB",
        trials="7",
        warm_ups="0",
        seed="0",
        memory_limit="1G",
    )
    assert made == CompareRequest(
        binaries=("a", "/opt/b"),
        sizes=(10**6, 2 * 10**6),
        high_water_marks=(16384,),
        trials=7,
        warm_ups=0,
        seed=0,
        memory_limit=GB,
    )
    assert make_request(cwd=tmp_path, source="film.mp4", repeat="9").source == tmp_path / "film.mp4"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"tag": "v22"}, "not a tag"),
        ({"tag": "v22.20.0", "binaries": "a,b"}, "--tag is for grafts"),
        ({"release": "node", "binaries": "a,b"}, "--release is for grafts"),
        ({"source": "film.mp4", "size": "1M"}, "--size is for generated data"),
        ({"trials": "-1"}, "--trials takes a number"),
        ({"trials": "five"}, "--trials takes a number"),
        ({"seed": "9" * 10}, "--seed takes a number"),
        ({"memory_limit": "some"}, "--memory-limit"),
        ({"high_water_mark": "16K,,"}, "--high-water-mark"),
    ],
)
def test_invalid_word_is_named(words: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        make_request(cwd=Path(), **words)  # type: ignore[arg-type]


def test_labels_differ_and_stay_short() -> None:
    assert make_labels(["node", "old", "node", "node"]) == ("node", "old", "node (2)", "node (3)")
    first, second = make_labels(["x" * 200] * 2)
    assert first != second
    assert max(len(first), len(second)) <= 80


def test_without_backpressure_the_input_counts() -> None:
    assert expected_peak(GB, piles_up=True) - expected_peak(GB, piles_up=False) == GB


def test_input_that_fits_is_accepted() -> None:
    check_memory(GB, piles_up=True, limit=None, available=GB + BASE + RESERVE)
    check_memory(LOTS, piles_up=False, limit=None, available=BASE + RESERVE)
    check_memory(LOTS, piles_up=True, limit=GB, available=GB + RESERVE)


def test_input_that_does_not_fit_is_refused_with_a_size_that_does() -> None:
    available = GB + BASE + RESERVE
    with pytest.raises(UsageError) as refused:
        check_memory(2 * GB, piles_up=True, limit=None, available=available)
    assert "--size 1000M" in str(refused.value)
    assert f"--memory-limit {1000 + BASE // 10**6}M" in str(refused.value)
    check_memory(GB, piles_up=True, limit=None, available=available)
    check_memory(2 * GB, piles_up=True, limit=GB + BASE, available=available)


@pytest.mark.parametrize("limit", [None, GB])
def test_full_machine_is_reported_to_be_emptied(limit: int | None) -> None:
    with pytest.raises(UsageError, match="Close other programs"):
        check_memory(GB, piles_up=True, limit=limit, available=BASE)


def test_limit_that_no_node_could_keep_is_refused() -> None:
    with pytest.raises(UsageError, match="too little"):
        check_memory(GB, piles_up=True, limit=BASE - 1, available=LOTS)


def test_disk_that_is_too_small_is_reported_with_both_figures() -> None:
    needed = disk_needed(GB, GB)
    check_disk(needed, free=needed, place="build")
    with pytest.raises(SourceError, match=r"room for 1\.0 GB, and this takes 2\.1 GB"):
        check_disk(needed, free=GB, place="build")


def stock_and(backpressure: bool | None) -> list[Named]:
    return [Named("a", "a", True), Named("b", "b", backpressure)]


def test_unknown_binary_may_take_the_whole_input() -> None:
    assert [piles_up(stock_and(answer)) for answer in (True, False, None)] == [False, True, True]


def test_forecast_counts_every_run() -> None:
    request = CompareRequest(sizes=(10**6, GB), high_water_marks=(None, 1, 2), trials=4, gc_rounds=2)
    pipeline = find_workload("pipeline", Path())
    told = forecast(request, pipeline, stock_and(False), request.sizes, disk=1, may_trace=True)
    assert told.runs == 2 * (1 + 6 * (4 + 2 * 3))
    assert told.memory == expected_peak(GB, piles_up=True)
    once = pipeline.seconds(GB)
    assert once is not None
    assert told.seconds is not None
    assert told.seconds > 2 * 3 * (4 + 6) * once
    untraced = forecast(request, pipeline, stock_and(False), request.sizes, disk=1, may_trace=False)
    assert untraced.runs == 2 * (1 + 6 * (4 + 2 * 2))
    alone = replace(request, sizes=(GB,), high_water_marks=(None,))
    told = forecast(alone, pipeline, stock_and(False), (GB,), disk=1, may_trace=True)
    assert told.runs == 2 * (1 + 4 + 2 * 4)


def foretold(workload: str, **wanted: Any) -> tuple[str, float]:
    """Return the line with the estimated time, and the seconds."""
    request = CompareRequest(**wanted)
    found = find_workload(workload, Path())
    plan = forecast(request, found, stock_and(False), request.sizes, disk=1, may_trace=True)
    assert plan.seconds is not None
    return plan.lines[2], plan.seconds


@pytest.mark.parametrize(("workload", "rounds"), [("pipeline", 1), ("pipeline", 3), ("socket", 3)])
def test_long_comparison_suggests_a_size_for_two_minutes(workload: str, rounds: int) -> None:
    line, _ = foretold(workload, gc_rounds=rounds)
    size = parse_size(line.split("--size ")[1].split()[0], "--size")
    line, seconds = foretold(workload, gc_rounds=rounds, sizes=(size,))
    assert 80 < seconds <= 120
    assert "--size" not in line


@pytest.mark.parametrize(
    ("workload", "wanted"), [("pipeline", {"sizes": (GB, 2 * GB)}), ("socket", {"trials": 100})]
)
def test_no_size_is_suggested_if_none_helps(workload: str, wanted: dict[str, Any]) -> None:
    line, seconds = foretold(workload, **wanted)
    assert seconds > 120
    assert "--size" not in line


def test_limit_bounds_the_forecast() -> None:
    request = CompareRequest(memory_limit=GB)
    told = forecast(
        request, find_workload("pipeline", Path()), stock_and(False), (9 * GB,), disk=1, may_trace=True
    )
    assert told.memory == GB


def test_nobody_knows_how_long_ones_own_workload_takes(tmp_path: Path) -> None:
    (tmp_path / "mine.mjs").write_text("// nothing")
    mine = find_workload("mine.mjs", tmp_path)
    told = forecast(CompareRequest(), mine, stock_and(False), (GB,), disk=1, may_trace=True)
    assert told.seconds is None
    assert any("as long as they take" in line for line in told.lines)


def test_every_workload_exists_and_explains_how_to_run_it_alone() -> None:
    assert workload_names() == ("pipeline", "http", "socket", "objects")
    for name in workload_names():
        workload = find_workload(name, Path())
        assert f"node {name}.mjs INPUT OUTPUT [HIGH_WATER_MARK]" in workload.text


@pytest.mark.parametrize("word", ["pipelines", "", "../pipeline", "notes.txt", "missing.mjs", "folder.mjs"])
def test_word_that_is_no_workload_is_refused_with_those_that_are(word: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no program")
    (tmp_path / "folder.mjs").mkdir()
    with pytest.raises(UsageError, match="pipeline, http, socket, objects"):
        find_workload(word, tmp_path)


def test_workload_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.mjs").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text"):
        find_workload("mine.mjs", tmp_path)


def test_children_see_nothing_that_changes_a_node() -> None:
    env = {
        "NODE_OPTIONS": "1",
        "NODE_PATH": "1",
        "NODE_V8_COVERAGE": "1",
        "UV_THREADPOOL_SIZE": "1",
        "PATH": "1",
    }
    assert child_environment(env) == {"PATH": "1"}
