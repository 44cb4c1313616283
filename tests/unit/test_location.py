"""Which words are taken as a repository, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.core.errors import UsageError
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
def test_other_locations_are_refused_with_the_allowed_forms(text: str, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", ["nothing", "a-file", "./a-file"])
def test_word_or_file_that_is_no_folder_is_refused_by_its_full_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()

    with pytest.raises(UsageError, match=rf"{(tmp_path / name).resolve()} is not a folder"):
        parse_location(name, base=tmp_path)


@pytest.mark.parametrize(
    "text", ["/no/such/node.git", "no/such/node.git", "../node.git", "file:///no/such/node.git"]
)
def test_path_that_leads_nowhere_is_a_repository_that_is_gone(text: str, tmp_path: Path) -> None:
    assert parse_location(text, base=tmp_path).is_gone


@pytest.mark.parametrize("text", [".", "file:///", OFFICIAL, "git@example.org:/no/such/node.git"])
def test_existing_and_remote_locations_are_not_gone(text: str, tmp_path: Path) -> None:
    assert not parse_location(text, base=tmp_path).is_gone


@pytest.mark.parametrize(
    ("text", "url", "user", "password"),
    [
        ("https://me:geheim@example.org/n.git", "https://example.org/n.git", "me", "geheim"),
        ("https://me:a%2Fb@example.org:8443/n.git", "https://example.org:8443/n.git", "me", "a/b"),
        ("https://a@b:geheim@example.org/n.git", "https://example.org/n.git", "a@b", "geheim"),
        ("https://geheim:@example.org/n.git", "https://example.org/n.git", "geheim", ""),
        ("ssh://me:geheim@example.org/n.git", "ssh://me@example.org/n.git", None, None),
    ],
)
def test_user_and_password_are_only_in_the_environment(
    text: str, url: str, user: str | None, password: str | None, tmp_path: Path
) -> None:
    location = parse_location(text, base=tmp_path)

    assert (location.url, location.shown) == (url, url)
    assert "geheim" not in repr(location)
    found = [location.environment.get(f"NODEKILN_GIT_{name}") for name in ("USER", "PASSWORD")]
    assert found == [user, password]


def test_user_without_password_leaves_credential_helpers_in_place(tmp_path: Path) -> None:
    location = parse_location("https://me@example.org/n.git", base=tmp_path)
    assert location.environment == {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "credential.https://example.org.username",
        "GIT_CONFIG_VALUE_0": "me",
    }


def test_query_reaches_git_and_is_not_shown(tmp_path: Path) -> None:
    location = parse_location("https://example.org/n.git?token=geheim", base=tmp_path)
    assert location.url == "https://example.org/n.git?token=geheim"
    assert location.shown == "https://example.org/n.git?***"


def test_secrets_are_hidden_in_what_git_reports(tmp_path: Path) -> None:
    location = parse_location("https://me:geheim@example.org/n.git", base=tmp_path)

    told = location.hide(f"unable to access '{location.url}/': see https://you:privat@example.com/x")

    assert told == "unable to access 'https://example.org/n.git/': see https://***@example.com/x"


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        (
            "unable to access 'https://example.org/n.git?token=geheim/': Could not resolve host: example.org",
            "unable to access 'https://example.org/n.git?***/': Could not resolve host: example.org",
        ),
        ("Authentication failed for 'https://me@example.org/n.git?a='b&c=geheim/'", None),
        ("see https://example.org/n.git?token=geheim", "see https://example.org/n.git?***"),
        ("see (https://example.org/?t=geheim).", "see (https://example.org/?***)."),
        ("see https://a@b:geheim@example.com/x", "see https://***@example.com/x"),
        (
            "is https://example.org/ up? geheim is no secret here",
            "is https://example.org/ up? geheim is no secret here",
        ),
    ],
)
def test_secrets_are_hidden_in_what_git_left_of_a_url(said: str, hidden: str | None, tmp_path: Path) -> None:
    """git prints a URL without its user, so the whole URL is not found."""
    location = parse_location("https://me:geheim@example.org/n.git?token=geheim", base=tmp_path)

    told = location.hide(said)

    if hidden is None:
        assert "geheim" not in told
    else:
        assert told == hidden


@pytest.mark.parametrize(
    "text",
    [
        "http://me:geheim@example.org/n.git",
        "http://a@b:geheim@example.org/n.git",
        "http://example.org/n.git?token=geheim",
        "https://me:geheim/x@example.org/n.git",
        "https://me:12/geheim@example.org/n.git",
        "https://me:gehe%0Aim/geheim@example.org/n.git",
        "https://me:%0Ageheim@example.org/n.git",
    ],
)
def test_secrets_are_hidden_in_a_refusal(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_location(text, base=tmp_path)

    assert "geheim" not in str(refusal.value)


def test_keys_are_short_and_report_urls_apart(tmp_path: Path) -> None:
    keys = {parse_location(f"https://example.org/{name}", base=tmp_path).key for name in ("a", "a.git", "b")}

    assert sorted(map(len, keys)) == [12, 12, 12]
