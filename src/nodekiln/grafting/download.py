"""Fetch files over HTTP, resuming partial downloads and never sending a password to another host.

urllib, not a library more: two plain GETs need neither sessions nor pools, and requests reads ~/.netrc and
the environment on its own.
"""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.files import hash_file
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Meter, Reporter
from nodekiln.grafting import gpg
from nodekiln.grafting.platforms import Platform

_TIMEOUT = 30
"""Seconds without a byte after which a server counts as gone."""
_ATTEMPTS = 3
_CHUNK = 2**18
_MEGA = 10**6
_AUTHORIZATION = "Authorization"


class UnreachableError(SourceError):
    """The server is unreachable or doesn't have the file; another origin may."""


class Server:
    """The files below one URL, which may name a user and a password."""

    def __init__(self, base: str, *, env: Mapping[str, str]) -> None:
        """`env` may name proxies (https_proxy, ...). Raises UsageError unless `base` is an http(s) URL."""
        if not _is_url(base):  # it may contain a password, so it isn't printed
            raise UsageError(
                "The mirror is no http(s) URL of a folder with releases.",
                remedy="One looks like https://nodejs.org/dist.",
            )
        parts = urlsplit(base)
        host = parts.netloc.rpartition("@")[2]
        self.base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        """The URL without user and password, for messages."""
        self._secret: str | None = None
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._secret = f"Basic {base64.b64encode(words.encode()).decode()}"
        proxies = {
            scheme: proxy
            for scheme in ("http", "https")
            if (proxy := env.get(f"{scheme}_proxy") or env.get(f"{scheme.upper()}_PROXY"))
        }
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _Redirects())

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a small file; raise UnreachableError, or SourceError if it exceeds `limit` bytes."""
        with self._open(path, 0) as answer:
            try:
                content = answer.read(limit + 1)
            except (OSError, http.client.HTTPException) as error:
                raise UnreachableError(f"{self.base}/{path} breaks off: {error}.") from None
        if len(content) > limit:
            raise SourceError(f"{self.base}/{path} has more than {limit} bytes, which is no such file.")
        return content

    def fetch(self, path: str, part: Path, meter: Meter) -> None:
        """Complete the file `part` from its current size; an interrupted download stays for the next run.

        Raises UnreachableError if nothing can be had, SourceError where the connection keeps breaking.
        """
        for _ in range(_ATTEMPTS):
            if self._fetch(path, part, meter):
                return
        raise SourceError(
            f"The download of {self.base}/{path} broke off after {part.stat().st_size} bytes.",
            remedy="The same command goes on from there.",
        )

    def _fetch(self, path: str, part: Path, meter: Meter) -> bool:
        """Return True if the file is complete."""
        have = part.stat().st_size if part.exists() else 0
        with self._open(path, have) as answer:
            if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink()  # longer than the file, or just as long: the next download's hash decides
                return False
            resumed = answer.status == http.client.PARTIAL_CONTENT and have > 0
            done = have if resumed else 0
            length = answer.headers.get("Content-Length", "")
            total = done + int(length) if length.isascii() and length.isdigit() else None
            with part.open("ab" if resumed else "wb") as file:
                while chunk := _next(answer):
                    file.write(chunk)
                    done += len(chunk)
                    meter.update(done // _MEGA, None if total is None else -(-total // _MEGA), "MB")
        return total is None or done >= total

    @contextmanager
    def _open(self, path: str, start: int) -> Iterator[http.client.HTTPResponse]:
        url = f"{self.base}/{path}"
        request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})  # noqa: S310 (http(s))
        if self._secret is not None:
            request.add_unredirected_header(_AUTHORIZATION, self._secret)
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            answer = self._opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                with error:
                    raise UnreachableError(f"{url} answers {error.code} {error.reason}.") from None
            answer = error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise UnreachableError(f"{url} can't be reached: {why}.") from None
        with answer:
            yield answer


def _is_url(base: str) -> bool:
    try:
        parts = urlsplit(base)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return False
    whole = base.isascii() and base.isprintable() and " " not in base
    return whole and parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query


def _next(answer: http.client.HTTPResponse) -> bytes:
    """Return the next bytes; none at the end or if the connection broke (distinguished by the length)."""
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException):
        return b""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect; the password goes along within the same scheme, host and port only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
            raise urllib.error.URLError(f"it redirects to {new.scheme}, which is not secure")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        secret = req.unredirected_hdrs.get(_AUTHORIZATION)
        if request is not None and secret is not None and old[:2] == new[:2]:
            request.add_unredirected_header(_AUTHORIZATION, secret)
        return request


OFFICIAL = "https://nodejs.org/dist"
_SUMS = "SHASUMS256.txt"
_SMALL = 2**20
_LINE = re.compile(r"([0-9a-f]{64})[ \t]+\*?(\S+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Download:
    """A downloaded and checked file: an archive, or the bare binary."""

    file: Path
    origin: str
    checks: tuple[str, ...]


def fetch(
    tag: Tag,
    platform: Platform,
    server: Server,
    *,
    folder: Path,
    signers: Iterable[str],
    env: Mapping[str, str],
    reporter: Reporter,
) -> Download:
    """Fetch the release into `folder`. Raises UnreachableError if the server can't provide it.

    SourceError: what came is not what SHASUMS256.txt names, and is removed; or its signature is wrong.
    """
    name = f"win-{platform.cpu}/node.exe" if platform.os == "win" else f"node-{tag}-{platform}.tar.xz"
    sums = server.read(f"{tag}/{_SUMS}", limit=_SMALL)
    wanted = _hash_in(sums.decode(errors="replace"), name, server)
    try:
        signature = server.read(f"{tag}/{_SUMS}.sig", limit=_SMALL)
    except UnreachableError:
        signed = f"signature not checked ({_SUMS}.sig is not there)"
    else:
        signed = gpg.check(sums, signature, known=signers, env=env)
    # Named by its hash, so that a partial download of another release is never resumed.
    part = folder / f"{wanted[:16]}.part"
    with reporter.progress(f"download {name}") as meter:
        server.fetch(f"{tag}/{name}", part, meter)
    found = hash_file(part)
    if found != wanted:
        part.unlink()
        raise SourceError(
            f"{server.base}/{tag}/{name} is damaged: its SHA-256 is {found[:12]}..., and {_SUMS} says"
            f" {wanted[:12]}... It was removed.",
            remedy="Run the same command again; if that ends the same way, the server has a wrong file.",
        )
    return Download(part, f"{server.base}/{tag}/{name}", (f"sha256 as in {_SUMS}", signed))


def _hash_in(sums: str, name: str, server: Server) -> str:
    lines = [match for line in sums.splitlines() if (match := _LINE.fullmatch(line))]
    if not lines:
        raise UnreachableError(f"{server.base} answers with something else than a {_SUMS}.")
    found = {match[1] for match in lines if match[2] == name}
    if len(found) != 1:
        raise UnreachableError(f"{server.base} has no {name}: {_SUMS} doesn't name it.")
    return found.pop()
