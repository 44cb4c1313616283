"""./inv change refresh: what merges by itself, what asks, and that nothing is lost on the way."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from nodekiln.changes import planner
from nodekiln.changes.registry import FILE, Registry
from nodekiln.core.edit import Plan, Refusal
from nodekiln.core.errors import KilnError
from nodekiln.core.process import child_environment
from nodekiln.core.recipe import Recipe, Tag, TagRange
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings, Workspace
from nodekiln.pipelines.new_change import NewChange, new_change
from nodekiln.pipelines.planning import open_tag
from nodekiln.verify.ranges import Split, choose, edit_row, narrow
from nodekiln.verify.refresh import RefreshRequest, refresh
from tests.change_folders import PATCHES

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

A = "".join(f"line {number}\n" for number in range(1, 41))
FILES: Mapping[str, Mapping[str, str | None]] = {
    "v20.1.0": {"a.js": A, "b.js": A},
    "v20.2.0": {"a.js": "new\n" + A},
    "v20.3.0": {"a.js": A.replace("line 12\n", "line 12 changed\n")},
    "v20.4.0": {"a.js": A.replace("line 12\n", "line 12 changed\n"), "b.js": A.replace("line 30", "b")},
    "v22.1.0": {"a.js": A.replace("line 10\n", "line ten\n")},
    "v22.2.0": {"a.js": A.replace("line 10\n", "LINE 10\n")},
    "v22.3.0": {"a.js": None},
}
DIFF = """\
Shout.

--- a/a.js
+++ b/a.js
@@ -7,7 +7,7 @@
 line 7
 line 8
 line 9
