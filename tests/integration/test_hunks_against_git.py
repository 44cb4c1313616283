"""git apply and our applier on the same trees: the same bytes, or a refusal of ours where git would guess."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from nodekiln.changes.hunks import Applied, Fit, apply
from nodekiln.changes.patchfile import Patch, parse
from nodekiln.core.edit import Misfit

HEADER = b"Subject: A change\n\nBecause.\n---\n"
PATH = "lib/a.js"
NUMBERS = b"".join(b"%d\n" % number for number in range(1, 41))
LINES = [
    b"",
    b"}",
    b"  return a;",
    b"a\r",
    b"\xff\xfe",
    b"\tb \x0c\x1c",
    b"-- ",
    b"+++ b/x",
    b"@@ -1 +1 @@",
    b"\0",
]
UNIQUE = [b"line %d" % number for number in range(400)]


def run(folder: Path, *args: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = ["git", "-c", "core.autocrlf=false", *args]
    return subprocess.run(argv, cwd=folder, input=given, check=False, capture_output=True)


def diff(folder: Path, before: bytes | None, after: bytes, context: int = 3) -> bytes:
    """The patch file that makes the one of the other."""
    for name, content in (("a", before), ("b", after)):
        (folder / name / PATH).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            (folder / name / PATH).unlink(missing_ok=True)
        else:
            (folder / name / PATH).write_bytes(content)
    old = f"a/{PATH}" if before is not None else "/dev/null"
    args = ("--no-index", "--no-prefix", "--text", "--no-color", f"-U{context}")
    shown = run(folder, "diff", *args, old, f"b/{PATH}")
    assert shown.returncode == 1, shown.stderr
    # Without a file before, git names the one after on both sides.
    return HEADER + shown.stdout.replace(b"diff --git b/", b"diff --git a/")


def by_git(folder: Path, tree: bytes | None, patches: list[bytes], *options: str) -> bytes | None:
    """The file once git applied the patches, None if it refuses one."""
    place = folder / "tree" / PATH
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if tree is not None:
        place.write_bytes(tree)
    for patch in patches:
        if run(folder / "tree", "apply", *options, "-", given=patch).returncode != 0:
            return None
    return place.read_bytes()


def by_us(tree: bytes | None, patches: list[bytes]) -> Applied:
    parsed: list[Patch] = [parse(f"{number}.patch", patch) for number, patch in enumerate(patches, 1)]
    return apply(parsed, {PATH: tree}.get)


def bytes_after(applied: Applied, tree: bytes | None) -> bytes | None:
    """The file once we applied the patches, None if a hunk does not fit."""
    if applied.conflicts:
        return None
    return applied.edits[0].after if applied.edits else tree


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(NUMBERS, NUMBERS.replace(b"20\n", b"twenty\n"), id="a line"),
        pytest.param(NUMBERS, b"0\n" + NUMBERS, id="a line before the first"),
        pytest.param(NUMBERS, NUMBERS + b"41\n", id="a line after the last"),
        pytest.param(NUMBERS, NUMBERS[2:], id="the first line goes"),
        pytest.param(NUMBERS, NUMBERS[:-3], id="the last line goes"),
        pytest.param(NUMBERS, NUMBERS[4:60] + b"x\n" + NUMBERS[80:], id="several hunks"),
        pytest.param(NUMBERS, b"", id="emptied"),
        pytest.param(b"", NUMBERS, id="filled"),
        pytest.param(None, b"a\r\nb", id="added"),
        pytest.param(None, b"", id="added empty"),
        pytest.param(b"a\nb\nc", b"x\nb\nc", id="an open last line stays"),
        pytest.param(b"a\nb\nc", b"a\nb\nx", id="an open last line changes"),
        pytest.param(b"a\nb\nc", b"a\nb\nc\n", id="an open last line is ended"),
        pytest.param(b"a\nb\nc\n", b"a\nb\nc", id="the last line is opened"),
        pytest.param(b"a\nb\nc", b"a\nb\nc\nd", id="lines after an open last line"),
        pytest.param(b"a\r\nb\r\nc\r\n", b"a\r\nx\r\nc\r\n", id="CRLF"),
        pytest.param(b"a\r\nb\r\nc\r\n", b"a\r\nb\nc\r\n", id="one return less"),
        pytest.param(b"a\rb\rc\nd\r", b"a\rx\rc\nd\r", id="lone returns"),
        pytest.param(b"b\x1c\nc\xc2\x85\xe2\x80\xa8d\n", b"x\x1c\nc\xc2\x85\xe2\x80\xa8d\n", id="other ends"),
        pytest.param(b"\xff\xfe\n\x80\n\xed\xa0\x80\n", b"\xff\xfe\n\xc3\n\xed\xa0\x80\n", id="no UTF-8"),
        pytest.param(b"a\0b\nc\n", b"a\0b\nd\n", id="NUL"),
        pytest.param(b"-- a/x\n++ b/x\nd\n", b"-- a/x\n++ c/x\ndiff --git a/x b/x\n", id="a diff"),
        pytest.param(b"\n\n\n\n", b"\n\n\n\n\n", id="an empty line among empty lines"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("context", [1, 3])
def test_patch_applied_to_its_base_makes_the_changed_tree(
    tmp_path: Path, before: bytes | None, after: bytes, context: int
) -> None:
    patch = diff(tmp_path, before, after, context)
    applied = by_us(before, [patch])
    assert {outcome.fit for outcome in applied.outcomes} == {Fit.CLEAN}
    assert [edit.after for edit in applied.edits] == [after]
    assert by_git(tmp_path, before, [patch]) == after


def changed(chance: random.Random, content: bytes, lines: list[bytes]) -> bytes:
    """The content with a few lines added, removed and replaced."""
    old = content.split(b"\n")
    for _ in range(chance.randrange(1, 5)):
        start = chance.randrange(len(old) + 1)
        old[start : start + chance.randrange(3)] = chance.choices(lines, k=chance.randrange(3))
    return b"\n".join(old)


@pytest.mark.parametrize("group", range(4))
@pytest.mark.parametrize("lines", [LINES, [*LINES, *UNIQUE]], ids=["few kinds of lines", "many kinds"])
def test_apply_agrees_with_git_on_random_trees(tmp_path: Path, lines: list[bytes], group: int) -> None:
    """Where git applies and we refuse, the place is a guess: the lines stand in several places, the hunk has
    nothing to go by, or git takes a last line without a newline for one that has it."""
    seen: Counter[str] = Counter()
    for number in range(60):
        chance = random.Random(f"{group} {number}")  # noqa: S311 (the same trees every time)
        before = b"\n".join(chance.choices(lines, k=chance.randrange(50)))
        after = changed(chance, before, lines)
        tree = chance.choice([before, changed(chance, before, lines)])
        if after == before:
            continue
        patch = diff(tmp_path, before, after, context=chance.randrange(4))
        theirs, applied = by_git(tmp_path, tree, [patch]), by_us(tree, [patch])
        ours = bytes_after(applied, tree)
        if ours is not None:
            assert ours == theirs, number
            fits = {outcome.fit for outcome in applied.outcomes}
            seen["moved" if Fit.OFFSET in fits else "clean"] += 1
        elif theirs is None:
            seen["refused by both"] += 1
        else:
            why = {conflict.misfit for conflict in applied.conflicts}
            texts = " ".join(conflict.text for conflict in applied.conflicts)
            blind = "no context" in texts or "without a newline" in texts
            assert Misfit.SEVERAL_MATCHES in why or blind, (number, applied.conflicts)
            seen["a guess of git's"] += 1
    assert all(seen[kind] > 0 for kind in ("clean", "refused by both")), seen
    assert seen["moved"] > 0 or lines is LINES, seen


@pytest.mark.parametrize("group", range(4))
def test_apply_of_several_patches_agrees_with_git(tmp_path: Path, group: int) -> None:
    made = 0
    for number in range(15):
        chance = random.Random(f"{group} {number}")  # noqa: S311 (the same trees every time)
        stages = [b"\n".join(chance.choices(UNIQUE, k=80)) + b"\n"]
        stages += [changed(chance, stages[-1], UNIQUE)]
        stages += [changed(chance, stages[-1], [*UNIQUE, *LINES])]
        stages += [changed(chance, stages[-1], UNIQUE)]
        pairs = [pair for pair in pairwise(stages) if pair[0] != pair[1]]
        patches = [diff(tmp_path, *pair) for pair in pairs]
        tree = b"on top\n" * 3 + stages[0] if chance.random() < 0.5 else stages[0]
        theirs, applied = by_git(tmp_path, tree, patches), by_us(tree, patches)
        if not applied.conflicts:
            made += 1
            assert bytes_after(applied, tree) == theirs, number
    assert made >= 5


def test_ambiguous_hunk_is_refused_although_git_takes_the_nearest(tmp_path: Path) -> None:
    part = b"begin\nx\nend\n"
    patch = diff(tmp_path, NUMBERS + part + NUMBERS, NUMBERS + b"begin\nX\nend\n" + NUMBERS, context=1)
    tree = part + NUMBERS + b"new\n" + part + NUMBERS
    assert by_git(tmp_path, tree, [patch]) == part + NUMBERS + b"new\nbegin\nX\nend\n" + NUMBERS
    [conflict] = by_us(tree, [patch]).conflicts
    assert conflict.misfit == Misfit.SEVERAL_MATCHES
    assert "lines 1, 45" in conflict.text


def test_hunk_without_context_is_refused_although_git_has_an_option(tmp_path: Path) -> None:
    patch = diff(tmp_path, NUMBERS, NUMBERS.replace(b"20\n", b"20\nnew\n"), context=0)
    tree = b"on top\n" + NUMBERS
    by_number = by_git(tmp_path, tree, [patch], "--unidiff-zero")
    assert by_number == tree.replace(b"19\n", b"19\nnew\n")  # one line too high
    [conflict] = by_us(tree, [patch]).conflicts
    assert (conflict.misfit, "no context" in conflict.text) == (Misfit.NO_MATCH, True)
