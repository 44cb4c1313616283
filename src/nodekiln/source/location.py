"""Parse the location of a repository, and format it without its secrets. Pure; knows no mirror."""

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
"""Up to the end of the word, without a closing quote: git and curl put URLs into quotes."""
_ALLOWED = "Use https://host/path, ssh://user@host/path, user@host:path, file:///path or a folder."


@dataclass(frozen=True, slots=True)
class Location:
    """A repository: `url` is for git, `shown` for messages, `key` names its refs and remote in the mirror."""

    url: str
    key: str
    shown: str

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
        raise _refusal(text, f"{error}.") from None
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise _refusal(text, "A file URL has three slashes (file:///path).")
        return _location(text, text)
    if parts.scheme not in ("https", "ssh") or not host or host.startswith("-") or user.startswith("-"):
        raise _refusal(text)
    return _location(text, _shown(parts))


def _shown(parts: SplitResult) -> str:
    """Mask secrets; over https even the user name may be one (https://TOKEN@host), over ssh it is not."""
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
    return UsageError(f"Invalid repository {_mask(text)!r}. {why}".rstrip(), remedy=_ALLOWED)


def _mask(text: str) -> str:
    """Mask user names, passwords and queries of all URLs; git sometimes prints only part of a URL."""
    return _QUERY.sub(r"\1***", _USERINFO.sub("***", text))
