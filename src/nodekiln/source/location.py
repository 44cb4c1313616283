"""Where a repository is: which words of a user's are taken, and how they are shown without their secrets.

Starts nothing and knows no mirror.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from nodekiln.core.errors import UsageError

OFFICIAL = "https://github.com/nodejs/node.git"

_SCP = re.compile(r"[\w.][\w.+-]*@[\w.][\w.-]*:[^-].*", re.ASCII)
_TRANSPORT = re.compile(r"[\w.+-]*::", re.ASCII)
_USERINFO = re.compile(r"(?<=://)[^/\s]+(?=@)")
_QUERY = re.compile(r"""(://[^\s?]*\?)\S+?(?=/?['")>\]]*[.,:;]*(?:\s|$))""")
"""To the end of the word, but for what closes a quotation: git and curl put URLs into quotes."""
_ALLOWED = "Take https://host/path, ssh://user@host/path, user@host:path, file:///path or a folder."


@dataclass(frozen=True, slots=True)
class Location:
    """A repository: `url` is for git, `shown` for people, and refs and remotes are named after `key`."""

    url: str
    key: str
    shown: str

    def hide(self, text: str) -> str:
        """`text` (something that git said) without this location's secrets, or those of any other URL."""
        return _mask(text.replace(self.url, self.shown))

    @property
    def is_gone(self) -> bool:
        """Whether it is a place on this machine that is not there: a disk that is not mounted, say."""
        path = unquote(self.url.removeprefix("file://")) if self.url.startswith("file://") else self.url
        return path.startswith("/") and not Path(path).exists()


def parse_location(text: str, *, base: Path) -> Location:
    """Takes https, ssh and file URLs, user@host:path, and folders, relative ones against `base`.

    A path that leads nowhere is taken as well: what was fetched from there is here, and its disk may come
    back. Raises UsageError for a single word that is no folder, and for anything else: http:// and git:// can
    be altered on their way, ext:: and its like run commands, and a word that starts with a dash is an option
    to git or to ssh.
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
        _ = parts.port  # is checked where it is asked for
    except ValueError as error:
        raise _refusal(text, f"{error}.") from None
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise _refusal(text, "A file URL has three slashes.")
        return _location(text, text)
    if parts.scheme not in ("https", "ssh") or not host or host.startswith("-") or user.startswith("-"):
        raise _refusal(text)
    return _location(text, _shown(parts))


def _shown(parts: SplitResult) -> str:
    """A user name is a token as often as not over https (https://TOKEN@host); over ssh it is a name."""
    userinfo, at, host = parts.netloc.rpartition("@")
    if parts.scheme == "https":
        userinfo = "***" if at else ""
    elif ":" in userinfo:
        userinfo = userinfo.partition(":")[0] + ":***"
    query = "***" if parts.query else ""
    return parts._replace(netloc=userinfo + at + host, query=query).geturl()


def _location(url: str, shown: str) -> Location:
    return Location(url, hashlib.sha256(url.encode()).hexdigest()[:12], shown)


def _refusal(text: str, why: str = "") -> UsageError:
    return UsageError(f"{_mask(text)!r} can't be taken as a repository. {why}".rstrip(), remedy=_ALLOWED)


def _mask(text: str) -> str:
    """Without user names, passwords and queries of URLs: git shows some of a URL without the others."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("***", text))
