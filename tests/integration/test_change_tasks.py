"""./inv change: list, show, check and make changes, from diffs, commits and edits by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import ADAPTERS, GOOD, WRITABLE

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

DIFF = f"""\
Declare with let.

--- a/{WRITABLE}
+++ b/{WRITABLE}
@@ -4,2 +4,2 @@
-  const ret = state.length < state.highWaterMark;
+  let ret = state.length < state.highWaterMark;
   if (!ret)
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make(kiln: Kiln, name: str = "./own") -> Path:
    """Make a change from DIFF; return its folder."""
    (kiln.here / "x.diff").write_text(DIFF)
    done = kiln.run("change", "new", name, "--from-diff=x.diff", f"--tag={GOOD}")
    assert done.code == 0, done.stderr
    return Path(done.stdout.strip())


def test_change_from_diff_is_taken_by_path_everywhere(kiln: Kiln) -> None:
    folder = make(kiln)
    assert folder == kiln.here / "own"
    assert sorted(file.name for file in folder.iterdir()) == ["0001-declare-with-let.patch", "change.toml"]
    assert f'base = "{GOOD}"' in (folder / "change.toml").read_text()
    assert kiln.run("change", "check", "./own").code == 0
    shown = json.loads(kiln.run("change", "show", "./own", "--format=json").stdout)
    assert [(patch["base"], patch["paths"]) for patch in shown["patches"]] == [(GOOD, [WRITABLE])]
    patched = kiln.run("patch", GOOD, "--no-probes", "--change=./own")
    assert (patched.code, patched.stdout.count("\n+  let ret")) == (0, 1), patched.stderr
    verified = kiln.run("verify", f"{GOOD},v20.1.1", "--change=./own", "--format=json")
    report = json.loads(verified.stdout)
    assert (verified.code, report["recipes"]) == (0, ["own"])
    dry = kiln.run("build", GOOD, "--no-probes", "--change", str(folder), "--dry-run")
    assert (dry.code, f"{GOOD}-own" in dry.stderr) == (0, True)


def test_changes_apply_in_the_order_of_the_options(kiln: Kiln) -> None:
    make(kiln, "./first")
    (kiln.here / "y.diff").write_text(DIFF.replace("const ret", "let ret").replace("+  let", "+  var"))
    home = make(kiln, "./second")
    file = next(home.glob("*.patch"))
    file.write_text(file.read_text().replace("-  const", "-  let").replace("+  let", "+  var"))
    right = kiln.run("patch", GOOD, "--no-probes", "--change=./first", "--change=./second")
    assert (right.code, right.stdout.count("\n+  var ret")) == (0, 1), right.stderr
    wrong = kiln.run("patch", GOOD, "--no-probes", "--change=./second", "--change=./first")
    assert (wrong.code, "second" in wrong.stderr) == (4, True)


def test_conflicting_changes_name_both(kiln: Kiln) -> None:
    make(kiln, "./first")
    make(kiln, "./second")
    done = kiln.run("patch", GOOD, "--no-probes", "--change=./first", "--change=./second")
    assert (done.code, "second and first" in done.stderr) == (4, True), done.stderr


def test_change_from_commits_has_a_patch_per_commit(kiln: Kiln) -> None:
    work = kiln.here / "work"
    subprocess.run(["git", "clone", "-q", str(kiln.repository), str(work)], check=True)
    git(work, "checkout", "-q", GOOD)
    for number, path in enumerate((WRITABLE, ADAPTERS), 1):
        file = work / path
        file.write_text(f"// {number}\n{file.read_text()}")
        git(work, "commit", "-q", "-a", "-m", f"Number {number}\n\nWhy {number}.")
    done = kiln.run("change", "new", "./own", "--from-git", "work", f"{GOOD}..HEAD")
    assert done.code == 0, done.stderr
    names = sorted(file.name for file in (kiln.here / "own").glob("*.patch"))
    assert names == ["0001-number-1.patch", "0002-number-2.patch"]
    assert "Why 1." in (kiln.here / "own" / names[0]).read_text()
    empty = kiln.run("change", "new", "./none", "--from-git", "work", "HEAD..HEAD", f"--tag={GOOD}")
    assert (empty.code, (kiln.here / "none").exists()) == (2, False)


