"""A working tree follows commits and plans, and never takes somebody's edits for its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import nodekiln
from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.core.errors import SourceError
from nodekiln.core.settings import Workspace
from nodekiln.source.tree import Changes, WorkingTree

WRITABLE = "lib/internal/streams/writable.js"
SCRIPT = "tools/run me.sh"
PROBES = "src/probes/stream.d"

FILES: Mapping[str, tuple[str, bytes]] = {
    "README.md": ("100644", b"# Node\n"),
    "lib/net.js": ("100644", b"'use strict';\n"),
    WRITABLE: ("100644", b"const ret = state.length < hwm;\nreturn ret;\n"),
    SCRIPT: ("100755", b"#!/bin/sh\necho 1\n"),
    "tools/link": ("120000", b"../lib/net.js"),
    "test/two\nlines": ("100644", b"odd\n"),
    "test/ünïcode ☃.txt": ("100644", b"snow\n"),
    "test/empty": ("100644", b""),
    ":(top)/-option": ("100644", b"magic\n"),
}


@dataclass(frozen=True)
class Kiln:
    """A workspace with a mirror, to which commits can be added."""

    workspace: Workspace

    @property
    def tree(self) -> WorkingTree:
        return WorkingTree(self.workspace, "v20.19.2")

    @property
    def source(self) -> Path:
        return self.tree.source

    def commit(self, files: Mapping[str, tuple[str, bytes]]) -> str:
        stream = [b"commit refs/heads/main\ncommitter somebody <> 0 +0000\ndata 0\ndeleteall\n"]
        for path, (mode, content) in files.items():
            quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            stream.append(f'M {mode} inline "{quoted}"\ndata {len(content)}\n'.encode() + content + b"\n")
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        return self.git("rev-parse", "refs/heads/main").decode().strip()

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        argv = ["git", "--git-dir", str(self.workspace.mirror), *arguments]
        return subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, check=True).stdout

    def contents(self) -> dict[str, tuple[str, bytes]]:
        """Return everything under source in the form of FILES."""
        found = {}
        for place in self.source.rglob("*"):
            path = place.relative_to(self.source).as_posix()
            if place.is_symlink():
                found[path] = ("120000", os.fsencode(place.readlink()))
            elif place.is_file():
                found[path] = ("100755" if os.access(place, os.X_OK) else "100644", place.read_bytes())
        return found

    def stamps(self) -> dict[str, tuple[int, int]]:
        """When each file was written, and which one it is."""
        places = [place for place in self.source.rglob("*") if place.is_symlink() or place.is_file()]
        stats = {place.relative_to(self.source).as_posix(): place.lstat() for place in places}
        return {path: (told.st_mtime_ns, told.st_ino) for path, told in stats.items()}

    def touched(self, before: Mapping[str, tuple[int, int]]) -> set[str]:
        """Paths that came, went or were written since `before`."""
        after = self.stamps()
        return {path for path in {*before, *after} if before.get(path) != after.get(path)}


@pytest.fixture
def kiln(tmp_path: Path) -> Kiln:
    made = Kiln(Workspace(tmp_path / "build"))
    made.workspace.prepare()
    made.git("init", "--quiet", "--bare", "--template=", str(made.workspace.mirror))
    return made


@pytest.fixture
def stock(kiln: Kiln) -> str:
    """The commit of FILES."""
    return kiln.commit(FILES)


@pytest.fixture
def built(kiln: Kiln, stock: str) -> str:
    """The commit of FILES, which the tree holds with PLAN applied."""
    kiln.tree.bring_to(stock, PLAN)
    return stock


def changed(path: str, old: bytes, new: bytes) -> Edit:
    base = FILES[path][1]
    start = base.index(old)
    return Edit(path, base, (Span(start, start + len(old), new, "test"),))


def added(path: str, content: bytes) -> Edit:
    return Edit(path, None, (Span(0, 0, content, "test"),))


PLAN = Plan.of(
    [
        changed(WRITABLE, b"return ret;", b"return true;"),
        changed(SCRIPT, b"1", b"2"),
        added(PROBES, b"provider node {};\n"),
    ]
)
PLAN_PATHS = (WRITABLE, PROBES, SCRIPT)
PLANNED: Mapping[str, tuple[str, bytes]] = {
    **FILES,
    WRITABLE: ("100644", b"const ret = state.length < hwm;\nreturn true;\n"),
    SCRIPT: ("100755", b"#!/bin/sh\necho 2\n"),
    PROBES: ("100644", b"provider node {};\n"),
}


# From nothing, from plan to plan, from commit to commit.


def test_first_time_every_file_of_the_commit_is_checked_out(kiln: Kiln, stock: str) -> None:
    changes = kiln.tree.bring_to(stock, Plan())
    assert changes == Changes(checked_out=len(FILES))
    assert kiln.contents() == FILES


def test_first_time_with_a_plan_its_files_are_written_once(kiln: Kiln, stock: str) -> None:
    changes = kiln.tree.bring_to(stock, PLAN)
    assert changes == Changes(written=PLAN_PATHS, checked_out=len(FILES) - 2)
    assert kiln.contents() == PLANNED


def test_plan_touches_its_files_only(kiln: Kiln, stock: str) -> None:
    kiln.tree.bring_to(stock, Plan())
    before = kiln.stamps()
    assert kiln.tree.bring_to(stock, PLAN) == Changes(written=PLAN_PATHS)
    assert kiln.contents() == PLANNED
    assert kiln.touched(before) == set(PLAN_PATHS)


def test_back_to_stock_restores_and_removes_what_the_plan_did(kiln: Kiln, built: str) -> None:
    before = kiln.stamps()
    assert kiln.tree.bring_to(built, Plan()) == Changes(restored=(WRITABLE, SCRIPT), removed=(PROBES,))
    assert kiln.contents() == FILES
    assert kiln.touched(before) == set(PLAN_PATHS)
    assert not (kiln.source / "src").exists()


def test_from_plan_to_plan_only_files_that_differ_are_written(kiln: Kiln, built: str) -> None:
    before = kiln.stamps()
    other = Plan((changed(WRITABLE, b"return ret;", b"return 1;"), PLAN.edits[1], PLAN.edits[2]))
    assert kiln.tree.bring_to(built, other) == Changes(written=(WRITABLE,))
    assert kiln.touched(before) == {WRITABLE}


@pytest.mark.parametrize("plan", [Plan(), PLAN], ids=["stock", "plan"])
def test_same_again_touches_nothing(kiln: Kiln, stock: str, plan: Plan) -> None:
    kiln.tree.bring_to(stock, plan)
    before = kiln.stamps()
    assert kiln.tree.bring_to(stock, plan) == Changes()
    assert kiln.touched(before) == set()


def test_another_commit_replaces_what_differs(kiln: Kiln, built: str) -> None:
    files = {path: file for path, file in FILES.items() if path not in ("README.md", "test/empty")}
    files |= {
        "lib/net.js": ("100644", b"'use strict'; // 2\n"),
        "README.md/now/a/folder": ("100644", b"deep\n"),
        "src/probes": ("100644", b"a file where the plan had a folder\n"),
    }
    before = kiln.stamps()
    changes = kiln.tree.bring_to(kiln.commit(files), Plan())
    assert changes == Changes(removed=("README.md", PROBES, "test/empty"), checked_out=5)
    assert kiln.contents() == files
    assert kiln.touched(before) == {
        *("README.md", "README.md/now/a/folder", "lib/net.js", "src/probes", "test/empty"),
        *PLAN_PATHS,
    }


def test_meter_reaches_the_number_of_files(kiln: Kiln) -> None:
    class Counter:
        def __init__(self) -> None:
            self.calls: list[tuple[int, int | None]] = []

        def update(
            self, done: int, total: int | None, detail: str = "", *, left: float | None = None
        ) -> None:
            self.calls.append((done, total))

    meter = Counter()
    kiln.tree.bring_to(kiln.commit(many(1200)), Plan(), meter=meter)
    assert meter.calls == [(500, 1200), (1000, 1200), (1200, 1200)]


def test_build_outputs_stay_in_the_tree(kiln: Kiln, built: str) -> None:
    left = kiln.source / "out" / "Release" / "node"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"ELF")
    beside = kiln.source / "tools" / "__pycache__" / "js2c.cpython-311.pyc"
    beside.parent.mkdir()
    beside.write_bytes(b"made by Python")
    made = kiln.source / "config.gypi"
    made.write_bytes(b"{}")
    kiln.tree.bring_to(built, Plan())
    assert (left.read_bytes(), beside.read_bytes(), made.read_bytes()) == (b"ELF", b"made by Python", b"{}")


# Edits made by hand.


@pytest.mark.parametrize("path", ["lib/net.js", "test/two\nlines", WRITABLE, PROBES, "tools/link"])
@pytest.mark.parametrize("plan", [PLAN, Plan()], ids=["same plan", "to stock"])
def test_edit_by_hand_is_reported_and_kept(kiln: Kiln, built: str, path: str, plan: Plan) -> None:
    (kiln.source / path).unlink()
    (kiln.source / path).write_bytes(b"mine")
    before = kiln.stamps()
    with pytest.raises(SourceError, match="changed by hand") as caught:
        kiln.tree.bring_to(built, plan)
    assert Path(path).name.replace("\n", "\\n") in caught.value.message
    assert "--discard-edits" in (caught.value.remedy or "")
    assert kiln.touched(before) == set()


@pytest.mark.parametrize("path", ["lib/net.js", WRITABLE, PROBES, "tools/link"])
def test_deleted_file_is_reported(kiln: Kiln, built: str, path: str) -> None:
    (kiln.source / path).unlink()
    with pytest.raises(SourceError) as caught:
        kiln.tree.bring_to(built, PLAN)
    assert f"{path} (deleted)" in caught.value.message
    assert not (kiln.source / path).exists()


@pytest.mark.parametrize(
    "path",
    [
        "lib/internal/handmade.js",
        "src/probes/own.h",
        "deps/own/own.gyp",
        "tools/gyp.py",
        "own.gypi",
        "json.py",
    ],
)
def test_file_added_where_a_build_looks_is_reported_and_kept(kiln: Kiln, built: str, path: str) -> None:
    place = kiln.source / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"mine")
    before = kiln.stamps()
    with pytest.raises(SourceError, match="changed by hand") as caught:
        kiln.tree.bring_to(built, Plan())
    assert f"{path} (added)" in caught.value.message
    assert kiln.touched(before) == set()


@pytest.mark.parametrize("path", ["notes.txt", "test/own.js", "doc/own.md"])
def test_file_added_where_no_build_looks_stays(kiln: Kiln, built: str, path: str) -> None:
    place = kiln.source / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"mine")
    kiln.tree.bring_to(built, Plan(), discard_edits=True)
    assert place.read_bytes() == b"mine"


def test_discarding_deletes_what_was_added_and_nothing_behind_a_link(
    kiln: Kiln, built: str, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.js").write_bytes(b"mine")
    (kiln.source / "lib/linked").symlink_to(own)
    (kiln.source / "lib/new/deeper").mkdir(parents=True)
    (kiln.source / "lib/new/deeper/own.js").write_bytes(b"mine")
    changes = kiln.tree.bring_to(built, PLAN, discard_edits=True)
    assert changes == Changes(removed=("lib/linked", "lib/new/deeper/own.js"))
    assert kiln.contents() == PLANNED
    assert not (kiln.source / "lib/new").exists()
    assert (own / "mine.js").read_bytes() == b"mine"


def test_repository_inside_the_tree_is_never_deleted(kiln: Kiln, built: str) -> None:
    own = kiln.source / "deps" / "own"
    subprocess.run(["git", "init", "--quiet", "--template=", own], check=True)
    (own / "own.h").write_bytes(b"mine")
    with pytest.raises(SourceError, match=r"deps/own .* is a git repository of its own"):
        kiln.tree.bring_to(built, Plan(), discard_edits=True)
    assert (own / "own.h").read_bytes() == b"mine"


def test_file_added_by_a_killed_plan_is_not_an_edit_of_the_user(kiln: Kiln, built: str) -> None:
    state = json.loads((kiln.tree.folder / "state.json").read_text())
    state["begun"], state["current"] = [state["current"]], {"commit": built, "applied": {}}
    (kiln.tree.folder / "state.json").write_text(json.dumps(state))
    assert kiln.tree.bring_to(built, Plan()).removed == (PROBES,)


def test_mode_changed_by_hand_is_reported(kiln: Kiln, built: str) -> None:
    (kiln.source / "lib/net.js").chmod(0o755)
    with pytest.raises(SourceError, match=r"lib/net\.js"):
        kiln.tree.bring_to(built, PLAN)


@pytest.mark.parametrize(("plan", "files"), [(PLAN, PLANNED), (Plan(), FILES)], ids=["plan", "stock"])
def test_discarding_edits_throws_them_away(
    kiln: Kiln, built: str, plan: Plan, files: Mapping[str, tuple[str, bytes]]
) -> None:
    for path in ("lib/net.js", WRITABLE, PROBES):
        (kiln.source / path).write_bytes(b"mine")
    (kiln.source / "tools/link").unlink()
    (kiln.source / SCRIPT).chmod(0o644)
    kiln.tree.bring_to(built, plan, discard_edits=True)
    assert kiln.contents() == files


def test_edit_by_hand_stops_the_way_to_another_commit(kiln: Kiln, built: str) -> None:
    (kiln.source / "README.md").write_bytes(b"mine")
    other = kiln.commit({path: file for path, file in FILES.items() if path != "README.md"})
    with pytest.raises(SourceError, match=r"README\.md"):
        kiln.tree.bring_to(other, PLAN)
    (kiln.source / "README.md").write_bytes(FILES["README.md"][1])
    assert kiln.tree.bring_to(built, PLAN) == Changes()


def test_ten_edits_are_named_and_the_others_counted(kiln: Kiln) -> None:
    commit = kiln.commit(many(12))
    kiln.tree.bring_to(commit, Plan())
    for path in many(12):
        (kiln.source / path).write_bytes(b"mine")
    with pytest.raises(SourceError) as caught:
        kiln.tree.bring_to(commit, Plan())
    assert caught.value.message.endswith("test/6.js, test/7.js and 2 more.")


def test_file_put_back_by_hand_is_no_edit(kiln: Kiln, built: str) -> None:
    (kiln.source / WRITABLE).write_bytes(FILES[WRITABLE][1])
    assert kiln.tree.bring_to(built, PLAN) == Changes(written=(WRITABLE,))


def test_untracked_file_where_the_plan_adds_one_is_reported(kiln: Kiln, stock: str) -> None:
    kiln.tree.bring_to(stock, Plan())
    place = kiln.source / PROBES
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    with pytest.raises(SourceError, match=r"src/probes/stream\.d"):
        kiln.tree.bring_to(stock, PLAN)
    assert kiln.contents() == {**FILES, PROBES: ("100644", b"mine")}


def test_untracked_file_with_the_content_that_the_plan_adds_is_taken(kiln: Kiln, stock: str) -> None:
    kiln.tree.bring_to(stock, Plan())
    place = kiln.source / PROBES
    place.parent.mkdir(parents=True)
    place.write_bytes(PLANNED[PROBES][1])
    assert kiln.tree.bring_to(stock, PLAN) == Changes(written=(WRITABLE, SCRIPT))


# Links and folders in the way.


@pytest.mark.parametrize("discard", [False, True])
def test_nothing_is_written_through_a_linked_folder(
    kiln: Kiln, stock: str, tmp_path: Path, discard: bool
) -> None:
    kiln.tree.bring_to(stock, Plan())
    outside = tmp_path / "outside"
    (kiln.source / "lib/internal/streams").rename(outside)
    (kiln.source / "lib/internal/streams").symlink_to(outside)
    with pytest.raises(SourceError, match=r"lib/internal/streams in .* is a symbolic link"):
        kiln.tree.bring_to(stock, PLAN, discard_edits=discard)
    assert (outside / "writable.js").read_bytes() == FILES[WRITABLE][1]
    assert (kiln.source / SCRIPT).read_bytes() == FILES[SCRIPT][1]


def test_linked_file_is_reported_and_its_target_never_written(kiln: Kiln, stock: str, tmp_path: Path) -> None:
    kiln.tree.bring_to(stock, Plan())
    outside = tmp_path / "outside"
    (kiln.source / WRITABLE).rename(outside)
    (kiln.source / WRITABLE).symlink_to(outside)
    with pytest.raises(SourceError, match=r"writable\.js"):
        kiln.tree.bring_to(stock, PLAN)
    kiln.tree.bring_to(stock, PLAN, discard_edits=True)
    assert outside.read_bytes() == FILES[WRITABLE][1]
    assert kiln.contents() == PLANNED


@pytest.mark.parametrize(
    "edit",
    [Edit("tools/link", b"../lib/net.js", (Span(0, 0, b"x", "test"),)), added("tools/link/new.js", b"x")],
    ids=["the link", "below it"],
)
def test_link_of_the_commit_is_not_edited(kiln: Kiln, stock: str, edit: Edit) -> None:
    with pytest.raises(SourceError, match=r"tools/link in .* is a symbolic link"):
        kiln.tree.bring_to(stock, Plan((edit,)))
    assert not kiln.source.exists()


@pytest.mark.parametrize("discard", [False, True])
def test_folder_where_a_file_belongs_is_left(kiln: Kiln, built: str, discard: bool) -> None:
    (kiln.source / "README.md").unlink()
    (kiln.source / "README.md").mkdir()
    (kiln.source / "README.md/notes").write_bytes(b"mine")
    with pytest.raises(SourceError, match=r"README\.md in .* is a folder where a file belongs"):
        kiln.tree.bring_to(built, PLAN, discard_edits=discard)
    assert (kiln.source / "README.md/notes").read_bytes() == b"mine"


def test_file_where_a_folder_belongs_is_left(kiln: Kiln, stock: str) -> None:
    kiln.tree.bring_to(stock, Plan())
    (kiln.source / "src").write_bytes(b"mine")
    with pytest.raises(SourceError, match=r"src in .* is a file where a folder belongs"):
        kiln.tree.bring_to(stock, PLAN, discard_edits=True)
    assert kiln.contents() == {**FILES, "src": ("100644", b"mine")}


# Plans that can't be meant for the commit.


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "lib/../../x", "lib//x", "./x", "lib/", "a\0b", ""])
def test_path_that_leaves_the_tree_is_a_bug(kiln: Kiln, stock: str, path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside a tree"):
        kiln.tree.bring_to(stock, Plan((added(path, b"x"),)))
    assert not kiln.tree.folder.exists()


@pytest.mark.parametrize(
    "edit",
    [
        Edit(WRITABLE, b"other", (Span(0, 0, b"x", "test"),)),
        Edit("lib/nowhere.js", b"other", (Span(0, 0, b"x", "test"),)),
        added("README.md", b"x"),
        added("lib/internal", b"x"),
        added("lib/net.js/below.js", b"x"),
    ],
    ids=lambda edit: edit.path,
)
def test_plan_for_other_files_is_a_bug(kiln: Kiln, stock: str, edit: Edit) -> None:
    with pytest.raises(ValueError, match="the plan"):
        kiln.tree.bring_to(stock, Plan((edit,)))
    assert not kiln.tree.folder.exists()


def test_commit_is_named_by_its_full_id(kiln: Kiln, stock: str) -> None:
    with pytest.raises(ValueError, match="not a full commit id"):
        kiln.tree.bring_to("refs/heads/main", Plan())


def test_commit_that_the_mirror_lacks_is_reported(kiln: Kiln, stock: str) -> None:
    with pytest.raises(SourceError, match="Creating the working tree"):
        kiln.tree.bring_to("1" * 40, Plan())


# Line ends and settings.


@pytest.mark.parametrize("path", ["lib/net.js", WRITABLE])
def test_damaged_mirror_is_reported(kiln: Kiln, stock: str, path: str) -> None:
    object_id = kiln.git("rev-parse", f"{stock}:{path}").decode().strip()
    file = kiln.workspace.mirror / "objects" / object_id[:2] / object_id[2:]
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-6] + b"\xff" * 6)
    with pytest.raises(SourceError, match=r"mirror\.git is damaged: ") as refusal:
        kiln.tree.bring_to(stock, PLAN)
    assert f"Move {kiln.workspace.mirror} out of the way" in str(refusal.value.remedy)


def test_trees_own_attributes_decide_line_ends(kiln: Kiln) -> None:
    commit = kiln.commit({".gitattributes": ("100644", b"*.bat eol=crlf\n"), "x.bat": ("100644", b"a\nb\n")})
    kiln.tree.bring_to(commit, Plan())
    assert (kiln.source / "x.bat").read_bytes() == b"a\r\nb\r\n"
    assert kiln.tree.bring_to(commit, Plan()) == Changes()


def test_file_with_converted_line_ends_is_not_edited(kiln: Kiln) -> None:
    commit = kiln.commit({".gitattributes": ("100644", b"*.bat eol=crlf\n"), "x.bat": ("100644", b"a\nb\n")})
    plan = Plan((Edit("x.bat", b"a\nb\n", (Span(0, 1, b"c", "test"),)),))
    with pytest.raises(SourceError, match=r"Editing x\.bat failed"):
        kiln.tree.bring_to(commit, plan)
    assert kiln.contents() == {}


def test_line_ends_that_attributes_disown_are_no_edit(kiln: Kiln) -> None:
    files = {".gitattributes": ("100644", b"*.txt text\n"), "x.txt": ("100644", b"a\r\nb\r\n")}
    commit = kiln.commit(files)
    kiln.tree.bring_to(commit, Plan())
    os.utime(kiln.source / "x.txt", (1, 1))
    assert kiln.tree.bring_to(commit, Plan()) == Changes()
    assert kiln.contents() == files


def test_users_git_settings_do_not_matter(kiln: Kiln, stock: str) -> None:
    home = Path.home()
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/attributes").write_text("* text eol=crlf ident filter=shout\n")
    (home / ".gitconfig").write_text(
        '[core]\n autocrlf = true\n[filter "shout"]\n smudge = tr a-z A-Z\n required = true\n'
    )
    kiln.tree.bring_to(stock, PLAN)
    assert kiln.contents() == PLANNED


def test_working_directory_of_the_caller_does_not_matter(
    kiln: Kiln, built: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kiln.source / "lib/internal")
    kiln.tree.bring_to(built, Plan())
    assert kiln.contents() == FILES


# Kills and full disks.

RUN = """
import os, signal, sys
from pathlib import Path
from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.source.tree import WorkingTree
from nodekiln.core.settings import Workspace

