"""Environments for child processes, and the telling line of a failed program's output."""

from __future__ import annotations

import re

import pytest

from nodekiln.core.process import error_line, with_english_messages, without_node_options


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


@pytest.mark.parametrize(
    ("env", "is_changed"),
    [
        ({}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C.UTF-8", "LANGUAGE": "de"}, False),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "de:en"}, True),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ja_JP.UTF-8"}, True),
    ],
)
def test_with_english_messages_sets_lc_all_for_other_languages_only(
    env: dict[str, str], is_changed: bool
) -> None:
    assert with_english_messages(env) == ({**env, "LC_ALL": "C"} if is_changed else env)
