"""A user's own change: a folder of two files, and every command knows it without a changed line of Python."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodekiln.binaries.selfcheck import check_changes
from nodekiln.changes.registry import FILE, Registry
from nodekiln.core.errors import CheckError
from nodekiln.pipelines.inspect import inspect
from tests.change_folders import PATCHES
from tests.integration.grafts.desk import ADAPTERS, NEEDS_GCC, WRITABLE, Desk, compile_node, manifest

if TYPE_CHECKING:
    from tests.integration.conftest import Done, Kiln

TAG, WRITABLE_PATH = "v20.1.0", "lib/internal/streams/writable.js"
HEAD = """\
name = "third"
summary = "declares a variable with let"
why = "Proves that a change needs no Python."
tags = ">=20,!=20.3.*"

[[patch]]
file = "let.patch"
tags = ">=20,!=20.3.*"
why = "The line is the same in all of them."
"""


def write_change(folder: Path, below: str, more: str = "", head: str = HEAD) -> Path:
    """Write the change for sources that have the line `below` after the edited one; return its parent."""
    home = folder / "changes" / "third"
    home.mkdir(parents=True)
    (home / FILE).write_text(head + more)
    (home / "let.patch").write_text(
        "Subject: Declare with let\n\nBecause.\n\n"
        f"diff --git a/{WRITABLE_PATH} b/{WRITABLE_PATH}\n--- a/{WRITABLE_PATH}\n+++ b/{WRITABLE_PATH}\n"
        "@@ -4,2 +4,2 @@\n"
        "-  const ret = state.length < state.highWaterMark;\n"
        f"+  let ret = state.length < state.highWaterMark;\n {below}\n"
    )
    return home.parent


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a release in miniature and a folder to graft it in."""
    folder = tmp_path / "release"
    folder.mkdir()
    return Desk(tmp_path, compile_node(folder, WRITABLE, b"'use strict';\n", ADAPTERS), io.StringIO())


def run(kiln: Kiln, *words: str, more: str = "", head: str = HEAD) -> Done:
    """Run a command that has the change; write its folder at the first call."""
    changes = kiln.folder / "changes"
    if not changes.exists():
        write_change(kiln.folder, "  if (!ret)", more, head)
    return kiln.run(*words, env={"NODEKILN_PATCHES": str(changes)})


def test_patch_with_third_change_prints_its_edit(kiln: Kiln) -> None:
    done = run(kiln, "patch", TAG, "--no-probes", "--change=third")
    assert (done.code, done.stdout.count("\n+  let ret")) == (0, 1), done.stderr


def test_patch_joins_third_change_and_no_backpressure(kiln: Kiln) -> None:
    done = run(kiln, "patch", TAG, "--no-probes", "--no-backpressure", "--change=third")
    assert done.code == 0, done.stderr
    assert (done.stdout.count("\n+  let ret"), done.stdout.count("\n+  return !state.errored")) == (1, 1)


def test_verify_combines_third_change_with_the_others(kiln: Kiln) -> None:
    words = ("verify", TAG, "--change=third", "--recipe=third,no-backpressure-third", "--format=json")
    done = run(kiln, *words)
    assert done.code == 0, done.stdout + done.stderr
    assert "no-backpressure-third" in done.stdout


def test_build_list_and_manifest_know_third_change(kiln: Kiln) -> None:
    done = run(kiln, "build", TAG, "--no-probes", "--change=third")
    assert done.code == 0, done.stderr
    name = f"{TAG}-third"
    assert done.stdout.strip() == str(kiln.build / "binaries" / name / "node")
    listed: list[dict[str, Any]] = json.loads(run(kiln, "list", "--format=json").stdout)
    assert [row["name"] for row in listed] == [name]
    facts = listed[0]["manifest"]
    change = Registry((kiln.folder / "changes",)).get("third")
    assert facts["changes"] == [{"name": "third", "sha256": change.sha256}]
    config = (kiln.source() / "config.gypi").read_text()
    assert '"nodekiln_changes": "third"' in config
    assert f'"nodekiln_hashes": "{change.sha256[:16]}"' in config
    assert [file["path"] for file in facts["planned"]] == [WRITABLE_PATH]
    again = run(kiln, "build", TAG, "--no-probes", "--change=third")
    assert again.stdout == done.stdout
    assert kiln.ran() == ["configure --ninja", "pack"]


@pytest.mark.parametrize("task", ["build", "patch", "graft", "verify"])
def test_help_lists_third_change(kiln: Kiln, task: str) -> None:
    assert "third" in run(kiln, task, "--help").stdout


def test_completion_offers_third_change(kiln: Kiln) -> None:
    done = run(kiln, "--complete", "--", "build", "--change", "")
    assert done.stdout.split() == ["no-backpressure", "third", "usdt"]


