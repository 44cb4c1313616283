"""results.json: written, read back, and refused where it isn't what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.experiment.model.results import Experiment, Sweep, dump, load
from nodekiln.experiment.model.schema import json_schema

ROOT = Path(__file__).parents[2]
EXPERIMENT = (ROOT / "tests/examples/experiment.json").read_text()
SWEEP = (ROOT / "tests/examples/sweep.json").read_text()


@pytest.mark.parametrize(("text", "kind"), [(EXPERIMENT, Experiment), (SWEEP, Sweep)])
def test_written_results_are_read_back(text: str, kind: type) -> None:
    results = load(text)
    assert isinstance(results, kind)
    assert dump(results) == text
    assert load(text.encode()) == results


def test_results_of_before_there_were_joint_runs_are_read() -> None:
    data = json.loads(EXPERIMENT)
    assert data.pop("joint_runs")
    results = load(json.dumps(data))
    assert isinstance(results, Experiment)
    assert results.joint_runs == ()


def test_documented_schema_is_that_of_the_data_model() -> None:
    written = (ROOT / "docs/results.schema.json").read_text()
    assert written == json_schema(), "python -m nodekiln.experiment.model.schema > docs/results.schema.json"


def test_schema_reports_units_and_what_null_means() -> None:
    trial = json.loads(json_schema())["$defs"]["Trial"]
    assert "up to its end" in trial["properties"]["wall_ms"]["description"]
    assert set(trial["required"]) >= {"number", "binary", "wall_ms", "samples", "ending"}
    assert "null" in trial["properties"]["verified"]["description"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "damaged"),
        (EXPERIMENT[:-200], "damaged"),
        ("[" * 100_000, "nests too deeply"),
        (b"\xff\xfe{", "damaged"),
        ("[]", "results of"),
        ('{"schema": 1, "recipe": "v22.20.0"}', "results of"),
        ('{"format": "nodekiln results"}', "missing required field"),
    ],
)
def test_other_texts_are_refused(text: bytes | str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(text)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("schema",), 3, "newer nodekiln"),
        (("schema",), 0, "schema"),
        (("schema",), "1", "schema"),
        (("kind",), "table", "kind"),
        (("trials", 0, "wall_ms"), "8267", r"\$\.trials\[0\]\.wall_ms"),
        (("trials", 0, "wall_ms"), -1, r"\$\.trials\[0\]\.wall_ms"),
        (("trials", 0, "wall_ms"), None, r"\$\.trials\[0\]\.wall_ms"),
        (("trials", 0, "peak_rss_bytes"), 10**400, "peak_rss_bytes"),
        (("trials", 0, "ending"), "exploded", "ending"),
        (("trials", 0, "binary"), "another", "no binary is called 'another'"),
        (("trials", 2, "number"), 1, "two trials are"),
        (("gc_runs", 0, "collections", 0, "type"), 3, "type"),
        (("joint_runs", 0, "collections"), {"guess": []}, "joint_runs"),
        (("joint_runs", 0, "number"), 2, "two joint runs are"),
        (("joint_runs", 0, "binary"), "another", "no binary is called 'another'"),
        (("binaries", 1, "label"), "stock", "share a label"),
        (("binaries", 0, "sha256"), "1234", "sha256"),
        (("binaries",), [], "no binaries"),
    ],
)
def test_value_that_cannot_be_is_named(place: tuple[str | int, ...], value: object, told: str) -> None:
    data: Any = json.loads(EXPERIMENT)
    at = data
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(UsageError, match=told) as caught:
        load(json.dumps(data), "somewhere/results.json")
    assert "somewhere/results.json" in caught.value.message
    assert caught.value.remedy


def test_sweep_holds_one_comparison_only() -> None:
    sweep = load(SWEEP)
    assert isinstance(sweep, Sweep)
    first, second, *_ = sweep.experiments
    for other, told in (
        (replace(second, workload="http"), "different workloads"),
        (replace(second, binaries=second.binaries[:1], trials=(), gc_runs=()), "different binaries"),
        (first, "two experiments are"),
    ):
        with pytest.raises(ValueError, match=told):
            replace(sweep, experiments=(first, other))
    with pytest.raises(ValueError, match="no experiments"):
        replace(sweep, experiments=())


def test_sweep_is_ordered_by_mark_and_size() -> None:
    sweep = load(SWEEP)
    assert isinstance(sweep, Sweep)
    shuffled = replace(sweep, experiments=sweep.experiments[::-1])
    assert shuffled.marks == (None, 2**20)
    assert [one.input.size_bytes // 10**6 for one in shuffled.at(None)] == [32, 64, 128]


def test_results_of_schema_1_are_read_with_their_methods() -> None:
    old = json.loads(SWEEP)
    for experiment in old["experiments"]:
        for run in experiment["gc_runs"]:
            run["way"] = run.pop("method")
    with pytest.raises(UsageError, match="method"):
        load(json.dumps(old))
    for level in (old, *old["experiments"]):
        level["schema"] = 1
    results, current = load(json.dumps(old)), load(SWEEP)
    assert isinstance(results, Sweep)
    assert isinstance(current, Sweep)
    assert [one.gc_runs for one in results.experiments] == [one.gc_runs for one in current.experiments]
