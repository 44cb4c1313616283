"""Messages on stderr, tables on stdout, and escaping."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nodekiln.core.reporting import Reporter, escape_unprintable, show_table


def test_warning_is_printed_once_and_note_each_time() -> None:
    output = io.StringIO()
    reporter = Reporter(Console(file=output, soft_wrap=True))
    for _ in range(2):
        reporter.warn("ccache keeps 5 GB.")
        reporter.say("v20.1.0 is built")
    reporter.warn("ccache keeps 6 GB.")
    assert output.getvalue().splitlines() == [
        "warning: ccache keeps 5 GB.",
        "v20.1.0 is built",
        "v20.1.0 is built",
        "warning: ccache keeps 6 GB.",
    ]


def test_control_characters_are_escaped() -> None:
    output = io.StringIO()
    Reporter(Console(file=output, soft_wrap=True)).fail("'\x1b[31mred' does not exist.\n  Name another.")
    assert output.getvalue() == "error: '\\x1b[31mred' does not exist.\n  Name another.\n"


def test_tabs_and_foreign_letters_are_kept() -> None:
    output = io.StringIO()
    text = "x.cc:3:\tint a; g++\u00a0: erreur fatale\u00a0: \u65e5\u672c"
    Reporter(Console(file=output, soft_wrap=True)).say(text)
    assert output.getvalue().replace("\t", " " * 8).split() == text.split()


def test_progress_on_dumb_terminal_prints_no_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    output = io.StringIO()
    with Reporter(Console(file=output, force_terminal=True)).progress("configure") as meter:
        meter.update(1, 2)
    assert output.getvalue() == ""


def test_table_on_narrow_terminal_keeps_names_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    name = "v22.20.0-no-backpressure-usdt-graft"
    show_table(("name", "source"), [(name, "https://example.org/node.git 0a3eb93427bd")])
    shown = capsys.readouterr().out
    assert name in shown
    assert "".join(line[len(name) :].strip() for line in shown.splitlines()[1:]).endswith("0a3eb93427bd")


@pytest.mark.parametrize(
    ("text", "keep", "escaped"),
    [
        ("a\x1b[2J\tb\n", "", "a\\x1b[2J\\tb\\n"),
        ("a\tb\n", "\n\t", "a\tb\n"),
        (b"a\xff\x00", "", "a\\xff\\x00"),
        ("\u202eabc\u2069", "", "\\u202eabc\\u2069"),
        ("a ##[error]b", "", "a #\\x23[error]b"),
        ("a\n ::add-mask::b\n::std::c", "\n", "a\n \\x3a:add-mask::b\n::std::c"),
        ("f\u00fcr \u65e5\u672c", "", "f\u00fcr \u65e5\u672c"),
    ],
)
def test_escape_unprintable_keeps_only_what_is_named(text: str | bytes, keep: str, escaped: str) -> None:
    assert escape_unprintable(text, keep=keep) == escaped
