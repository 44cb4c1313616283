"""git apply makes of a tree what the plan says, for contents that trip up tools which read text."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from nodekiln.changes.diff import render
from nodekiln.core.edit import Edit, Plan, Span

NUMBERS = b"".join(b"%d\n" % number for number in range(1, 41))


def edit(base: bytes | None, *spans: tuple[int, int, bytes], path: str = "lib/a.js") -> Edit:
    return Edit(path, base, tuple(Span(start, end, new, "because") for start, end, new in spans))


def git(repository: Path, *args: str, given: bytes = b"") -> bytes:
    argv = ["git", "-c", "core.autocrlf=false", *args]
    return subprocess.run(argv, cwd=repository, input=given, check=True, capture_output=True).stdout


def applied(repository: Path, plan: Plan) -> dict[str, bytes]:
    """The files of the plan once git applied what is shown of it to those before."""
    git(repository, "init", "--quiet")
    for one in plan.edits:
        if one.base is not None:
            (repository / one.path).parent.mkdir(parents=True, exist_ok=True)
            (repository / one.path).write_bytes(one.base)
    git(repository, "add", "--all")
    git(repository, "apply", "--check", "--index", "-", given=render(plan))
    git(repository, "apply", "--index", "-", given=render(plan))
    return {one.path: (repository / one.path).read_bytes() for one in plan.edits}


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(edit(NUMBERS, (27, 29, b"ten")), id="a line"),
        pytest.param(edit(NUMBERS, (0, 0, b"first\n")), id="a line before the first"),
        pytest.param(edit(NUMBERS, (len(NUMBERS), len(NUMBERS), b"last\n")), id="a line after the last"),
        pytest.param(edit(NUMBERS, (0, 2, b"")), id="the first line removed"),
        pytest.param(edit(NUMBERS, (0, len(NUMBERS), b"")), id="emptied"),
        pytest.param(edit(b"", (0, 0, b"a\n")), id="filled"),
        pytest.param(edit(NUMBERS, (0, 1, b"x"), (30, 34, b""), (100, 100, b"\n\n\n")), id="three hunks"),
        pytest.param(edit(b"a\nb\nc", (0, 1, b"x")), id="an open last line stays"),
        pytest.param(edit(b"a\nb\nc", (4, 5, b"x")), id="an open last line changes"),
        pytest.param(edit(b"a\nb\nc", (5, 5, b"\n")), id="an open last line is ended"),
        pytest.param(edit(b"a\nb\nc\n", (5, 6, b"")), id="the last line is opened"),
        pytest.param(edit(b"a\nb\nc", (4, 5, b"")), id="an open last line goes"),
        pytest.param(edit(b"a\r\nb\r\nc\r\nd\r\n", (3, 4, b"x")), id="CRLF"),
        pytest.param(edit(b"a\r\nb\r\nc\r\n", (4, 5, b"")), id="one return less"),
        pytest.param(edit(b"a\rb\rc\nd\r", (2, 3, b"x")), id="lone returns"),
        pytest.param(edit(b"a\x0cb\x0b\x1c\nc\xc2\x85\xe2\x80\xa8d\n", (0, 1, b"x")), id="other line ends"),
        pytest.param(edit(b"\xff\xfe\n\x80\n", (2, 2, b"\xc3")), id="no UTF-8"),
        pytest.param(edit(b"a\0b\nc\n", (4, 5, b"\0")), id="NUL"),
        pytest.param(edit(b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n", (0, 3, b"+++")), id="a diff"),
        pytest.param(edit(b"-- \n\\ No newline at end of file\n", (0, 2, b"++")), id="marks"),
        pytest.param(edit(b"a \t \n\t\n", (0, 1, b"\t \t")), id="white space"),
        pytest.param(edit(b"\n\n\n\n", (1, 1, b"\n")), id="an empty line among empty lines"),
        pytest.param(edit(None, (0, 0, b"a\r\nb")), id="added"),
        pytest.param(edit(None, (0, 0, b"")), id="added empty"),
        pytest.param(edit(b"a\n", (0, 1, b"b"), path='li b/q"\\\u00e9\t.js'), id="an awkward path"),
        pytest.param(edit(b"a\n", (0, 1, b"b"), path="li b/a b.js"), id="spaces in a path"),
        pytest.param(edit(None, (0, 0, b"b\n"), path="li b/new b.js"), id="spaces in an added path"),
    ],
)
def test_git_apply_of_the_diff_makes_the_edited_bytes(tmp_path: Path, one: Edit) -> None:
    assert applied(tmp_path, Plan((one,))) == {one.path: one.after}


def test_git_apply_of_random_diffs_makes_the_edited_bytes(tmp_path: Path) -> None:
    edits = tuple(random_edit(number) for number in range(300))
    assert applied(tmp_path, Plan(edits)) == {one.path: one.after for one in edits}


def random_edit(number: int) -> Edit:
    """Few kinds of lines, so that git could take one place for another."""
    chance = random.Random(number)  # noqa: S311 (the same edits every time)

    def text(lines: int) -> bytes:
        joined = b"\n".join(chance.choice([b"", b"a", b"b", b"a\r", b"\xff"]) for _ in range(lines))
        return joined + chance.choice([b"", b"\n"])

    base = text(chance.randrange(60))
    places = sorted(chance.randrange(len(base) + 1) for _ in range(2 * chance.randrange(1, 5)))
    spans = [
        (start, end, text(chance.randrange(1, 4)))
        for start, end in zip(places[::2], places[1::2], strict=True)
    ]
    return edit(base, *spans, path=f"lib/{number:03}.js")


def test_render_agrees_with_git_diff(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    one = edit(NUMBERS, (27, 29, b"ten"), (70, 73, b""))
    (tmp_path / "lib").mkdir()
    (tmp_path / one.path).write_bytes(NUMBERS)
    git(tmp_path, "add", "--all")
    (tmp_path / one.path).write_bytes(one.after)
    assert git(tmp_path, "diff", "--full-index", "--no-color") == render(Plan((one,)))