class Deadly:
    def update(self, done, total, detail="", *, left=None):
        if done >= int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

plan = Plan((Edit("added.js", None, (Span(0, 0, b"added", "test"),)),))
WorkingTree(Workspace(Path(sys.argv[1])), "v20.19.2").bring_to(sys.argv[2], plan, meter=Deadly())
"""


def many(count: int) -> dict[str, tuple[str, bytes]]:
    return {f"test/{number}.js": ("100644", b"%d\n" % number * 40) for number in range(count)}


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(nodekiln.__file__).parents[1])}


@pytest.fixture
def killed(kiln: Kiln, environment: dict[str, str]) -> str:
    """The commit of many(600), of which a killed run checked out the first 500."""
    commit = kiln.commit(many(600))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(kiln.workspace.root), commit, "500"], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(kiln.contents()) == 500
    return commit


def test_killed_run_is_completed(kiln: Kiln, killed: str) -> None:
    before = kiln.stamps()
    assert kiln.tree.bring_to(killed, Plan()) == Changes(checked_out=100)
    assert kiln.contents() == many(600)
    assert kiln.touched(before).isdisjoint(before)


def test_files_that_a_kill_cut_short_are_completed(kiln: Kiln, killed: str) -> None:
    cut = sorted(kiln.contents())[:20]
    for length, path in enumerate(cut):
        os.truncate(kiln.source / path, length)
    assert kiln.tree.bring_to(killed, Plan()) == Changes(checked_out=120)
    assert kiln.contents() == many(600)


def test_edit_by_hand_after_a_kill_is_still_reported(kiln: Kiln, killed: str) -> None:
    (kiln.source / "test/0.js").write_bytes(b"mine")
    with pytest.raises(SourceError, match=r"by hand: test/0\.js\."):
        kiln.tree.bring_to(killed, Plan())
    assert len(kiln.contents()) == 500


def test_file_cut_short_without_a_kill_is_an_edit(kiln: Kiln, stock: str) -> None:
    kiln.tree.bring_to(stock, Plan())
    os.truncate(kiln.source / "lib/net.js", 3)
    with pytest.raises(SourceError, match=r"lib/net\.js"):
        kiln.tree.bring_to(stock, Plan())


@pytest.mark.slow
def test_killed_change_of_commit_can_go_on_to_a_third_and_back(
    kiln: Kiln, environment: dict[str, str]
) -> None:
    first = {**many(400), "old.js": ("100644", b"old\n")}
    second = {path: (mode, content + b"2") for path, (mode, content) in many(700).items()}
    third = {path: (mode, content + b"3") for path, (mode, content) in many(300).items()}
    origin = kiln.commit(first)
    kiln.tree.bring_to(origin, Plan())
    for number in ("500", "700"):
        subprocess.run(
            [sys.executable, "-c", RUN, str(kiln.workspace.root), kiln.commit(second), number],
            env=environment,
            check=False,
        )
    kiln.tree.bring_to(kiln.commit(third), Plan())
    assert kiln.contents() == third
    kiln.tree.bring_to(origin, Plan())
    assert kiln.contents() == first


@pytest.mark.slow
def test_run_killed_at_any_moment_is_completed(kiln: Kiln, environment: dict[str, str]) -> None:
    commit = kiln.commit(many(1000))
    files = {**many(1000), "added.js": ("100644", b"added")}
    plan = Plan((added("added.js", b"added"),))
    for least in (0, 300, 700):
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, str(kiln.workspace.root), commit, "9999"], env=environment
        )
        try:
            while run.poll() is None and _count(kiln.source / "test") <= least:
                time.sleep(0.001)
        finally:
            run.kill()
            run.wait()
        if least != 300:  # once killed twice in a row
            kiln.tree.bring_to(commit, plan)
            assert kiln.contents() == files
            kiln.tree.remove()


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.exists() else -1


@pytest.mark.parametrize("half", ["plan", "stock"])
def test_kill_between_two_writes_of_a_plan_is_completed(kiln: Kiln, built: str, half: str) -> None:
    """What lies on disk then: the record that says what was begun, and files of both plans."""
    begun = json.loads((kiln.tree.folder / "state.json").read_bytes())
    begun["begun"] = [{"commit": built, "applied": {}}]
    if half == "plan":
        begun = {**begun, "current": begun["begun"][0], "begun": [begun["current"]]}
    (kiln.tree.folder / "state.json").write_text(json.dumps(begun))
    (kiln.source / WRITABLE).write_bytes(FILES[WRITABLE][1])
    (kiln.source / PROBES).unlink()
    other = Plan((changed(SCRIPT, b"1", b"3"),))
    assert kiln.tree.bring_to(built, other) == Changes(written=(SCRIPT,))
    assert kiln.contents() == {**FILES, SCRIPT: ("100755", b"#!/bin/sh\necho 3\n")}


def test_temporary_files_of_a_killed_run_are_removed(kiln: Kiln, built: str) -> None:
    (kiln.tree.folder / "staging/lib").mkdir(parents=True)
    (kiln.tree.folder / "staging/lib/net.js").write_bytes(b"half")
    (kiln.tree.folder / "index.lock").write_bytes(b"half")
    os.utime(kiln.tree.folder / "index.lock", (1, 1))
    kiln.tree.bring_to(built, Plan())
    assert sorted(place.name for place in kiln.tree.folder.iterdir()) == ["index", "source", "state.json"]


def test_broken_index_is_made_anew(kiln: Kiln, built: str) -> None:
    os.truncate(kiln.tree.folder / "index", 50)
    assert kiln.tree.bring_to(built, PLAN) == Changes()


def test_tree_without_its_record_is_compared_with_the_commit(kiln: Kiln, built: str) -> None:
    (kiln.tree.folder / "state.json").write_bytes(b"")
    with pytest.raises(
        SourceError, match=r"changed by hand: lib/internal/streams/writable\.js, tools/run me"
    ):
        kiln.tree.bring_to(built, Plan())
    assert kiln.contents() == PLANNED


def test_record_of_a_later_version_is_left_alone(kiln: Kiln, built: str) -> None:
    (kiln.tree.folder / "state.json").write_text('{"schema": 2, "layers": []}')
    with pytest.raises(SourceError, match="later version"):
        kiln.tree.bring_to(built, Plan())


@pytest.fixture
def in_namespace() -> Callable[..., list[str]]:
    """Makes an argument list that runs a script of Python where mounts are its own."""
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "kiln", "/mnt"], capture_output=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip("no private mounts here (root and Linux only)")
    return lambda script, *words: ["unshare", "--mount", sys.executable, "-c", script, *words]


FULL = """
import subprocess, sys
from pathlib import Path
from nodekiln.core.edit import Plan
from nodekiln.core.errors import SourceError
from nodekiln.source.tree import WorkingTree
from nodekiln.core.settings import Workspace

