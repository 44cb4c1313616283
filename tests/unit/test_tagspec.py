"""Which tags words choose."""

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
def test_words_choose_tags_in_order(text: str | None, since: str | None, expected: list[str]) -> None:
    assert chosen(text, since) == expected


def test_a_named_tag_that_is_not_there_is_told_and_not_in_the_way() -> None:
    selection = TagSpec.parse("v22.1.0,v22.99.0").select(TAGS)
    assert (selection.tags, selection.missing) == ((Tag(22, 1, 0),), (Tag(22, 99, 0),))


@pytest.mark.parametrize("text", ["v21.*", ">=30", ">=20,<20", "v0.12.18"])
def test_words_that_mean_nothing_are_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="There is no tag for"):
        TagSpec.parse(text, "v18.0.0").select(TAGS)


def test_a_repository_without_releases_is_told_as_such() -> None:
    with pytest.raises(UsageError, match="no release tags"):
        TagSpec.parse("all").select([])


@pytest.mark.parametrize(
    "text", ["", ",", "v22.1.0,", "main", "v22", ">=", "=>20", "$(id)", "v22.1.0 v24.0.0"]
)
def test_other_words_are_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        TagSpec.parse(text)


def test_since_takes_a_tag() -> None:
    with pytest.raises(UsageError, match="--since: 'v22' is no tag"):
        TagSpec.parse(None, "v22")
