"""Selection of tags by --tags, --since and --pre."""

from __future__ import annotations

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Tag
from nodekiln.verify.tagspec import TagSpec

TAGS = [
    Tag.parse(text)
    for text in (
        *("v0.12.18", "v16.20.2", "v18.0.0", "v18.20.8", "v20.0.0", "v20.19.2"),
        *("v22.1.0", "v22.20.0", "v24.0.0", "v24.1.0"),
    )
]


def chosen(text: str | None = None, since: str | None = None) -> list[str]:
    return [str(tag) for tag in TagSpec.parse(text, since).select(TAGS).tags]


@pytest.mark.parametrize(
    ("text", "since", "expected"),
    [
        (None, None, ["v18.20.8", "v20.19.2", "v22.20.0", "v24.1.0"]),
        ("latest-per-major", None, ["v0.12.18", "v16.20.2", "v18.20.8", "v20.19.2", "v22.20.0", "v24.1.0"]),
        ("all", None, [str(tag) for tag in TAGS]),
        (None, "v22.20.0", ["v22.20.0", "v24.0.0", "v24.1.0"]),
        ("latest-per-major", "20.0.0", ["v20.19.2", "v22.20.0", "v24.1.0"]),
        ("v22.*", None, ["v22.1.0", "v22.20.0"]),
        ("2?.1*.*", None, ["v20.19.2", "v22.1.0", "v24.1.0"]),
        ("v24.0.0,18.0.0", None, ["v18.0.0", "v24.0.0"]),
        (" v24.0.0 , v24.* ", None, ["v24.0.0", "v24.1.0"]),
        (">=20,<24", None, ["v20.0.0", "v20.19.2", "v22.1.0", "v22.20.0"]),
        (">=20.1,<=22", None, ["v20.19.2", "v22.1.0", "v22.20.0"]),
        (">22", None, ["v24.0.0", "v24.1.0"]),
        ("<1", None, ["v0.12.18"]),
        ("=18", None, ["v18.0.0", "v18.20.8"]),
        ("v0.12.18,>=22,<24,v24.1.0", None, ["v0.12.18", "v22.1.0", "v22.20.0", "v24.1.0"]),
    ],
)
def test_select_returns_matching_tags_in_order(
    text: str | None, since: str | None, expected: list[str]
) -> None:
    assert chosen(text, since) == expected


def test_select_of_unknown_tag_lists_it_as_missing() -> None:
    selection = TagSpec.parse("v22.1.0,v22.99.0").select(TAGS)
    assert (selection.tags, selection.missing) == ((Tag(22, 1, 0),), (Tag(22, 99, 0),))


@pytest.mark.parametrize("text", ["v21.*", ">=30", ">=20,<20", "v0.12.18"])
def test_select_without_match_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="No tag matches"):
        TagSpec.parse(text, "v18.0.0").select(TAGS)


def test_select_without_releases_reports_it() -> None:
    with pytest.raises(UsageError, match="no release tags"):
        TagSpec.parse("all").select([])


@pytest.mark.parametrize(
    "text", ["", ",", "v22.1.0,", "main", "v22", ">=", "=>20", "$(id)", "v22.1.0 v24.0.0"]
)
def test_parse_of_invalid_words_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        TagSpec.parse(text)


def test_since_requires_a_tag() -> None:
    with pytest.raises(UsageError, match="--since: 'v22' is not a tag"):
        TagSpec.parse(None, "v22")


PRE = [
    Tag.parse(text, pre=True) for text in ("v26.5.0", "v26.6.0-rc.1", "v27.0.0-alpha.2", "v27.0.0-alpha.10")
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ["v26.5.0", "v26.6.0-rc.1", "v27.0.0-alpha.10"]),
        ("v27.0.0-alpha.2", ["v27.0.0-alpha.2"]),
        ("v27.*", ["v27.0.0-alpha.2", "v27.0.0-alpha.10"]),
        (">=26,<27", ["v26.5.0", "v26.6.0-rc.1"]),
    ],
)
def test_select_with_pre_includes_pre_releases(text: str | None, expected: list[str]) -> None:
    assert [str(tag) for tag in TagSpec.parse(text, pre=True).select(PRE).tags] == expected


def test_pre_release_is_older_than_its_release() -> None:
    tags = [Tag(27, 0, 0), Tag(27, 0, 0, "rc.1"), Tag(27, 0, 0, "alpha.10"), Tag(27, 0, 0, "alpha.9")]
    assert [str(tag) for tag in sorted(tags)] == [
        "v27.0.0-alpha.9",
        "v27.0.0-alpha.10",
        "v27.0.0-rc.1",
        "v27.0.0",
    ]
    assert tags[1].release == tags[0]


@pytest.mark.parametrize("text", ["v27.0.0-", "v27.0.0-nightly", "v27.0.0-alpha", "v27.0.0-alpha.01"])
def test_tag_of_unknown_stage_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        Tag.parse(text, pre=True)
