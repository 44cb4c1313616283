"""./inv change refresh: what merges by itself, what asks, and that nothing is lost on the way."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodekiln.core.recipe import Tag, TagRange
from nodekiln.verify.ranges import Split, choose, edit_row, narrow

if TYPE_CHECKING:
    from tests.integration.conftest import Done, Kiln

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


@pytest.fixture
def own(kiln: Kiln, repository: Path) -> Own:
    """Return a change of one patch for v20.1.0."""
    made = Own(kiln, repository)
    (kiln.here / "x.diff").write_text(DIFF)
    done = made.run("new", "--from-diff=x.diff", "--tag=v20.1.0")
    assert done.code == 0, done.stderr
    return made


class Own:
    """The change ./own, and commands on it."""

    def __init__(self, kiln: Kiln, repository: Path) -> None:
        self.kiln, self.folder = kiln, kiln.here / "own"
        self.environment = {"NODEKILN_REPOSITORY": str(repository)}

    @property
    def home(self) -> Path:
        """The folder with decisions."""
        return self.kiln.build / "refresh" / "own"

    def run(self, task: str, *words: str) -> Done:
        done = self.kiln.run("change", task, "./own", *words, env=self.environment)
        assert "Traceback" not in done.stderr
        return done

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = tomllib.loads((self.folder / "change.toml").read_text())["patch"]
        return rows

    def fits(self, tag: str) -> bool:
        words = ("patch", tag, "--no-probes", "--change=./own")
        return self.kiln.run(*words, env=self.environment).code == 0

    def contents(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}


def test_tag_that_fits_leaves_the_change_alone(own: Own) -> None:
    before = own.contents()
    assert own.run("refresh", "--tag=v20.2.0").code == 0
    assert own.contents() == before


def test_clean_merge_adds_a_variant_from_the_first_tag_that_needs_it(own: Own) -> None:
    before = own.contents()
    done = own.run("refresh", "--tag=v20.4.0")
    assert done.code == 0, done.stderr
    old, new = own.rows()
    assert (old["tags"], old["base"]) == (">=0,<20.3.0", "v20.1.0")
    assert (new["tags"], new["base"]) == (">=20.3.0", "v20.4.0")
    assert old["slot"] == new["slot"]
    assert own.contents().keys() - before.keys() == {new["file"]}
    assert [own.fits(tag) for tag in ("v20.1.0", "v20.2.0", "v20.3.0", "v20.4.0")] == [True] * 4
    assert own.run("check").code == 0


def test_merge_that_fits_all_former_tags_takes_the_place_of_the_patch(own: Own) -> None:
    text = (own.folder / "change.toml").read_text().replace('tags = ">=0"', 'tags = ">=20.3"')
    (own.folder / "change.toml").write_text(f"# a comment\n{text}")
    done = own.run("refresh", "--tag=v20.4.0")
    assert done.code == 0, done.stderr
    [row] = own.rows()
    assert (row["base"], own.fits("v20.3.0")) == ("v20.4.0", True)
    assert (own.folder / "change.toml").read_text().startswith("# a comment\n")


def test_conflict_waits_for_a_decision_and_continues(own: Own) -> None:
    before = own.contents()
    done = own.run("refresh", "--tag=v22.1.0")
    folder = Path(done.stdout.strip())
    assert (done.code, own.contents()) == (4, before)
    marked = (folder / "files" / "a.js").read_text()
    assert [line for line in marked.splitlines() if "line ten" in line or "LINE 10" in line] == [
        "LINE 10",
        "line ten",
    ]
    assert "+line ten" in (folder / "upstream.diff").read_text()
    assert "+LINE 10" in (folder / "wanted.patch").read_text()
    early = own.run("refresh", "--continue")
    assert (early.code, "a.js" in early.stderr, own.contents()) == (4, True, before)
    again = own.run("refresh", "--tag=v22.1.0")
    assert (again.code, (folder / "files" / "a.js").read_text()) == (2, marked)
    (folder / "files" / "a.js").write_text(FILES["v22.1.0"]["a.js"].replace("line ten", "LINE TEN"))  # type: ignore[union-attr]
    done = own.run("refresh", "--continue")
    assert (done.code, own.home.exists()) == (0, False), done.stderr
    assert [row["tags"] for row in own.rows()] == [">=0,<22.1.0", ">=22.1.0"]
    assert own.fits("v22.1.0")


def test_patch_that_upstream_has_is_served_without_a_patch(own: Own) -> None:
    done = own.run("refresh", "--tag=v22.2.0")
    assert done.code == 0, done.stderr
    old, new = own.rows()
    assert ("file" in new, new["tags"], new["slot"]) == (False, ">=22.2.0", old["slot"])
    assert [own.fits("v20.1.0"), own.fits("v22.2.0")] == [True, True]


def test_file_that_is_gone_upstream_asks(own: Own) -> None:
    done = own.run("refresh", "--tag=v22.3.0")
    folder = Path(done.stdout.strip())
    assert (done.code, "a.js is not in v22.3.0" in done.stderr) == (4, True)
    (folder / "files" / "a.js").unlink()
    (folder / "files" / "b.js").write_text(A.replace("line 10\n", "LINE 10\n"))
    assert own.run("refresh", "--continue").code == 0
    assert own.fits("v22.3.0")


def test_walk_through_all_tags_leaves_the_fewest_variants(own: Own) -> None:
    done = own.run("refresh", "--all-tags")
    folder = Path(done.stdout.strip())
    assert (done.code, "v22.1.0" in done.stderr) == (4, True)
    assert [row["tags"] for row in own.rows()] == [">=0,<20.3.0", ">=20.3.0"]
    (folder / "files" / "a.js").write_text(FILES["v22.1.0"]["a.js"].replace("line ten", "LINE 10"))  # type: ignore[union-attr]
    done = own.run("refresh", "--continue")
    assert done.code == 0, done.stderr
    tags = [">=0,<20.3.0", ">=20.3.0,<22.1.0", ">=22.1.0,<22.2.0", ">=22.2.0"]
    assert [row["tags"] for row in own.rows()] == tags
    assert [tag for tag in FILES if not own.fits(tag)] == []


def test_second_patch_is_merged_on_top_of_the_first(own: Own) -> None:
    shutil.rmtree(own.folder)
    second = DIFF.replace("Shout.", "Louder.").replace("-line 10\n+LINE 10", "-LINE 10\n+LINE 10!")
    mails = "".join(
        f"From 0123456789 x\nSubject: {number}\n\nWhy.\n---\n{text.partition(chr(10) * 2)[2]}"
        for number, text in enumerate((DIFF, second))
    )
    (own.kiln.here / "x.mbox").write_text(mails)
    assert own.run("new", "--from-diff=x.mbox", "--tag=v20.1.0").code == 0
    assert own.run("refresh", "--tag=v20.4.0").code == 0
    words = ("patch", "v20.4.0", "--no-probes", "--change=./own")
    done = own.kiln.run(*words, env=own.environment)
    assert (done.code, done.stdout.count("\n+LINE 10!\n")) == (0, 1), done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 2), (("--tag=v20.1.0", "--all-tags"), 2), (("--continue",), 2), (("--tag=v20.9.0",), 6)],
)
def test_refresh_that_can_not_start_changes_nothing(own: Own, words: tuple[str, ...], code: int) -> None:
    before = own.contents()
    assert (own.run("refresh", *words).code, own.contents()) == (code, before)


def test_patch_without_a_base_names_the_field(own: Own) -> None:
    file = own.folder / "change.toml"
    file.write_text(file.read_text().replace('base = "v20.1.0"\n', ""))
    done = own.run("refresh", "--tag=v20.4.0")
    assert (done.code, "base =" in done.stderr) == (4, True)


def test_interrupt_leaves_the_change_and_the_decisions(own: Own) -> None:
    before = own.contents()
    child = own.kiln.start("change", "refresh", "./own", "--tag=v20.4.0", env=own.environment)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert own.contents() == before or len(own.rows()) == 2
    done = own.run("refresh", "--tag=v20.4.0")
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