def test_tag_outside_of_the_range_is_refused_with_exit_code_4(kiln: Kiln) -> None:
    done = run(kiln, "patch", "v20.3.9", "--no-probes", "--change=third")
    assert (done.code, "third" in done.stderr, "v20.3.9" in done.stderr) == (4, True, True)
    verified = run(kiln, "verify", "v20.3.9", "--recipe=third")
    assert (verified.code, "not served" in verified.stdout) == (0, True)


def test_option_that_configure_lacks_is_refused_with_exit_code_4(kiln: Kiln) -> None:
    head = HEAD.replace("\n[[patch]]", 'configure = { args = ["--with-third"] }\n\n[[patch]]')
    done = run(kiln, "build", TAG, "--no-probes", "--change=third", head=head)
    assert (done.code, "--with-third" in done.stderr, "third" in done.stderr) == (4, True, True)


def test_option_that_configure_has_is_passed(kiln: Kiln) -> None:
    head = HEAD.replace("\n[[patch]]", 'configure = { args = ["--shared-zlib"] }\n\n[[patch]]')
    done = run(kiln, "build", TAG, "--no-probes", "--change=third", head=head)
    assert done.code == 0, done.stderr
    assert kiln.ran()[0] == "configure --ninja --shared-zlib"


def test_conflict_with_another_change_names_both(kiln: Kiln) -> None:
    head = HEAD.replace("\n[[patch]]", 'conflicts = ["no-backpressure"]\n\n[[patch]]')
    done = run(kiln, "patch", TAG, "--no-probes", "--no-backpressure", "--change=third", head=head)
    assert (done.code, "no-backpressure and third" in done.stderr) == (4, True)


def test_binary_that_fails_the_check_of_a_change_is_not_published(kiln: Kiln) -> None:
    done = run(kiln, "build", TAG, "--no-probes", "--change=third", more='[check.prints]\n"1 + 1" = "3"\n')
    assert (done.code, "third" in done.stderr, "1 + 1" in done.stderr) == (7, True, True)
    assert not (kiln.build / "binaries" / f"{TAG}-third").exists()


@pytest.mark.parametrize("code", [0, 3])
def test_check_script_must_exit_with_0(tmp_path: Path, code: int) -> None:
    head = HEAD.replace("[[patch]]", '[check]\nscript = "check.js"\n\n[[patch]]')
    folder = write_change(tmp_path, "  if (!ret)", head=head)
    (folder / "third" / "check.js").write_text(f"echo because; exit {code}\n")  # sh takes Node's place
    change = Registry((folder,)).get("third")
    if code == 0:
        check_changes((change,), Path("/bin/sh"), {})
        return
    with pytest.raises(CheckError, match="exit code 3") as raised:
        check_changes((change,), Path("/bin/sh"), {})
    assert "because" in raised.value.message


def test_expected_failures_are_shown_with_their_reasons(kiln: Kiln) -> None:
    more = '[failing_tests]\n"parallel/test-stream-x" = "It waits for drain."\n'
    done = run(kiln, "change", "show", "third", more=more)
    assert (done.code, "parallel/test-stream-x: It waits for drain." in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ('[failing_tests]\n"../x" = "w"\n', "../x"),
        ('[failing_tests]\n"parallel/test-x" = ""\n', "no reason"),
        ('[check]\nscript = "missing.js"\n', "missing.js"),
        ('[check]\nscript = "../third/let.patch"\n', "let.patch"),
    ],
)
def test_invalid_tests_and_scripts_are_refused(kiln: Kiln, more: str, fact: str) -> None:
    done = run(kiln, "change", "check", "third", more=more)
    assert (done.code, fact in done.stderr) == (4, True)


def test_unknown_change_is_a_usage_error(kiln: Kiln) -> None:
    done = run(kiln, "patch", TAG, "--change=thrd")
    assert (done.code, "third" in done.stderr) == (2, True)


@NEEDS_GCC
def test_graft_and_inspect_know_third_change(tmp_path: Path, desk: Desk) -> None:
    changes = write_change(tmp_path, "  return ret && !state.errored;")
    environment = {"NODEKILN_PATCHES": str(changes)}
    made = desk.graft(backpressure=True, probes=False, more=("third",), environment=environment)
    assert made.parent.name == "v22.20.0-third-graft" or made.parents[1].name == "v22.20.0-third-graft"
    assert WRITABLE.replace(b"  const ret", b"  let ret").split(b"\n")[3] in made.read_bytes()
    found = inspect(made, Registry((PATCHES, changes)))
    assert (found.recipe, found.changes, found.backpressure) == ("v22.20.0-third-graft", ("third",), True)
    assert found.hashes == (Registry((changes,)).get("third").sha256[:16],)
    assert f"third ({found.hashes[0]})" in "\n".join(found.lines())
    facts: Any = manifest(made)
    assert [change["name"] for change in facts["changes"]] == ["third"]
