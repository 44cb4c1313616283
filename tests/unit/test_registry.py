"""The registry of changes: change.toml, the patches that it lists, and selections of changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.changes.hooks import PATHS, Provider, find_provider
from nodekiln.changes.registry import FILE, Change, Registry, describe
from nodekiln.core.errors import PatchError, UsageError
from nodekiln.core.recipe import Recipe, Tag, TagRange
from tests.change_folders import PATCHES

HEAD = 'name = "mine"\nsummary = "A change"\nwhy = "So."\ntags = ">=19"\n'


def patch(path: str) -> str:
    head = f"Subject: Change {path}\n\nWhy.\n\ndiff --git a/{path} b/{path}\n"
    return f"{head}--- a/{path}\n+++ b/{path}\n@@ -1 +1,2 @@\n a\n+b\n"


def row(file: str, tags: str, *more: str) -> str:
    return "\n".join(["[[patch]]", f'file = "{file}"', f'tags = "{tags}"', 'why = "so"', *more, ""])


def change(
    folder: Path, *rows: str, head: str = HEAD, patches: tuple[str, ...] = ("a", "b", "c"), name: str = "mine"
) -> Change:
    home = folder / name
    home.mkdir(exist_ok=True)
    for stem in patches:
        (home / f"{stem}.patch").write_text(patch(f"lib/{stem}.js"))
    (home / FILE).write_text("\n".join([head, *rows]))
    return Registry((folder,)).get(name)


def test_select_returns_one_patch_of_each_slot_in_listed_order(tmp_path: Path) -> None:
    made = change(
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
        "v22.2.9": ["mine/c.patch", "mine/a.patch"],
        "v22.3.0": ["mine/b.patch", "mine/c.patch"],
    }
    assert made.paths(Tag(30, 0, 0)) == ("lib/b.js", "lib/c.js")


@pytest.mark.parametrize("text", ["", "19", ">=19 or <3", ">=x"])
def test_tag_range_with_invalid_text_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        TagRange.parse(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=19", "v19.0.0", "v18.20.8"),
        (">=19,<20.8", "v20.7.9", "v20.8.0"),
        ("==22.*", "v22.20.0", "v23.0.0"),
        ("!=22.1.0", "v22.1.1", "v22.1.0"),
        ("~=20.3", "v20.9.0", "v21.0.0"),
    ],
)
def test_tag_range_contains_matching_tags_only(text: str, inside: str, outside: str) -> None:
    tags = TagRange.parse(text)
    assert (Tag.parse(inside) in tags, Tag.parse(outside) in tags) == (True, False)


@pytest.mark.parametrize("tags", [">=22", "==20.*", ">=18,<18.5"])
def test_change_for_any_range_of_tags_is_valid(tmp_path: Path, tags: str) -> None:
    head = HEAD.replace(">=19", tags)
    assert change(tmp_path, row("a.patch", tags), head=head, patches=("a",)).entries


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row("a.patch", ">=20")], "a.patch has no patch for v19.0.0"),
        ([row("a.patch", ">=19,<24")], "a.patch has no patch for v24.0.0"),
        (
            [row("a.patch", ">=19,<20", 'slot = "s"'), row("b.patch", ">=21", 'slot = "s"')],
            "s has no patch for v20.0.0",
        ),
        (
            [row("a.patch", ">=19,<22", 'slot = "s"'), row("b.patch", ">=21", 'slot = "s"')],
            "s has 2 patches for v21.0.0",
        ),
        ([row("a.patch", ">=19"), row("b.patch", ">=19,<19")], "mine/b.patch serves no tag at all"),
        ([row("missing.patch", ">=19")], "missing.patch: no such file"),
        ([row("../a.patch", ">=19")], "../a.patch: no such file"),
        ([row("a.patch", "19")], "a.patch: tags = '19' is invalid"),
        ([row("a.patch", ">=19"), row("a.patch", ">=19")], "lists a.patch 2 times"),
        ([row("a.patch", ">=19", "extra = 1")], "extra"),
        ([row("a.patch", ">=19", "slot = 1")], "slot"),
        (['[[patch]]\nfile = "a.patch"'], "tags"),
        (["[patch]\n"], "patch"),
        (["other = 1\n"], "other"),
        (["[[patch\n"], "change.toml: "),
        ([], "a.patch is in the folder and not in change.toml"),
        (['rewrite = "gone"'], "'gone' is unknown"),
        (['conflicts = "usdt"'], "conflicts"),
        (['[configure]\nargs = ["shared"]'], "shared"),
    ],
)
def test_invalid_change_reports_the_problem(tmp_path: Path, rows: list[str], problem: str) -> None:
    with pytest.raises(PatchError) as caught:
        _ = change(tmp_path, *rows).entries
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mine"', '"other"'),
        ('"A change"', '" "'),
        ('"So."', '""'),
        ('">=19"', '"x"'),
    ],
)
def test_invalid_field_of_a_change_is_refused(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(PatchError) as caught:
        change(tmp_path, head=HEAD.replace(old, new))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["graft", "my-linux", "cfg012345", "A", "a.b", "x" * 41])
def test_change_name_that_confuses_names_of_binaries_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PatchError, match="not allowed"):
        change(tmp_path, head=HEAD.replace("mine", name), name=name, patches=())


def test_every_problem_of_a_change_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bad.patch").write_text("no patch")
    with pytest.raises(PatchError) as caught:
        _ = change(tmp_path, row("bad.patch", ">=19"), row("gone.patch", ">=19"), patches=("a",)).entries
    problems = ("mine/bad.patch", "gone.patch: no such file", "a.patch is in")
    assert [problem for problem in problems if problem not in caught.value.message] == []


def test_patch_without_a_text_below_its_subject_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mute.patch").write_text(patch("lib/a.js").replace("Why.", ""))
    with pytest.raises(PatchError, match=r"mute\.patch: it has no text below its Subject"):
        _ = change(tmp_path, row("mute.patch", ">=19"), patches=()).entries


def test_unknown_change_suggests_a_known_one() -> None:
    with pytest.raises(UsageError) as caught:
        Registry((PATCHES,)).get("no-backpresure")
    assert "no-backpressure" in str(caught.value)


def test_missing_folder_of_changes_has_no_changes(tmp_path: Path) -> None:
    assert Registry((tmp_path / "nowhere",)).names == ()


def test_invalid_change_stops_only_recipes_that_use_it(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE).write_text("[")
    registry = Registry((PATCHES, tmp_path))
    assert registry.get("usdt").entries
    assert "broken" in describe(registry)
    with pytest.raises(PatchError):
        registry.get("broken")


def test_same_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    change(tmp_path, head=HEAD.replace("mine", "usdt"), name="usdt", patches=())
    with pytest.raises(PatchError, match="usdt"):
        _ = Registry((PATCHES, tmp_path)).names


def test_built_in_changes_are_valid_and_standard() -> None:
    registry = Registry((PATCHES,))
    assert registry.standard == registry.names == ("no-backpressure", "usdt")
    assert all(registry.get(name).entries is not None for name in registry.names)
    assert registry.keeps_backpressure(Recipe(tag=Tag(22, 0, 0), changes=("usdt",)))
    assert not registry.keeps_backpressure(Recipe(tag=Tag(22, 0, 0), changes=("no-backpressure",)))


def test_combinations_leave_out_conflicting_changes(tmp_path: Path) -> None:
    change(tmp_path, 'conflicts = ["usdt"]', patches=())
    registry = Registry((PATCHES, tmp_path))
    assert registry.combinations(("usdt", "mine")) == ((), ("mine",), ("usdt",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("usdt", ("usdt",)),
        ("no-backpressure-usdt", ("no-backpressure", "usdt")),
        ("usdt-usdt", None),
        ("no", None),
    ],
)
def test_parse_names_splits_a_recipe_name(text: str, expected: tuple[str, ...] | None) -> None:
    assert Registry((PATCHES,)).parse_names(text) == expected


@pytest.mark.parametrize("label", ["usdt", "no", "backpressure"])
def test_label_like_a_change_is_refused(label: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        Registry((PATCHES,)).check_label(label)


def test_digest_changes_with_any_file_of_the_folder(tmp_path: Path) -> None:
    before = change(tmp_path, row("a.patch", ">=19"), patches=("a",)).sha256
    (tmp_path / "mine" / "a.patch").write_text(patch("lib/other.js"))
    assert Registry((tmp_path,)).get("mine").sha256 != before


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
        pytest.param({"src/node_provider_linux.h": b""}, Provider.UPSTREAMED, id="upstream's header alone"),
        pytest.param({**NATIVE, "configure.py": b""}, Provider.UPSTREAMED, id="probes without the flag"),
    ],
)
def test_find_provider_goes_by_content(files: dict[str, bytes], expected: Provider | None) -> None:
    prefetched = {path: files.get(path) for path in PATHS}
    assert find_provider(prefetched.__getitem__) == expected
