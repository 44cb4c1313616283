"""Tags, recipes and names."""

from __future__ import annotations

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Recipe, Tag, check_name, parse_argument_lines, parse_arguments

V22 = Tag(22, 20, 0)


@pytest.mark.parametrize("text", ["v22.20.0", "22.20.0"])
def test_tag_with_or_without_v_is_parsed(text: str) -> None:
    assert str(Tag.parse(text)) == "v22.20.0"


@pytest.mark.parametrize(
    "text",
    [
        *("", "v", "22", "v22.20", "v22.20.0.1", "v22.20.0-rc.1", "V22.20.0", "v022.20.0", "v22.20.00"),
        *(
            "v22.20.0\n",
            " v22.20.0",
            "--help",
            "-v22.20.0",
            "v22.20.0/../x",
            "latest",
            "v\uff12\uff12.20.0",
            "v22,20,0",
        ),
        *("v99999.0.0", "v22.20.0;ls", "refs/tags/v22.20.0"),
    ],
)
def test_invalid_tag_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a tag"):
        Tag.parse(text)


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (Recipe(tag=V22), "v22.20.0"),
        (
            Recipe(
                tag=V22,
                changes=("no-backpressure",),
            ),
            "v22.20.0-no-backpressure",
        ),
        (
            Recipe(
                tag=V22,
                changes=("no-backpressure", "usdt"),
            ),
            "v22.20.0-no-backpressure-usdt",
        ),
        (Recipe(tag=V22, default_args=("--without-npm",)), "v22.20.0"),
        (Recipe(tag=V22, extra_args=("--debug",), label="slow"), "v22.20.0-slow"),
        (Recipe(tag=V22, extra_args=("--without-npm",)), "v22.20.0-cfgde22ae"),
        (Recipe(tag=V22, changes=("usdt",), graft=True), "v22.20.0-usdt-graft"),
        (
            Recipe(tag=V22, changes=("no-backpressure",), graft=True, platform="linux-arm64"),
            "v22.20.0-no-backpressure-graft-linux-arm64",
        ),
    ],
)
def test_name_lists_what_differs_from_the_release(recipe: Recipe, name: str) -> None:
    assert recipe.name == name
    assert check_name(name) == name


def test_tree_name_depends_on_configure_arguments_only() -> None:
    plain = Recipe(tag=V22)
    assert (
        plain.tree_name
        == Recipe(
            tag=V22,
            changes=("no-backpressure",),
        ).tree_name
        == "v22.20.0"
    )
    by_default = Recipe(tag=V22, default_args=("--without-npm",))
    by_hand = Recipe(tag=V22, extra_args=("--without-npm",))
    assert by_default.tree_name == by_hand.tree_name != plain.tree_name


@pytest.mark.parametrize("label", ["darwin", "", "a-b", "A", "graft", "../x", "a" * 25])
def test_invalid_label_is_refused(label: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        Recipe(tag=V22, extra_args=("--debug",), label=label)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "v22.20.0/..", "/etc", "-x", "v22.20.0-", "v22.20.0-A", "v22"]
)
def test_invalid_name_of_a_binary_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not the name"):
        check_name(name)


def test_parse_arguments_splits_like_a_shell() -> None:
    assert parse_arguments("--without-npm '--prefix=/opt/my node'") == (
        "--without-npm",
        "--prefix=/opt/my node",
    )


@pytest.mark.parametrize("text", ["'--open", "npm", "--prefix /opt", "--a=\x1b[1m"])
def test_invalid_configure_arguments_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--configure-args"):
        parse_arguments(text)


@pytest.mark.parametrize(
    "text", ["--debug", "--shared", "--enable-stat", "--dest-cpu=x64", "--cross", "--tag=x", "-h"]
)
def test_unsupported_configure_arguments_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--configure-args: {text} can't be built with"):
        parse_arguments(f"--gdb {text}")


@pytest.mark.parametrize("text", ["--debug-node", "--shared-zlib", "--no-cross-compiling", "--gdb", "-C"])
def test_similar_configure_arguments_are_accepted(text: str) -> None:
    assert parse_arguments(text) == (text,)


def test_configure_file_has_arguments_and_comments() -> None:
    text = "# what the distribution brings\n--shared-zlib\n\n  --with-intl=system-icu  \n"
    assert parse_argument_lines(text, "f") == ("--shared-zlib", "--with-intl=system-icu")