workspace = Workspace(Path(sys.argv[1]))
workspace.trees.mkdir()
size = f"size={sys.argv[3]}"
subprocess.run(["mount", "-t", "tmpfs", "-o", size, "kiln", str(workspace.trees)], check=True)
tree = WorkingTree(workspace, "v20.19.2")
try:
    tree.bring_to(sys.argv[2], Plan())
except SourceError as error:
    print(error)
subprocess.run(["mount", "-o", "remount,size=64m", str(workspace.trees)], check=True)
changes = tree.bring_to(sys.argv[2], Plan())
print(len(list((tree.source / "test").iterdir())), tree.bring_to(sys.argv[2], Plan()) == type(changes)())
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", ["8k", "300k", "3m", "4900k"])
def test_full_disk_is_reported_and_the_next_run_continues(
    kiln: Kiln, environment: dict[str, str], in_namespace: Callable[..., list[str]], size: str
) -> None:
    commit = kiln.commit(many(1200))
    done = subprocess.run(
        in_namespace(FULL, str(kiln.workspace.root), commit, size),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("The disk is full: "), done.stderr
    assert "MB more." in done.stdout or "kB more." in done.stdout or "bytes more." in done.stdout
    assert done.stdout.endswith("\n1200 True\n"), done.stderr


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from nodekiln.core.edit import Plan
from nodekiln.core.errors import SourceError
from nodekiln.source.tree import WorkingTree
from nodekiln.core.settings import Workspace

workspace = Workspace(Path(sys.argv[1]))
for options in (["--bind"], ["-o", "remount,ro,bind"]):
    subprocess.run(["mount", *options, str(workspace.trees), str(workspace.trees)], check=True)
tree = WorkingTree(workspace, "v20.19.2")
for act in (lambda: tree.bring_to(sys.argv[2], Plan()), tree.remove):
    try:
        act()
    except SourceError as error:
        print(error.message)
"""


def test_read_only_folder_is_reported(
    kiln: Kiln, built: str, environment: dict[str, str], in_namespace: Callable[..., list[str]]
) -> None:
    done = subprocess.run(
        in_namespace(READ_ONLY, str(kiln.workspace.root), built),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    made, deleted = done.stdout.splitlines()
    assert "Read-only file system" in made
    assert "Read-only file system" in deleted


# The whole folder.


def test_removing_leaves_nothing(kiln: Kiln, built: str) -> None:
    kiln.tree.remove()
    assert not kiln.tree.folder.exists()
    kiln.tree.remove()


def test_tree_whose_source_was_deleted_is_made_again(kiln: Kiln, built: str) -> None:
    kiln.source.rename(kiln.tree.folder / "staging")  # as a removal leaves it that is killed
    assert kiln.tree.bring_to(built, PLAN) == Changes(written=PLAN_PATHS, checked_out=len(FILES) - 2)
    assert kiln.contents() == PLANNED


def test_disk_that_a_checkout_takes_is_counted_in_blocks(kiln: Kiln) -> None:
    sizes = (0, 1, 4096, 4097)
    commit = kiln.commit({str(size): ("100644", bytes(size)) for size in sizes})
    assert kiln.tree.disk_needed(commit) == 0 + 4096 + 4096 + 8192
    assert not kiln.tree.folder.exists()