-line 10
+LINE 10
 line 11
 line 12
 line 13
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bare repository with the tags of FILES, each on files of its own."""
    folder = tmp_path_factory.mktemp("upstream") / "node.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", str(folder)], check=True)
    stream = b""
    for tag, files in FILES.items():
        numbers = zip(("MAJOR", "MINOR", "PATCH"), tag[1:].split("."), strict=True)
        header = "".join(f"#define NODE_{name}_VERSION {number}\n" for name, number in numbers)
        stream += f"commit refs/tags/{tag}\ncommitter somebody <> 0 +0000\ndata 0\ndeleteall\n".encode()
        for path, text in {"src/node_version.h": header, "b.js": A, **files}.items():
            if text is not None:
                stream += f"M 100644 inline {path}\ndata {len(text)}\n{text}\n".encode()
    subprocess.run(["git", "--git-dir", str(folder), "fast-import", "--quiet"], input=stream, check=True)
    return folder


@dataclass(frozen=True)
class Ended:
    """The end of a command: its exit code, its messages, and the folder with conflicts."""

    code: int
    text: str
    folder: Path = Path("none")


class Own:
    """A change of one patch for v20.1.0, and commands on it."""

    def __init__(self, top: Path, repository: Path, diff: str = DIFF) -> None:
        self.folder = top / "own"
        self.reporter = Reporter(Console(file=io.StringIO()))
        plain = Settings(
            workspace=Workspace(top / "build"),
            repository=str(repository),
            configure_args=(),
            patches=PATCHES,
            environment=child_environment(os.environ, venv=None),
            cwd=top,
        )
        (top / "x.diff").write_text(diff)
        made = NewChange(folder=self.folder, tag=Tag(20, 1, 0), diffs=(top / "x.diff",))
        new_change(made, plain, self.reporter)
        self.settings = replace(plain, change_folders=(self.folder,))
        self.home = self.settings.workspace.root / "refresh" / "own"

    def refresh(self, tag: str = "", *, resume: bool = False) -> Ended:
        """Refresh to a tag, or through all tags without one."""
        request = RefreshRequest(
            change="own", called="./own", tag=Tag.parse(tag) if tag else None, resume=resume
        )
        try:
            done = refresh(request, self.settings, self.reporter)
        except KilnError as error:
            return Ended(error.exit_code, str(error))
        return Ended(done.exit_code, "\n".join(done.lines), done.folder or Path("none"))

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = tomllib.loads((self.folder / FILE).read_text())["patch"]
        return rows

    def plan(self, tag: str) -> Plan | Refusal:
        recipe = Recipe(tag=Tag.parse(tag), changes=("own",))
        source = open_tag(recipe, None, self.settings, self.reporter, accept_moved=False)
        registry = Registry.of(self.settings)
        source.need(planner.paths(recipe, registry))
        return planner.plan(recipe, source.read, registry)

    def fits(self, tag: str) -> bool:
        return isinstance(self.plan(tag), Plan)

    def contents(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}


@pytest.fixture
def own(tmp_path: Path, repository: Path) -> Own:
    """Return the change."""
    return Own(tmp_path, repository)


def test_tag_that_fits_leaves_the_change_alone(own: Own) -> None:
    before = own.contents()
    assert own.refresh("v20.2.0").code == 0
    assert own.contents() == before


def test_clean_merge_adds_a_variant_from_the_first_tag_that_needs_it(own: Own) -> None:
    before = own.contents()
    done = own.refresh("v20.4.0")
    assert done.code == 0, done.text
    old, new = own.rows()
    assert (old["tags"], old["base"]) == (">=0,<20.3.0", "v20.1.0")
    assert (new["tags"], new["base"]) == (">=20.3.0", "v20.4.0")
    assert old["slot"] == new["slot"]
    assert own.contents().keys() - before.keys() == {new["file"]}
    assert [own.fits(tag) for tag in ("v20.1.0", "v20.2.0", "v20.3.0", "v20.4.0")] == [True] * 4


def test_merge_that_fits_all_former_tags_takes_the_place_of_the_patch(own: Own) -> None:
    text = (own.folder / "change.toml").read_text().replace('tags = ">=0"', 'tags = ">=20.3"')
    (own.folder / "change.toml").write_text(f"# a comment\n{text}")
    done = own.refresh("v20.4.0")
    assert done.code == 0, done.text
    [row] = own.rows()
    assert (row["base"], own.fits("v20.3.0")) == ("v20.4.0", True)
    assert (own.folder / "change.toml").read_text().startswith("# a comment\n")


def test_conflict_waits_for_a_decision_and_continues(own: Own) -> None:
    before = own.contents()
    done = own.refresh("v22.1.0")
    folder = done.folder
    assert (done.code, own.contents()) == (4, before)
    marked = (folder / "files" / "a.js").read_text()
    assert [line for line in marked.splitlines() if "line ten" in line or "LINE 10" in line] == [
        "LINE 10",
        "line ten",
    ]
    assert "+line ten" in (folder / "upstream.diff").read_text()
    assert "+LINE 10" in (folder / "wanted.patch").read_text()
    early = own.refresh(resume=True)
    assert (early.code, "a.js" in early.text, own.contents()) == (4, True, before)
    again = own.refresh("v22.1.0")
    assert (again.code, (folder / "files" / "a.js").read_text()) == (2, marked)
    (folder / "files" / "a.js").write_text(FILES["v22.1.0"]["a.js"].replace("line ten", "LINE TEN"))  # type: ignore[union-attr]
    done = own.refresh(resume=True)
    assert (done.code, own.home.exists()) == (0, False), done.text
    assert [row["tags"] for row in own.rows()] == [">=0,<22.1.0", ">=22.1.0"]
    assert own.fits("v22.1.0")


def test_patch_that_upstream_has_is_served_without_a_patch(own: Own) -> None:
    done = own.refresh("v22.2.0")
    assert done.code == 0, done.text
    old, new = own.rows()
    assert ("file" in new, new["tags"], new["slot"]) == (False, ">=22.2.0", old["slot"])
    assert [own.fits("v20.1.0"), own.fits("v22.2.0")] == [True, True]


def test_file_that_is_gone_upstream_asks(own: Own) -> None:
    done = own.refresh("v22.3.0")
    folder = done.folder
    assert (done.code, "a.js is not in v22.3.0" in done.text) == (4, True)
    (folder / "files" / "a.js").unlink()
    (folder / "files" / "b.js").write_text(A.replace("line 10\n", "LINE 10\n"))
    assert own.refresh(resume=True).code == 0
    assert own.fits("v22.3.0")


def test_walk_through_all_tags_leaves_the_fewest_variants(own: Own) -> None:
    done = own.refresh()
    folder = done.folder
    assert (done.code, "v22.1.0" in done.text) == (4, True)
    assert [row["tags"] for row in own.rows()] == [">=0,<20.3.0", ">=20.3.0"]
    (folder / "files" / "a.js").write_text(FILES["v22.1.0"]["a.js"].replace("line ten", "LINE 10"))  # type: ignore[union-attr]
    done = own.refresh(resume=True)
    assert done.code == 0, done.text
    tags = [">=0,<20.3.0", ">=20.3.0,<22.1.0", ">=22.1.0,<22.2.0", ">=22.2.0"]
    assert [row["tags"] for row in own.rows()] == tags
    assert [tag for tag in FILES if not own.fits(tag)] == []


def test_second_patch_is_merged_on_top_of_the_first(tmp_path: Path, repository: Path) -> None:
    second = DIFF.replace("Shout.", "Louder.").replace("-line 10\n+LINE 10", "-LINE 10\n+LINE 10!")
    mails = "".join(
        f"From 0123456789 x\nSubject: {number}\n\nWhy.\n---\n{text.partition(chr(10) * 2)[2]}"
        for number, text in enumerate((DIFF, second))
    )
    own = Own(tmp_path, repository, mails)
    assert own.refresh("v20.4.0").code == 0
    plan = own.plan("v20.4.0")
    assert isinstance(plan, Plan)
    assert b"\nLINE 10!\n" in plan.edits[0].after


@pytest.mark.parametrize(("tag", "resume", "code"), [("", True, 2), ("v20.9.0", False, 6)])
def test_refresh_that_can_not_start_changes_nothing(own: Own, tag: str, resume: bool, code: int) -> None:
    before = own.contents()
    assert (own.refresh(tag, resume=resume).code, own.contents()) == (code, before)


@pytest.mark.parametrize("words", [(), ("--tag=v20.1.0", "--all-tags")])
def test_refresh_without_one_aim_is_a_usage_error(kiln: Kiln, words: tuple[str, ...]) -> None:
    assert kiln.run("change", "refresh", "usdt", *words).code == 2


def test_patch_without_a_base_names_the_field(own: Own) -> None:
    file = own.folder / "change.toml"
    file.write_text(file.read_text().replace('base = "v20.1.0"\n', ""))
    done = own.refresh("v20.4.0")
    assert (done.code, "base =" in done.text) == (4, True)


def test_interrupt_leaves_the_change_and_the_decisions(kiln: Kiln, repository: Path) -> None:
    own = Own(kiln.here, repository)
    before = own.contents()
    words = ("change", "refresh", "./own", "--tag=v20.4.0")
    child = kiln.start(*words, env={"NODEKILN_REPOSITORY": str(repository)})
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert own.contents() == before or len(own.rows()) == 2
    done = kiln.run(*words, env={"NODEKILN_REPOSITORY": str(repository)})
    assert (done.code, len(own.rows())) == (0, 2), done.stderr


TAGS = [Tag(20, 1, 0), Tag(20, 2, 0), Tag(20, 3, 0), Tag(22, 1, 0)]


@pytest.mark.parametrize(
    ("old", "new", "split"),
    [
        ("1100", "0011", Split(TAGS[2], True)),
        ("1100", "1111", Split(None, True)),
        ("1110", "0011", Split(TAGS[3], True)),
        ("1000", "0001", Split(TAGS[3], True, (TAGS[1], TAGS[2]))),
        ("1010", "0101", Split(TAGS[3], True, (TAGS[1],))),
    ],
)
def test_split_serves_as_many_tags_as_possible(old: str, new: str, split: Split) -> None:
    fits = [(tag, o == "1", n == "1") for tag, o, n in zip(TAGS, old, new, strict=True)]
    assert choose(fits, TAGS[0], TAGS[-1]) == split


def test_split_below_the_base_keeps_the_old_patch_above() -> None:
    fits = [(tag, o == "1", n == "1") for tag, o, n in zip(TAGS, "0011", "1100", strict=True)]
    assert choose(fits, TAGS[-1], TAGS[0]) == Split(TAGS[2], False)


def test_narrowed_range_has_no_needless_bounds() -> None:
    tags = TagRange.parse(">=19,<26.11")
    assert narrow(tags, lower=Tag(22, 1, 0)) == ">=22.1.0,<26.11"
    assert narrow(tags, upper=Tag(22, 1, 0)) == ">=19,<22.1.0"


def test_edited_table_keeps_comments_and_other_tables() -> None:
    text = '# top\n[[patch]]\nfile = "a.patch" # why\ntags = ">=0"\n\n[check]\ngc_probes = true\n'
    edited = edit_row(text, "a.patch", {"tags": ">=20", "slot": "a"})
    assert edited.startswith('# top\n[[patch]]\nfile = "a.patch" # why\nslot = "a"\ntags = ">=20"\n')
    assert edited.endswith("\n[check]\ngc_probes = true\n")