def test_change_from_tree_has_only_the_edits_by_hand(built: Kiln) -> None:
    file = built.source() / WRITABLE
    file.write_text(file.read_text().replace("'use strict';", "'use strict';\n// by hand"))
    (built.source() / "lib" / "added.js").write_text("1;\n")
    done = built.run("change", "new", "./own", "--from-tree", GOOD)
    assert done.code == 0, done.stderr
    shown = json.loads(built.run("change", "show", "./own", "--format=json").stdout)
    assert shown["patches"][0]["paths"] == ["lib/added.js", WRITABLE]
    patched = built.run("patch", GOOD, "--no-probes", "--change=./own").stdout
    assert (patched.count("\n+// by hand"), "state.errored" in patched) == (1, False)


def test_tree_without_edits_is_refused(built: Kiln) -> None:
    done = built.run("change", "new", "./own", "--from-tree", GOOD)
    assert (done.code, (built.here / "own").exists()) == (4, False)


def test_name_makes_the_folder_that_other_commands_find(kiln: Kiln) -> None:
    environment = {"NODEKILN_PATCHES": str(kiln.folder / "mine")}
    (kiln.here / "x.diff").write_text(DIFF)
    done = kiln.run("change", "new", "own", "--from-diff=x.diff", f"--tag={GOOD}", env=environment)
    assert done.stdout.strip() == str(kiln.folder / "mine" / "own"), done.stderr
    listed = json.loads(kiln.run("change", "list", "--format=json", env=environment).stdout)
    assert ("own", "Declare with let.") in [(row["name"], row["summary"]) for row in listed]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("./own", f"--tag={GOOD}"), 2),
        (("./own", "--from-diff=x.diff"), 2),
        (("./own", "--from-diff=missing.diff", f"--tag={GOOD}"), 2),
        (("./Own", "--from-diff=x.diff", f"--tag={GOOD}"), 2),
        (("./here", "--from-diff=x.diff", f"--tag={GOOD}"), 2),
        (("./own", "--from-diff=x.diff", "--tag=v20.2.6"), 4),
        (("./own", "--from-git=.", "A..B"), 2),
        (("./own", "--from-git=."), 2),
        (("./own", f"--from-tree={GOOD}"), 6),
    ],
)
def test_refused_change_writes_nothing(kiln: Kiln, words: tuple[str, ...], code: int) -> None:
    (kiln.here / "x.diff").write_text(DIFF)
    (kiln.here / "here").mkdir()
    done = kiln.run("change", "new", *words)
    assert (done.code, "Traceback" in done.stderr) == (code, False), done.stderr
    assert sorted(path.name for path in kiln.here.iterdir()) == ["here", "x.diff"]


def test_folder_with_a_link_is_refused(kiln: Kiln) -> None:
    folder = make(kiln)
    (folder / "0001-declare-with-let.patch").rename(kiln.here / "elsewhere.patch")
    (folder / "0001-declare-with-let.patch").symlink_to(kiln.here / "elsewhere.patch")
    done = kiln.run("change", "check", "./own")
    assert (done.code, "symbolic link" in done.stderr) == (4, True)


@pytest.mark.parametrize("words", [("change",), ("change", "nwe"), ("patch", GOOD, "--change=./none")])
def test_unknown_subcommand_or_folder_is_a_usage_error(kiln: Kiln, words: tuple[str, ...]) -> None:
    assert kiln.run(*words).code == 2


def test_completion_offers_subcommands_and_changes(kiln: Kiln) -> None:
    assert "new" in kiln.run("--complete", "--", "change", "").stdout.split()
    assert kiln.run("--complete", "--", "change", "show", "us").stdout.split() == ["usdt"]
    assert kiln.run("--complete", "--", "chang").stdout.split() == ["change"]
