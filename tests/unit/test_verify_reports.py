"""Reports in all formats: complete, and with text from tags escaped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Tag
from nodekiln.verify.outcome import (
    Depth,
    Evaluation,
    Finding,
    LinePair,
    Report,
    Row,
    Status,
    parse_kinds,
)
from nodekiln.verify.reports import check_format, check_output, publish, render_json, render_junit
from nodekiln.verify.text import render_github, render_summary, render_table
from tests.change_folders import KINDS, REGISTRY

HOSTILE = "a,b:c%0A\n::error::x|<script>alert(1)</script>\x1b[2J\x00`*"
CONFLICT = Finding(
    Status.CONFLICT,
    "no match",
    HOSTILE,
    path="lib/net.js",
    function="function listen()",
    patch="0001-net.patch",
    hunk="hunk 2 of 3",
    line=12,
    explanation=(LinePair("wanted();", "|", 12, "::error::found"), LinePair("", ">", 13, "more")),
)
MOVED = Finding(
    Status.OFFSET,
    "moved",
    "-7 lines",
    path="src/node.cc",
    patch="0001-net.patch",
    hunk="hunk 1 of 1",
    line=3,
    offset=-7,
)
CLEAN = Evaluation(Status.CLEAN)
FAILS = Evaluation(Status.CONFLICT, (MOVED, CONFLICT))
STOCK, PROBES, REWRITTEN, BOTH = KINDS
REPORT = Report(
    origin="/srv/node.git",
    depth=Depth.PLAN,
    recipes=tuple(kind.name for kind in KINDS),
    rows=(
        Row.of(Tag(18, 1, 0), "1" * 40, [(PROBES, Evaluation(Status.NATIVE))]),
        Row.of(
            Tag(20, 1, 0),
            "2" * 40,
            [
                (STOCK, CLEAN),
                (PROBES, Evaluation(Status.OFFSET, (MOVED,))),
                (REWRITTEN, CLEAN),
                (BOTH, Evaluation(Status.OFFSET, (MOVED,))),
            ],
        ),
        Row.of(
            Tag(22, 1, 0),
            "3" * 40,
            [(STOCK, CLEAN), (PROBES, FAILS)],
        ),
        Row.failed(Tag(24, 1, 0), None, "v24.1.0 names a blob\n  Name another repository."),
    ),
    ignored=3,
    seconds=0.5,
)


def test_kinds_have_the_names_of_binaries() -> None:
    assert [kind.name for kind in KINDS] == ["stock", "usdt", "no-backpressure", "no-backpressure-usdt"]
    assert parse_kinds("usdt, stock", REGISTRY) == (STOCK, PROBES)
    assert parse_kinds(None, REGISTRY) == KINDS


@pytest.mark.parametrize("text", ["", "usdt,", "probes", "v22.1.0"])
def test_unknown_recipe_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--recipe"):
        parse_kinds(text, REGISTRY)


def test_row_lists_a_shared_finding_once() -> None:
    row = REPORT.rows[1]
    assert row.status is Status.OFFSET
    assert [(each.recipes, each.offset) for each in row.findings] == [(("usdt", "no-backpressure-usdt"), -7)]
    assert row.largest_offset == -7


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, 0) for status in (Status.CLEAN, Status.OFFSET, Status.NATIVE, Status.UPSTREAMED)),
        *((status, 4) for status in (Status.MISSING_ANCHOR, Status.CONFLICT, Status.FAILED, Status.ERROR)),
        (Status.TOOLCHAIN, 3),
    ],
)
def test_exit_code_depends_on_the_status_of_the_recipes(status: Status, code: int) -> None:
    row = Row.of(Tag(22, 1, 0), "3" * 40, [(STOCK, CLEAN), (PROBES, Evaluation(status))])
    assert row.status is status
    report = Report(origin="", depth=Depth.PLAN, recipes=(), rows=(row,), ignored=0, seconds=0)
    assert report.exit_code == code


def test_table_has_a_line_for_each_tag_and_failure() -> None:
    lines = render_table(REPORT, explain=False).splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        *("tag", "v18.1.0", "v20.1.0", "v22.1.0", "v24.1.0", "4", "usdt:")
    ]
    [failure] = [line for line in lines if line.startswith("  - lib/")]
    assert failure.startswith(
        "  - lib/net.js: line 12: function listen(): 0001-net.patch, hunk 2 of 3: no match: "
    )
    assert lines[-2].endswith("; 3 tags without a release's name skipped")


def test_table_with_explain_shows_both_sides() -> None:
    rendered = render_table(REPORT, explain=True)
    assert f"    | {'wanted();':17} |     12  ::error::found\n" in rendered
    assert "\x1b" not in rendered
    assert "::error::found" not in render_table(REPORT, explain=False)


@pytest.mark.parametrize("explain", [True, False])
def test_no_line_of_the_table_begins_with_a_workflow_command(explain: bool) -> None:
    assert not any(
        line.lstrip().startswith("::") for line in render_table(REPORT, explain=explain).splitlines()
    )


@pytest.mark.parametrize("render", [render_table, render_json, render_junit])
def test_reports_escape_the_runners_older_commands(render: Callable[..., str]) -> None:
    finding = replace(
        CONFLICT, text="##[stop-commands]x", explanation=(LinePair("##[warning]", " ", 1, "##["),)
    )
    row = Row.of(Tag(22, 1, 0), "3" * 40, [(PROBES, Evaluation(Status.CONFLICT, (finding,)))])
    rendered = render(replace(REPORT, rows=(row,)), explain=True)
    assert "[stop-commands]x" in rendered
    assert "##[" not in rendered


def test_json_has_every_row_and_finding() -> None:
    data = json.loads(render_json(REPORT, explain=True))
    assert data["schema"] == 2
    assert data["ok"] is False
    assert data["counts"] == {"native": 1, "offset": 1, "conflict": 1, "error": 1}
    assert [(row["tag"], row["status"], row["ok"]) for row in data["tags"]] == [
        *(("v18.1.0", "native", True), ("v20.1.0", "offset", True)),
        *(("v22.1.0", "conflict", False), ("v24.1.0", "error", False)),
    ]
    assert data["tags"][2]["recipes"] == {"stock": "clean", "usdt": "conflict"}
    assert data["tags"][2]["findings"][1] == {
        "status": "conflict",
        "reason": "no match",
        "text": HOSTILE,
        "file": "lib/net.js",
        "function": "function listen()",
        "patch": "0001-net.patch",
        "hunk": "hunk 2 of 3",
        "line": 12,
        "offset": 0,
        "recipes": ["usdt"],
        "upstream": [],
        "since": None,
        "explanation": [
            {"patch": "wanted();", "mark": "|", "line": 12, "tag": "::error::found"},
            {"patch": "", "mark": ">", "line": 13, "tag": "more"},
        ],
    }


def test_junit_is_xml_with_a_case_for_each_recipe() -> None:
    suite = ElementTree.fromstring(render_junit(REPORT, explain=True))  # noqa: S314 (ours)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("8", "1", "1")
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    failure = cases["nodekiln.v22.1.0", "usdt"].find("failure")
    assert failure is not None
    assert failure.get("message") == "conflict"
    assert "<script>alert(1)</script>" in (failure.text or "")
    assert "\\x1b[2J\\x00" in (failure.text or "")
    assert not any(line.lstrip().startswith("::") for line in (failure.text or "").splitlines())
    assert cases["nodekiln.v24.1.0", "tag"].find("error") is not None
    assert cases["nodekiln.v22.1.0", "stock"].find("failure") is None


def test_github_report_has_one_annotation_per_line() -> None:
    lines = render_github(REPORT, explain=True).splitlines()
    assert [line.split("::")[1].split(" ")[0] for line in lines] == ["error", "error", "notice", "notice"]
    assert lines[0].startswith("::error file=patches/0001-net.patch,title=v22.1.0%3A conflict::v22.1.0: lib/")
    assert "a,b:c%250A%0A::error::x" in lines[0]


def test_annotation_properties_are_escaped() -> None:
    row = Row.of(
        Tag(22, 1, 0),
        "3" * 40,
        [(PROBES, Evaluation(Status.CONFLICT, (Finding(Status.CONFLICT, "r", "t", patch="a,b::c%.patch"),)))],
    )
    report = Report(origin="", depth=Depth.PLAN, recipes=(), rows=(row,), ignored=0, seconds=0)
    first = render_github(report, explain=False).splitlines()[0]
    assert first.startswith("::error file=patches/a%2Cb%3A%3Ac%25.patch,title=v22.1.0%3A conflict::")


def test_job_summary_escapes_markup_of_tags() -> None:
    summary = render_summary(REPORT, explain=True)
    rows = [line for line in summary.splitlines() if line.startswith("| v")]
    assert len(rows) == 4
    assert all(row.count("|") == 5 for row in rows)
    assert "<script" not in summary
    assert "`" not in summary


def test_long_job_summary_is_cut_after_a_row() -> None:
    long = Finding(Status.CONFLICT, "r", "x" * 300_000)
    rows = tuple(
        Row.of(Tag(20, number, 0), "2" * 40, [(PROBES, Evaluation(Status.CONFLICT, (long,)))])
        for number in range(5)
    )
    report = Report(origin="", depth=Depth.PLAN, recipes=(), rows=rows, ignored=0, seconds=0)
    summary = render_summary(report, explain=False)
    assert len(summary.encode()) < 2**20
    assert summary.endswith("\n3 more tags are in the report.\n")


def test_output_is_written_atomically(tmp_path: Path) -> None:
    shown: list[str] = []
    output = check_output(tmp_path / "report.json")
    publish(REPORT, form="json", explain=False, output=output, environment={}, show=shown.append)
    assert json.loads(output.read_text())["schema"] == 2
    assert shown == []
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_output_to_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("before")
    link = tmp_path / "link.json"
    link.symlink_to("report.json")
    publish(REPORT, form="json", explain=False, output=link, environment={}, show=str)
    assert link.is_symlink()
    assert json.loads((tmp_path / "report.json").read_text())["schema"] == 2


def test_output_to_a_pipe_is_written_into_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that the writer need not wait for one
    try:
        publish(REPORT, form="junit", explain=False, output=check_output(pipe), environment={}, show=str)
        assert os.read(reader, 5) == b"<?xml"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_job_summary_is_appended(tmp_path: Path) -> None:
    summary, shown = tmp_path / "summary.md", list[str]()
    summary.write_text("before\n")
    environment = {"GITHUB_STEP_SUMMARY": str(summary)}
    publish(REPORT, form="github", explain=False, output=None, environment=environment, show=shown.append)
    assert summary.read_text().startswith("before\n### 4 tags")
    assert shown[0].startswith("::error ")


def test_unknown_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="table, json, junit, github"):
        check_format("xml")


@pytest.mark.parametrize("name", [".", "no/such/folder.json"])
def test_unwritable_output_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--output"):
        check_output(tmp_path / name)


PRE_REPORT = replace(
    REPORT,
    rows=(
        Row.of(Tag(26, 1, 0), "1" * 40, [(PROBES, CLEAN), (BOTH, CLEAN)]),
        Row.of(Tag(27, 0, 0, "alpha.1"), "2" * 40, [(PROBES, FAILS), (BOTH, FAILS)]),
    ),
)


def test_pre_release_that_fails_is_a_warning_in_every_format() -> None:
    assert PRE_REPORT.exit_code == 0
    lines = render_github(PRE_REPORT, explain=False).splitlines()
    assert [line.split("::")[1].split(" ")[0] for line in lines] == ["warning", "notice"]
    data = json.loads(render_json(PRE_REPORT, explain=False))
    assert (data["ok"], [row["warning"] for row in data["tags"]]) == (True, [False, True])
    suite = ElementTree.fromstring(render_junit(PRE_REPORT, explain=False))  # noqa: S314 (ours)
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_reports_name_the_tag_where_recipes_first_fail() -> None:
    data = json.loads(render_json(PRE_REPORT, explain=False))
    assert data["first_failures"] == [
        {"recipes": ["usdt", "no-backpressure-usdt"], "tag": "v27.0.0-alpha.1", "previous": "v26.1.0"}
    ]
    last = render_table(PRE_REPORT, explain=False).splitlines()[-1]
    assert last == "usdt, no-backpressure-usdt: first failure at v27.0.0-alpha.1 (v26.1.0 fits)"


def test_first_failures_list_each_change_from_fitting_to_failing() -> None:
    statuses = [FAILS, CLEAN, FAILS, FAILS, CLEAN, FAILS]
    rows = tuple(
        Row.of(Tag(20, number, 0), "1" * 40, [(PROBES, each)]) for number, each in enumerate(statuses)
    )
    failures = replace(REPORT, rows=rows).first_failures
    assert [(str(each.tag), str(each.previous)) for each in failures] == [
        ("v20.0.0", "None"),
        ("v20.2.0", "v20.1.0"),
        ("v20.5.0", "v20.4.0"),
    ]
