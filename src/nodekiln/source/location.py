"""Parse the location of a repository, and format it without its secrets. Pure; knows no mirror."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from nodekiln.core.errors import UsageError

OFFICIAL = "https://github.com/nodejs/node.git"

_SCP = re.compile(r"[\w.][\w.+-]*@[\w.][\w.-]*:[^-].*", re.ASCII)
_TRANSPORT = re.compile(r"[\w.+-]*::", re.ASCII)
_USERINFO = re.compile(r"(?<=://)[^/\s]+(?=@)")
_QUERY = re.compile(r"""(://[^\s?]*\?)\S+?(?=/?['")>\]]*[.,:;]*(?:\s|$))""")
"""Up to the end of the word, without a closing quote: git and curl put URLs into quotes."""
_UP_TO_LAST_AT = re.compile(r"(?<=://)\S+(?=@)")
_HELPER = """!printf 'username=%s\\npassword=%s\\n' "$NODEKILN_GIT_USER" "$NODEKILN_GIT_PASSWORD"; :"""
"""A credential helper: git runs it in a shell, with one more word. The values are never part of the text."""
_ALLOWED = "Use https://host/path, ssh://user@host/path, user@host:path, file:///path or a folder."


@dataclass(frozen=True, slots=True)
class Location:
    """A repository: `url` is for git, `shown` for messages, `key` names its refs and remote in the mirror.

    `url` has neither user nor password for https: other users see the arguments of git, and may read the
    mirror's configuration. `environment` has them.
    """

    url: str
    key: str
    shown: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def hide(self, text: str) -> str:
        """Return `text` (output of git) with the secrets of this location and of any other URL masked."""
        return _mask(text.replace(self.url, self.shown))

    @property
    def is_gone(self) -> bool:
        """True if it is a local path that does not exist, such as a disk that is not mounted."""
        path = unquote(self.url.removeprefix("file://")) if self.url.startswith("file://") else self.url
        return path.startswith("/") and not Path(path).exists()


def parse_location(text: str, *, base: Path) -> Location:
    """Parse an https, ssh or file URL, user@host:path, or a folder (relative ones against `base`).

    A path that does not exist is accepted: the mirror has what was fetched from it, and its disk may be
    mounted again. Raises UsageError for a single word that is not a folder, and for everything else: http://
    and git:// can be altered in transit, ext:: and the like run commands, and a leading dash makes an option
    of git or ssh.
    """
    if not text.strip() or text.startswith("-") or not text.isprintable() or _TRANSPORT.match(text):
        raise _refusal(text)
    if "://" in text:
        return _parse_url(text)
    if ":" in text.partition("/")[0]:
        if not _SCP.fullmatch(text):
            raise _refusal(text)
        return _location(text, text)
    folder = (base / text).resolve()
    if not folder.is_dir() and (folder.exists() or "/" not in text):
        raise _refusal(text, f"{folder} is not a folder.")
    return _location(str(folder), str(folder))


def _parse_url(text: str) -> Location:
    try:
        parts = urlsplit(text)
        host, user = unquote(parts.hostname or ""), unquote(parts.username or "")
        _ = parts.port  # urlsplit validates the port on access
    except ValueError as error:
        raise _refusal(text, "" if "@" in text else f"{error}.") from None  # it may quote a password
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise _refusal(text, "A file URL has three slashes (file:///path).")
        return _location(text, text)
    if parts.scheme not in ("https", "ssh") or not host or host.startswith("-") or user.startswith("-"):
        raise _refusal(text)
    if not parts.username and parts.port and "@" in parts.path:
        raise _refusal(text, "A slash in a password is written %2F, and an @ in a path %40.")
    userinfo, at, address = parts.netloc.rpartition("@")
    environment: Mapping[str, str] = {}
    if parts.scheme == "https":
        environment = _credentials(parts, f"https://{address}") if at else {}
        userinfo = at = ""
    userinfo = userinfo.partition(":")[0]  # ssh takes no password
    bare = parts._replace(netloc=userinfo + at + address)
    shown = bare._replace(query="***" if parts.query else "")
    return _location(bare.geturl(), shown.geturl(), environment)


def _credentials(parts: SplitResult, origin: str) -> dict[str, str]:
    """Return the environment in which git uses a URL's user and password for `origin`, and for no other.

    Without a password the user's credential helpers are asked for it.
    """
    user, password = unquote(parts.username or ""), parts.password and unquote(parts.password)
    if not f"{user}{password or ''}".isprintable():
        raise _refusal(parts.geturl())
    if parts.password is None:
        return _git_settings((f"credential.{origin}.username", user))
    key = f"credential.{origin}.helper"  # an empty one makes git forget the user's own
    return {
        **_git_settings((key, ""), (key, _HELPER)),
        "NODEKILN_GIT_USER": user,
        "NODEKILN_GIT_PASSWORD": password or "",
    }


def _git_settings(*settings: tuple[str, str]) -> dict[str, str]:
    """Return the variables that git (2.31) reads settings from, so that they are not in its arguments."""
    made = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        made |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return made


def _location(url: str, shown: str, environment: Mapping[str, str] | None = None) -> Location:
    return Location(url, hashlib.sha256(url.encode()).hexdigest()[:12], shown, environment or {})


def _refusal(text: str, why: str = "") -> UsageError:
    masked = _QUERY.sub(r"\1***", _UP_TO_LAST_AT.sub("***", text))  # a slash may be part of a password
    return UsageError(f"Invalid repository {masked!r}. {why}".rstrip(), remedy=_ALLOWED)


def _mask(text: str) -> str:
    """Mask user names, passwords and queries of all URLs; git sometimes prints only part of a URL."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("***", text))
