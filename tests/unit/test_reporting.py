"""What is said while something runs, and how often."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nodekiln.core.reporting import Reporter, show_table


def test_a_warning_is_told_once_and_a_note_each_time() -> None:
    said = io.StringIO()
    reporter = Reporter(Console(file=said, soft_wrap=True))
    for _ in range(2):
        reporter.warn("ccache keeps 5 GB.")
        reporter.say("v20.1.0 is built")
    reporter.warn("ccache keeps 6 GB.")
    assert said.getvalue().splitlines() == [
        "warning: ccache keeps 5 GB.",
        "v20.1.0 is built",
        "v20.1.0 is built",
        "warning: ccache keeps 6 GB.",
    ]


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    said = io.StringIO()
    Reporter(Console(file=said, soft_wrap=True)).fail("'\x1b[31mred' is no file.\n  Name another.")
    assert said.getvalue() == "error: '\\x1b[31mred' is no file.\n  Name another.\n"


def test_what_a_compiler_writes_stays_as_it_is() -> None:
    said = io.StringIO()
    text = "x.cc:3:\tint a; g++\u00a0: erreur fatale\u00a0: \u65e5\u672c"
    Reporter(Console(file=said, soft_wrap=True)).say(text)
    assert said.getvalue().replace("\t", " " * 8).split() == text.split()


def test_a_dumb_terminal_gets_no_moving_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    said = io.StringIO()
    with Reporter(Console(file=said, force_terminal=True)).progress("configure") as meter:
        meter.update(1, 2)
    assert said.getvalue() == ""


def test_names_stay_in_one_piece_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    name = "v22.20.0-no-backpressure-usdt-graft"
    show_table(("name", "source"), [(name, "https://example.org/node.git 0a3eb93427bd")])
    told = capsys.readouterr().out
    assert name in told
    assert "".join(line[len(name) :].strip() for line in told.splitlines()[1:]).endswith("0a3eb93427bd")
