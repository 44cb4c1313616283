"""Builds of the miniature Node: published files, rebuilds, errors, interrupts, and the other tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

PROGRAM = Path(__file__).resolve().parents[2] / "src" / "nodekiln" / "__main__.py"
TAG = "v20.1.0"
FREE = "v20.1.0-no-backpressure"
STOCK_BUILD = ("build", f"--tag={TAG}", "--no-probes")
FREE_BUILD = (*STOCK_BUILD, "--no-backpressure")
WRITABLE = "lib/internal/streams/writable.js"
ADAPTERS = "lib/internal/webstreams/adapters.js"
LINKED = {"out/Release/node", "out/Release/.ninja_log"}
"""Files that a link rewrites."""


# Published files


def test_first_build_prints_the_path_only(kiln: Kiln) -> None:
    done = kiln.run(*FREE_BUILD)
    assert (done.code, done.stdout) == (0, f"{kiln.build}/binaries/{FREE}/node\n")


def test_published_folder_has_all_files(built: Kiln) -> None:
    folder = _binary(built).parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "include",
        "manifest.json",
        "node",
        "patch.diff",
    ]
    assert (folder / "include" / "node" / "node.h").is_file()
    assert _names(folder.parent) == [FREE]


def test_published_binary_matches_its_recipe(built: Kiln) -> None:
    binary = _binary(built)
    facts = json.loads((binary.parent / "manifest.json").read_text())
    answer = json.loads(subprocess.run([binary], stdout=subprocess.PIPE, check=True).stdout)
    assert answer["recipe"] == facts["name"] == FREE
    assert answer["plan"] == facts["plan"]
    assert answer["paths"]["write()"]["unbounded"] is facts["self_check"]["write_answers"] is True
    assert answer["version"] == facts["tag"] == TAG


def test_manifest_has_the_inputs_of_the_build(built: Kiln, tiny_node: Path) -> None:
    facts = json.loads((_binary(built).parent / "manifest.json").read_text())
    assert facts["commit"] == _git(tiny_node, "rev-parse", f"{TAG}^{{commit}}")
    assert facts["repository"] == str(tiny_node)
    assert [planned["path"] for planned in facts["planned"]] == [WRITABLE, ADAPTERS]
    assert facts["config"] == {"asan": 0, "node_shared_zlib": "false"}
    assert facts["toolchain"]["generator"] == "ninja"
    assert facts["steps"] == 2


@pytest.mark.slow
def test_published_patch_applies_to_the_tag(kiln: Kiln, tiny_node: Path, tmp_path: Path) -> None:
    folder = _made(kiln, *FREE_BUILD).parent
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "--quiet", f"--branch={TAG}", tiny_node, work], check=True, stderr=-3)
    subprocess.run(["git", "apply", folder / "patch.diff"], cwd=work, check=True)
    for path in (WRITABLE, ADAPTERS):
        assert (work / path).read_bytes() == (kiln.source() / path).read_bytes()


@pytest.mark.slow
def test_stock_build_has_an_empty_patch_and_backpressure(kiln: Kiln) -> None:
    folder = _made(kiln, *STOCK_BUILD).parent
    assert folder.name == TAG
    assert (folder / "patch.diff").read_bytes() == b""
    assert json.loads((folder / "manifest.json").read_text())["self_check"]["write_answers"] is False


@pytest.mark.slow
def test_build_without_ninja_uses_make(kiln: Kiln) -> None:
    binary = _made(kiln, *FREE_BUILD, env={"PATH": kiln.path("ninja")})
    facts = json.loads((binary.parent / "manifest.json").read_text())
    assert (facts["toolchain"]["generator"], facts["steps"]) == ("make", 2)


# Rebuilds


def test_existing_binary_is_not_rebuilt(built: Kiln) -> None:
    first = _binary(built)
    before = _stamps(built.build / "trees"), _stamps(built.build / "binaries")
    done = built.run(*FREE_BUILD)
    assert (done.code, done.stdout) == (0, f"{first}\n")
    assert f"{FREE} already exists" in done.stderr
    assert (_stamps(built.build / "trees"), _stamps(built.build / "binaries")) == before


@pytest.mark.slow
def test_force_runs_changed_steps_only(built: Kiln) -> None:
    before = built.ran()
    done = built.run(*FREE_BUILD, "--force")
    assert done.code == 0
    assert "compile: 0 steps" in done.stderr
    assert built.ran() == before


@pytest.mark.slow
def test_from_scratch_builds_in_an_empty_out(built: Kiln) -> None:
    (built.source() / "out" / "stale").touch()
    done = built.run(*FREE_BUILD, "--from-scratch")
    assert done.code == 0
    assert not (built.source() / "out" / "stale").exists()
    assert built.ran() == ["configure --ninja", "pack", "configure --ninja", "pack"]


@pytest.mark.slow
def test_other_recipe_writes_planned_files_only(built: Kiln) -> None:
    free = _stamps(built.source())
    _made(built, *STOCK_BUILD)
    stock = _stamps(built.source())
    _made(built, *FREE_BUILD, "--force")
    planned = {WRITABLE, ADAPTERS, "config.gypi", "ran.txt"}
    for before, after in ((free, stock), (stock, _stamps(built.source()))):
        assert {path for path in after if after[path] != before.get(path)} - LINKED == planned


@pytest.mark.slow
def test_other_recipe_does_not_run_configure(built: Kiln) -> None:
    _made(built, *STOCK_BUILD)
    _made(built, *FREE_BUILD, "--force")
    assert built.ran() == ["configure --ninja", "pack", "pack", "pack"]


@pytest.mark.slow
def test_other_configure_arguments_use_another_tree(built: Kiln) -> None:
    binary = _made(built, *FREE_BUILD, "--configure-args=--shared-zlib", "--name=shared")
    assert binary.parent.name == f"{FREE}-shared"
    facts = json.loads((binary.parent / "manifest.json").read_text())
    assert facts["config"]["node_shared_zlib"] == "true"
    assert built.ran() == ["configure --ninja", "pack"]
    [other] = set(_names(built.build / "trees")) - {TAG}
    assert built.ran(other) == ["configure --ninja --shared-zlib", "pack"]


@pytest.mark.slow
def test_other_compiler_runs_configure(built: Kiln) -> None:
    done = built.run(*FREE_BUILD, env={"CXX": "g++ -g"})
    assert done.code == 0
    assert f"{FREE} is rebuilt: it was made by another compiler" in done.stderr
    assert built.ran().count("configure --ninja") == 2


@pytest.mark.slow
def test_changed_cflags_rebuild(built: Kiln) -> None:
    with_flags = built.run(*FREE_BUILD, env={"CFLAGS": "-DX=1"})
    assert f"{FREE} is rebuilt: it was made with no flags" in with_flags.stderr
    assert json.loads((_binary(built).parent / "manifest.json").read_text())["toolchain"]["environment"] == (
        "CFLAGS=-DX=1"
    )
    same = built.run(*FREE_BUILD, env={"CFLAGS": "-DX=1"})
    assert f"{FREE} already exists" in same.stderr
    without = built.run(*FREE_BUILD)
    assert "is rebuilt: it was made with CFLAGS=-DX=1, and now has none" in without.stderr


@pytest.mark.slow
def test_changed_search_paths_recompile_all_objects(built: Kiln) -> None:
    left = built.source() / "out" / "Release" / "object.o"
    left.touch()
    there = built.run(*FREE_BUILD)
    assert f"{FREE} already exists" in there.stderr
    other = built.run(*FREE_BUILD, env={"CPATH": "/somewhere"})
    assert f"{FREE} is rebuilt: it was made with no flags, and now has CPATH=/somewhere" in other.stderr
    assert "out/ is cleared" in other.stderr
    assert not left.exists()
    left.touch()
    same = built.run(*FREE_BUILD, "--force", env={"CPATH": "/somewhere"})
    assert "out/ is cleared" not in same.stderr
    assert left.exists()


@pytest.mark.slow
def test_binary_with_unknown_flags_is_rebuilt(built: Kiln) -> None:
    manifest = _binary(built).parent / "manifest.json"
    facts = json.loads(manifest.read_text())
    del facts["toolchain"]["environment"]
    manifest.write_text(json.dumps(facts))
    assert "does not record the compiler flags" in built.run(*FREE_BUILD).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "words"),
    [({}, ["--shared-zlib"]), ({"CC": "gcc -g"}, []), ({"CC": "gcc -g"}, ["--shared-zlib"])],
    ids=["other arguments", "another compiler", "both"],
)
def test_configure_run_by_hand_is_reverted(built: Kiln, variables: dict[str, str], words: list[str]) -> None:
    ours = (built.source() / "out/Release/build.ninja").read_bytes()
    argv = ["./configure", "--ninja", *words]
    subprocess.run(argv, cwd=built.source(), env=built.environment(variables), check=True)
    done = built.run(*FREE_BUILD, "--force")
    assert "as by a configure run by hand" in done.stderr
    assert (built.source() / "out/Release/build.ninja").read_bytes() == ours
    assert built.ran().count("configure --ninja") >= 2


@pytest.mark.slow
def test_same_configure_run_by_hand_is_kept(built: Kiln) -> None:
    subprocess.run(["./configure", "--ninja"], cwd=built.source(), env=built.environment(), check=True)
    assert built.run(*FREE_BUILD, "--force").code == 0
    assert built.ran() == ["configure --ninja", "pack", "configure --ninja", "pack"]


@pytest.mark.slow
def test_make_for_another_recipe_does_not_run_configure(kiln: Kiln) -> None:
    env = {"PATH": kiln.path("ninja")}
    _made(kiln, *FREE_BUILD, env=env)
    _made(kiln, *STOCK_BUILD, env=env)
    assert kiln.ran() == ["configure", "pack", "pack"]


@pytest.mark.slow
def test_configure_arguments_of_the_checkout_are_not_in_the_name(kiln: Kiln, tmp_path: Path) -> None:
    (tmp_path / "arguments").write_text("# for all builds\n--shared-zlib\n")
    binary = _made(kiln, *FREE_BUILD, env={"NODEKILN_CONFIGURE_FILE": str(tmp_path / "arguments")})
    facts = json.loads((binary.parent / "manifest.json").read_text())
    assert (facts["name"], facts["configure_args"]) == (FREE, ["--shared-zlib"])


@pytest.mark.slow
def test_modified_binary_is_rebuilt(built: Kiln) -> None:
    binary = _binary(built)
    made = binary.read_bytes()
    binary.write_bytes(made + b"# changed\n")
    done = built.run(*FREE_BUILD)
    assert done.code == 0
    assert "the file was changed since it was made" in done.stderr
    assert binary.read_bytes() == made


# Errors, and how builds continue


@pytest.mark.slow
def test_moved_tag_is_an_error_until_accepted(kiln: Kiln, tiny_node: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.git"
    subprocess.run(["git", "clone", "--quiet", "--mirror", tiny_node, own], check=True)
    build = (*FREE_BUILD, f"--repository={own}")
    binary = _made(kiln, *build)
    made = binary.read_bytes()
    _git(own, "tag", "--force", TAG, _git(own, "commit-tree", f"{TAG}^{{tree}}", "-m", "again"))
    stopped = kiln.run(*build)
    assert (stopped.code, stopped.stdout) == (6, "")
    assert "--accept-moved-tag" in stopped.stderr
    assert binary.read_bytes() == made
    done = kiln.run(*build, "--accept-moved-tag", "--dry-run")
    assert done.code == 0
    assert "the tag's commit was" in done.stderr


@pytest.mark.slow
def test_edit_by_hand_is_kept_until_discarded(built: Kiln) -> None:
    edited = built.source() / "src" / "main.c"
    before = edited.read_bytes()
    edited.write_bytes(before + b"// mine\n")
    stopped = built.run(*FREE_BUILD, "--force")
    assert (stopped.code, stopped.stdout) == (6, "")
    assert "src/main.c" in stopped.stderr
    assert edited.read_bytes() == before + b"// mine\n"
    assert built.run(*FREE_BUILD, "--force", "--discard-edits").code == 0
    assert edited.read_bytes() == before


@pytest.mark.slow
def test_file_added_by_hand_is_not_built(built: Kiln) -> None:
    added = built.source() / "lib" / "internal" / "handmade.js"
    added.write_text("// mine\n")
    stopped = built.run(*FREE_BUILD, "--force")
    assert (stopped.code, stopped.stdout) == (6, "")
    assert "lib/internal/handmade.js (added)" in stopped.stderr
    assert "--discard-edits" in stopped.stderr
    assert added.exists()
    assert built.run(*FREE_BUILD, "--force", "--discard-edits").code == 0
    assert not added.exists()


@pytest.mark.slow
def test_published_binary_is_the_checked_one(built: Kiln) -> None:
    copied = built.folder / "checked"
    output = built.source() / "out/Release/node"
    output.write_text(f'#!/bin/sh\necho "$0" >{copied}\nexec {_binary(built)} "$@"\n')
    assert built.run(*FREE_BUILD, "--force").code == 0
    assert copied.read_text().startswith(str(built.build / "binaries"))


@pytest.mark.parametrize("word", ["--debug", "--shared", "--dest-os=mac", "--cross", "--dest-cpu=arm64"])
def test_unsupported_configure_argument_is_an_error_before_anything_runs(kiln: Kiln, word: str) -> None:
    done = kiln.run(*FREE_BUILD, f"--configure-args={word}")
    assert (done.code, done.stdout) == (2, "")
    assert f"--configure-args: {word} can't be built with" in done.stderr
    assert not kiln.build.exists()


@pytest.mark.slow
def test_failed_build_keeps_the_existing_binary(built: Kiln) -> None:
    binary = _binary(built)
    made = binary.read_bytes()
    done = built.run(*FREE_BUILD, "--from-scratch", env={"PATH": _without_pack(built)})
    assert (done.code, done.stdout) == (5, "")
    assert f"The whole log: {built.build}/trees/{TAG}/build.log" in done.stderr
    assert binary.read_bytes() == made
    assert _names(built.build / "binaries") == [FREE]


@pytest.mark.slow
def test_unfinished_configure_runs_again(built: Kiln) -> None:
    (built.build / "trees" / TAG / "configured.json").unlink()
    assert built.run(*FREE_BUILD, "--force").code == 0
    assert built.ran() == ["configure --ninja", "pack", "configure --ninja", "pack"]


def test_dry_run_writes_neither_tree_nor_binary(kiln: Kiln) -> None:
    done = kiln.run(*FREE_BUILD, "--dry-run", "--jobs=3")
    assert (done.code, done.stdout) == (0, "")
    for text in (f"would make   {kiln.build}/binaries/{FREE}/node", WRITABLE, "./configure --ninja", "-j 3"):
        assert text in done.stderr
    assert not (kiln.build / "trees").exists()
    assert not (kiln.build / "binaries").exists()


@pytest.mark.slow
def test_full_disk_while_compiling_is_a_build_error(built: Kiln) -> None:
    other = ("build", f"--tag={TAG}", "--no-probes")
    log = built.source().parent / "build.log"
    log.unlink()
    log.symlink_to("/dev/full")
    done = built.run(*other)
    assert done.code == 5
    assert f"error: The disk is full: writing {log} failed." in done.stderr
    log.unlink()
    assert built.run(*other).code == 0


# Interrupts and locks


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_build_ends_its_children_and_can_be_resumed(kiln: Kiln, number: signal.Signals) -> None:
    child, compiler = _paused(kiln)
    child.send_signal(number)
    assert child.wait(30) == 130
    _, stderr = child.communicate()
    assert stderr.endswith("error: interrupted; the same command continues where this one stopped.\n")
    assert "Traceback" not in stderr
    assert _has_ended(compiler)
    assert not list(kiln.build.glob("locks/*.holder.json"))
    assert kiln.run(*FREE_BUILD).code == 0


@pytest.mark.slow
def test_interrupt_from_a_terminal_ends_a_build(kiln: Kiln) -> None:
    child, compiler = _paused(kiln)
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(30) == 130
    child.communicate()
    assert _has_ended(compiler)


@pytest.mark.slow
def test_killed_build_can_be_resumed(kiln: Kiln) -> None:
    child, compiler = _paused(kiln)
    child.kill()
    child.communicate()
    compiler.kill()  # nobody was left to end it
    assert kiln.run(*FREE_BUILD).code == 0
    assert _names(kiln.build / "binaries") == [FREE]
    assert kiln.ran() == ["configure --ninja", "pack", "pack"]


@pytest.mark.slow
def test_second_of_two_builds_waits_and_uses_the_binary_of_the_first(kiln: Kiln) -> None:
    first, _ = _paused(kiln)
    second = kiln.start(*FREE_BUILD)
    assert second.stderr is not None
    line = next(each for each in second.stderr if each.startswith("waiting"))
    assert line.startswith(f"waiting for process {first.pid} (building {FREE})")
    (kiln.folder / "paused.go").touch()
    made, _ = first.communicate(timeout=30)
    found, rest = second.communicate(timeout=30)
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"{FREE} already exists" in rest
    assert found == made
    assert kiln.ran().count("pack") == 1


@pytest.mark.slow
def test_build_that_waited_uses_the_linker_of_the_tree(kiln: Kiln) -> None:
    linkers = kiln.folder / "linkers"
    linkers.mkdir()
    (linkers / "ld.bfd").symlink_to(kiln.programs / "ld")
    first, _ = _paused(kiln)
    path = f"{linkers}{os.pathsep}{kiln.path()}"
    second = kiln.start("build", f"--tag={TAG}", "--no-probes", env={"PATH": path})
    assert second.stderr is not None
    assert any(line.startswith("waiting") for line in second.stderr)
    configured = kiln.source().parent / "configured.json"
    configured.write_text(json.dumps({**json.loads(configured.read_text()), "linker": "bfd"}))
    (kiln.folder / "paused.go").touch()
    first.communicate(timeout=30)
    made, stderr = second.communicate(timeout=30)
    assert second.returncode == 0, stderr
    manifest = json.loads((Path(made.strip()).parent / "manifest.json").read_text())
    assert manifest["toolchain"]["linker"] == "bfd"


# The environment of child processes


@pytest.mark.slow
def test_git_variables_of_the_caller_are_ignored(kiln: Kiln, tmp_path: Path) -> None:
    env = {"GIT_DIR": str(tmp_path / "elsewhere"), "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": "/nowhere/index"}
    assert kiln.run(*FREE_BUILD, env=env).code == 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_environment_of_nodekiln_is_hidden_from_configure(kiln: Kiln) -> None:
    own = Path(sys.prefix) / "bin"
    env = {"VIRTUAL_ENV": sys.prefix, "PATH": os.pathsep.join((str(own), kiln.path())), "EDITOR": "ed"}
    assert kiln.run(*FREE_BUILD, env=env).code == 0
    seen = json.loads((kiln.source() / "environment.json").read_text())
    assert str(own) not in seen["PATH"].split(os.pathsep)
    assert seen["EDITOR"] == "ed"
    assert not [name for name in seen if name.startswith(("PYTHON", "NODEKILN_", "VIRTUAL_ENV"))]


@pytest.mark.slow
def test_node_options_are_hidden_from_the_self_check(kiln: Kiln) -> None:
    assert kiln.run(*FREE_BUILD, env={"NODE_OPTIONS": "--max-old-space-size=1"}).code == 0


@pytest.mark.slow
def test_clean_env_hides_flags_from_configure(kiln: Kiln) -> None:
    assert kiln.run(*FREE_BUILD, "--clean-env", env={"CFLAGS": "-O0"}).code == 0
    assert "CFLAGS" not in json.loads((kiln.source() / "environment.json").read_text())


# The other tasks


def test_patch_prints_a_diff_and_touches_no_tree(kiln: Kiln) -> None:
    done = kiln.run("patch", f"--tag={TAG}", "--no-backpressure", "--no-probes")
    assert done.code == 0
    assert done.stdout.startswith(f"diff --git a/{WRITABLE} b/{WRITABLE}\n")
    assert "+  return !state.errored && !state.destroyed;\n" in done.stdout
    assert not (kiln.build / "trees").exists()


@pytest.mark.slow
def test_closed_stdout_is_no_error(kiln: Kiln) -> None:
    for words in (("patch", f"--tag={TAG}", "--no-backpressure"), ("list", "--format=json")):
        child = kiln.start(*words)
        assert child.stdout is not None
        child.stdout.close()
        child.wait(30)
        assert child.stderr is not None
        with child.stderr as stderr:
            output = stderr.read()
        assert "Traceback" not in output
        assert "Exception" not in output


def test_list_and_path_print_binaries(built: Kiln) -> None:
    binary = _binary(built)
    assert built.run("path", FREE).stdout == f"{binary}\n"
    table = built.run("list").stdout.splitlines()
    assert table[0].split()[:3] == ["name", "size", "made"]
    assert table[1].startswith(FREE)
    [row] = json.loads(built.run("list", "--format=json").stdout)
    assert (row["name"], row["path"], row["trouble"]) == (FREE, str(binary), None)
    assert row["manifest"]["self_check"]["write_answers"] is True


def test_list_reports_a_damaged_manifest(built: Kiln) -> None:
    (_binary(built).parent / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in built.run("list").stdout


@pytest.mark.parametrize(
    ("env", "begins"),
    [
        ({"TERM": "xterm"}, b"\x1b[1;31merror: "),
        ({"TERM": "xterm", "NO_COLOR": "1"}, b"\x1b[1merror: "),
        ({"TERM": "dumb"}, b"error: "),
    ],
)
def test_colors_on_a_terminal(kiln: Kiln, env: dict[str, str], begins: bytes) -> None:
    ours, theirs = os.openpty()
    argv = [sys.executable, str(PROGRAM), "build", "--tag=x"]
    subprocess.run(argv, env=kiln.environment(env), stderr=theirs, check=False)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        assert terminal.read(1000).startswith(begins)


@pytest.mark.slow
def test_output_to_a_pipe_has_no_color(kiln: Kiln) -> None:
    env = {"TERM": "xterm"}
    refused = kiln.run("build", "--tag=x", env=env)
    shown = kiln.run("patch", f"--tag={TAG}", "--no-backpressure", env=env)
    assert "\x1b" not in refused.stderr + shown.stdout + shown.stderr


def test_doctor_on_a_working_machine_finds_nothing(kiln: Kiln) -> None:
    done = kiln.run("doctor", f"--tag={TAG}")
    assert done.code == 0
    assert f"nothing prevents a build of {TAG}" in done.stdout
    assert not (kiln.build / "trees").exists()


@pytest.mark.slow
def test_doctor_reports_problems_as_text_and_json(kiln: Kiln) -> None:
    env = {"CXX": "g++-99"}
    text, as_json = kiln.run("doctor", env=env), kiln.run("doctor", "--format=json", env=env)
    assert (text.code, as_json.code) == (3, 3)
    assert "CXX is 'g++-99'" in text.stdout
    data = json.loads(as_json.stdout)
    assert (data["tag"], data["ok"]) == (None, False)
    assert ("CXX", "error") in {(found["subject"], found["severity"]) for found in data["findings"]}


@pytest.mark.slow
def test_clean_of_a_tag_requires_confirmation(built: Kiln) -> None:
    _made(built, "build", "--tag=v20.1.1", "--no-probes")
    tried = built.run("clean", f"--tag={TAG}", "--dry-run")
    assert tried.code == 0
    assert "would remove" in tried.stderr
    assert _names(built.build / "binaries") == [FREE, "v20.1.1"]
    assert built.run("clean", f"--tag={TAG}", "--yes").code == 0
    assert _names(built.build / "binaries") == _names(built.build / "trees") == ["v20.1.1"]


def test_clean_can_keep_binaries(built: Kiln) -> None:
    binary = _binary(built)
    assert built.run("clean", "--no-binaries", "--yes").code == 0
    assert binary.is_file()
    assert _names(built.build / "trees") == []


@pytest.mark.slow
def test_imported_tarball_is_built_without_a_repository(kiln: Kiln, tiny_node: Path) -> None:
    tarball = kiln.here / f"node-{TAG}.tar.gz"
    argv = ["git", "--git-dir", str(tiny_node), "archive", "--format=tar.gz", f"--prefix=node-{TAG}/", TAG]
    tarball.write_bytes(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    done = kiln.run("import-tarball", f"--tag={TAG}", f"--file={tarball.name}")
    assert done.code == 0
    binary = _made(kiln, *FREE_BUILD, env={"NODEKILN_REPOSITORY": None})
    assert tarball.name in json.loads((binary.parent / "manifest.json").read_text())["repository"]


def _binary(kiln: Kiln) -> Path:
    return kiln.build / "binaries" / FREE / "node"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _made(kiln: Kiln, *words: str, env: Mapping[str, str | None] | None = None) -> Path:
    done = kiln.run(*words, env=env)
    assert done.code == 0, done.stderr
    return Path(done.stdout.strip())


def _paused(kiln: Kiln) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Return a build that is compiling, and the process that compiles."""
    sign = kiln.folder / "paused"
    child = kiln.start(*FREE_BUILD, env={"TINY_PAUSE": str(sign)})
    deadline = time.monotonic() + 30
    while not sign.exists():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child, psutil.Process(int(sign.read_text()))


def _has_ended(process: psutil.Process) -> bool:
    try:
        process.wait(5)
    except psutil.TimeoutExpired:
        return False
    return True


def _without_pack(kiln: Kiln) -> str:
    """Return a PATH whose python3 fails in the last step of a build."""
    folder = kiln.folder / "failing"
    folder.mkdir()
    real = (kiln.programs / "python3").resolve()
    (folder / "python3").write_text(f'#!/bin/sh\ncase "$*" in *pack.py*) exit 1;; esac\nexec {real} "$@"\n')
    (folder / "python3").chmod(0o755)
    return f"{folder}:{kiln.path()}"


def _stamps(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def _git(repository: Path, *words: str) -> str:
    argv = ["git", "--git-dir", str(repository), *words]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
