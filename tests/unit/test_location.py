"""Which words are taken as a repository, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.errors import UsageError
from nodekiln.source.location import OFFICIAL, parse_location


@pytest.mark.parametrize(
    "text",
    [
        OFFICIAL,
        "https://example.org:8443/node.git",
        "ssh://git@example.org/node.git",
        "ssh://example.org:2222/~me/node.git",
        "git@example.org:nodejs/node.git",
        "file:///srv/node.git",
    ],
)
def test_urls_reach_git_as_they_are(text: str, tmp_path: Path) -> None:
    location = parse_location(text, base=tmp_path)

    assert (location.url, location.shown) == (text, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "http://example.org/node.git",
        "git://example.org/node.git",
        "ftp://example.org/node.git",
        "ext::sh -c touch% here",
        "fd::7",
        "::x",
        "https::https://example.org/node.git",
        "-oProxyCommand=x",
        "--upload-pack=x",
        "ssh://-oProxyCommand=x/node.git",
        "ssh://%2doProxyCommand=x/node.git",
        "ssh://-l@example.org/node.git",
        "ssh:///node.git",
        "https://",
        "https://example.org:99999/node.git",
        "https://[::1/node.git",
        "git@-oProxyCommand=x:node.git",
        "-x@example.org:node.git",
        "git@example.org:-x",
        "example.org:node.git",
        "file://example.org/node.git",
        "file://node.git",
        "https://example.org/\nnode.git",
        "folder\x1b[2J",
        "folder\0",
    ],
)
def test_all_else_is_refused_with_what_is_allowed(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_location(text, base=tmp_path)

    assert "https://host/path" in str(refusal.value.remedy)
    assert refusal.value.message.isprintable()


def test_folders_are_taken_against_the_base_and_made_absolute(tmp_path: Path) -> None:
    folder = tmp_path / "my node"
    folder.mkdir()

    relative = parse_location("./my node", base=tmp_path)
    absolute = parse_location(str(folder), base=Path("/"))

    assert relative.url == str(folder.resolve())
    assert relative == absolute


@pytest.mark.parametrize("name", ["nothing", "a-file"])
def test_a_path_that_is_no_folder_is_refused_by_its_full_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()

    with pytest.raises(UsageError, match=rf"{tmp_path.resolve()}/{name} is not a folder"):
        parse_location(name, base=tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:geheim@example.org/n.git", "https://***@example.org/n.git"),
        ("https://geheim@example.org:8443/n.git", "https://***@example.org:8443/n.git"),
        ("https://a@b:geheim@example.org/n.git", "https://***@example.org/n.git"),
        ("https://example.org/n.git?token=geheim", "https://example.org/n.git?***"),
        ("ssh://me:geheim@example.org/n.git", "ssh://me:***@example.org/n.git"),
    ],
)
def test_secrets_reach_git_and_are_not_shown(text: str, shown: str, tmp_path: Path) -> None:
    location = parse_location(text, base=tmp_path)

    assert (location.url, location.shown) == (text, shown)


def test_secrets_are_hidden_in_what_git_says(tmp_path: Path) -> None:
    location = parse_location("https://me:geheim@example.org/n.git", base=tmp_path)

    told = location.hide(f"unable to access '{location.url}/': see https://you:privat@example.com/x")

    assert told == "unable to access 'https://***@example.org/n.git/': see https://***@example.com/x"


def test_secrets_are_hidden_in_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_location("http://me:geheim@example.org/n.git", base=tmp_path)

    assert "geheim" not in str(refusal.value)


def test_keys_are_short_and_tell_urls_apart(tmp_path: Path) -> None:
    keys = {parse_location(f"https://example.org/{name}", base=tmp_path).key for name in ("a", "a.git", "b")}

    assert sorted(map(len, keys)) == [12, 12, 12]
