"""Environments for child processes, and the telling line of a failed program's output."""

from __future__ import annotations

import re

import pytest

from nodekiln.core.process import error_line, without_node_options


@pytest.mark.parametrize(
    ("output", "pattern", "line"),
    [
        ("one\ntwo\n\n", None, "two"),
        ("a.cc:1: error: first\nerror: second\nmake: stopped\n", "error: ", "a.cc:1: error: first"),
        ("one\ntwo\n", "error: ", "two"),
        ("", None, "no output"),
        (" \n\n", "error: ", "no output"),
        (b"\x1b[31m\xff\n", None, "\\x1b[31m\\xff"),
    ],
)
def test_error_line_returns_first_match_or_last_line(
    output: str | bytes, pattern: str | None, line: str
) -> None:
    assert error_line(output, None if pattern is None else re.compile(pattern)) == line


def test_error_line_is_shortened() -> None:
    assert len(error_line("x" * 10_000)) == 300


def test_without_node_options_keeps_other_variables() -> None:
    env = {"NODE_OPTIONS": "--jitless", "NODE_PATH": "/lib", "NODE_ENV": "production", "PATH": "/bin"}
    assert without_node_options(env) == {"NODE_ENV": "production", "PATH": "/bin"}
