"""series.toml: which patch serves which tags, and what is wrong with a folder of patches."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.changes.series import LIST, Series, TagRange, load
from nodekiln.changes.usdt import PATHS, Provider, find_provider
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag

CHECKOUT = Path(__file__).parents[2]


def patch(path: str) -> str:
    head = f"Subject: Change {path}\n\nWhy.\n\ndiff --git a/{path} b/{path}\n"
    return f"{head}--- a/{path}\n+++ b/{path}\n@@ -1 +1,2 @@\n a\n+b\n"


def row(file: str, tags: str, *more: str) -> str:
    return "\n".join(["[[patch]]", f'file = "{file}"', f'tags = "{tags}"', 'why = "so"', *more, ""])


def series(folder: Path, *rows: str, patches: tuple[str, ...] = ("a", "b", "c")) -> Series:
    for name in patches:
        (folder / f"{name}.patch").write_text(patch(f"lib/{name}.js"))
    (folder / LIST).write_text("\n".join(rows))
    return load(folder)


def test_a_tag_gets_one_patch_of_each_slot_in_the_order_of_the_list(tmp_path: Path) -> None:
    made = series(
        tmp_path,
        row("b.patch", ">=22.3", 'slot = "core"'),
        row("c.patch", ">=19"),
        row("a.patch", ">= 19, < 22.3", 'slot = "core"'),
    )
    chosen = {
        tag: [one.name for one in made.select(Tag.parse(tag))] for tag in ("v18.20.8", "v22.2.9", "v22.3.0")
    }
    assert chosen == {
        "v18.20.8": [],
        "v22.2.9": ["c.patch", "a.patch"],
        "v22.3.0": ["b.patch", "c.patch"],
    }
    assert made.paths(Tag(30, 0, 0)) == ("lib/b.js", "lib/c.js")


@pytest.mark.parametrize(
    "text", ["", "19", ">=19,", ">19", ">=19,<=22", ">=v19", ">=19.0.0.0", "<22", ">=19 or <3"]
)
def test_other_ranges_are_not_taken(text: str) -> None:
    with pytest.raises(ValueError, match="is not like"):
        TagRange.parse(text)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row("a.patch", ">=20")], "a.patch begins at v20.0.0, and should at v19.0.0"),
        ([row("a.patch", ">=18")], "a.patch begins at v18.0.0, and should at v19.0.0"),
        ([row("a.patch", ">=19,<24")], "a.patch has no patch for tags from v24.0.0 on"),
        (
            [row("a.patch", ">=19,<20", 'slot = "s"'), row("b.patch", ">=21", 'slot = "s"')],
            "s has no patch for tags from v20.0.0 on, below v21.0.0",
        ),
        (
            [row("a.patch", ">=19,<22", 'slot = "s"'), row("b.patch", ">=21", 'slot = "s"')],
            "s has two patches for v21.0.0: those from v19.0.0 on, below v22.0.0 and from v21.0.0 on",
        ),
        (
            [row("a.patch", ">=19", 'slot = "s"'), row("b.patch", ">=19", 'slot = "s"')],
            "s has two patches for v19.0.0: those from v19.0.0 on and from v19.0.0 on",
        ),
        ([row("a.patch", ">=19,<19")], "a.patch has a patch for no tag at all"),
        ([row("missing.patch", ">=19")], "there is no file missing.patch"),
        ([row("../a.patch", ">=19")], "there is no file ../a.patch"),
        ([row("a.patch", "19")], "tags = '19' is not like \">=19\""),
        ([row("a.patch", ">=19"), row("a.patch", ">=19")], "lists a.patch 2 times"),
        ([row("a.patch", ">=19", "extra = 1")], "it holds extra, which nobody reads"),
        ([row("a.patch", ">=19", "slot = 1")], "slot should be a text"),
        (['[[patch]]\nfile = "a.patch"'], "it lacks tags, why"),
        (["[patch]\n"], "should hold [[patch]] tables"),
        (["other = 1\n"], "should hold [[patch]] tables"),
        (["[[patch\n"], "series.toml: "),
        ([], "a.patch is in the folder and not in series.toml"),
    ],
)
def test_what_is_wrong_with_a_series_is_told(tmp_path: Path, rows: list[str], problem: str) -> None:
    with pytest.raises(PatchError) as caught:
        series(tmp_path, *rows, *([] if rows else ["patch = []"]))
    assert problem in caught.value.message


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.patch").write_text("no patch")
    with pytest.raises(PatchError) as caught:
        series(tmp_path, row("bad.patch", ">=19"), row("gone.patch", ">=19"), patches=("a",))
    assert [
        line
        for line in ("bad.patch can't", "no file gone", "a.patch is in")
        if line not in caught.value.message
    ] == []


def test_a_patch_that_says_not_why_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mute.patch").write_text(patch("lib/a.js").replace("Why.", ""))
    with pytest.raises(PatchError, match=r"mute\.patch has no text below its Subject"):
        series(tmp_path, row("mute.patch", ">=19"), patches=())


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match="No such file"):
        load(tmp_path / "nowhere")


def test_every_folder_of_patches_here_is_a_series_and_every_file_belongs_to_one() -> None:
    patches = CHECKOUT / "patches"
    if not patches.is_dir():
        pytest.skip("this checkout has no patches")
    for path in patches.iterdir():
        assert load(path).entries, path  # load() tells of files that the list leaves out


NATIVE = {"src/node_provider.d": b"probe gc__start();", "configure.py": b"add('--with-dtrace')"}
UPSTREAMED = {
    "src/node_provider.d": b"probe dc__publish();",
    "src/node_usdt.h": b"",
    "configure.py": b"--with-dtrace",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="neither"),
        pytest.param({"configure.py": b"--with-dtrace"}, None, id="a flag alone"),
        pytest.param(NATIVE, Provider.NATIVE, id="18 and older"),
        pytest.param(
            {**NATIVE, "configure.py": b"", "configure": b"--with-dtrace"}, Provider.NATIVE, id="much older"
        ),
        pytest.param(UPSTREAMED, Provider.UPSTREAMED, id="upstream's new one"),
        pytest.param({"src/node_usdt.h": b""}, Provider.UPSTREAMED, id="part of upstream's new one"),
        pytest.param({**NATIVE, "configure.py": b""}, Provider.UPSTREAMED, id="probes without the flag"),
    ],
)
def test_a_provider_is_recognised_by_content(files: dict[str, bytes], expected: Provider | None) -> None:
    prefetched = {path: files.get(path) for path in PATHS}
    assert find_provider(prefetched.__getitem__) == expected
