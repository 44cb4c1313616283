"""Fetch files over HTTP, resuming partial downloads and never sending a password to another host.

urllib, not a library more: two plain GETs need neither sessions nor pools, and requests reads ~/.netrc and
the environment on its own.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.files import NO_FOLLOW, hash_file
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Meter, Reporter, escape_unprintable, format_size
from nodekiln.grafting import gpg
from nodekiln.grafting.platforms import Platform

_TIMEOUT = 30
"""Seconds without a byte after which a server counts as gone."""
_DEADLINE = 60
"""Seconds for a small file, the connection included: one that comes byte by byte is given up."""
_LONG_DEADLINE = 60 * 60
"""Seconds for an archive: 60 MB at 17 kB a second."""
_MAX_ARCHIVE = 2**29
"""Bytes; the largest archive of a release has 60 MB, a bare node.exe 90 MB."""
_ATTEMPTS = 3
_CHUNK = 2**18
_MEGA = 10**6
_MAX_DIGITS = 16
_AUTHORIZATION = "Authorization"


class UnreachableError(SourceError):
    """The server is unreachable or doesn't have the file; another origin may."""


class Server:
    """The files below one URL, which may name a user and a password."""

    def __init__(self, base: str, *, env: Mapping[str, str]) -> None:
        """`env` may name proxies (https_proxy, ...). Raises UsageError unless `base` is an http(s) URL."""
        if not _is_url(base):  # it may contain a password, so it isn't printed
            raise UsageError(
                "The mirror is not an http(s) URL of a folder with releases.",
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
        self._connections = _Connections()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), _Redirects(), *self._connections.handlers()
        )

    @property
    def is_secure(self) -> bool:
        """True if nobody on the network can change what the server sends."""
        return self.base.startswith("https:")

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a small file; raise UnreachableError, or SourceError if it exceeds `limit` bytes."""
        content = b""
        with self._connections.until(_DEADLINE), self._open(path, 0) as answer:
            length = answer.headers.get("Content-Length", "")
            while len(content) <= limit and (chunk := _next(answer)):
                content += chunk
        if len(content) > limit:
            raise SourceError(f"{self.base}/{path} is not a release's: it has more than {limit} bytes.")
        if _is_number(length) and len(content) < int(length):
            raise UnreachableError(f"{self.base}/{path} broke off after {len(content)} bytes.")
        return content

    def fetch(self, path: str, part: Path, meter: Meter) -> None:
        """Complete the file `part` from its current size; an interrupted download stays for the next run.

        Raises UnreachableError if the server does not have it, SourceError if the connection keeps breaking,
        the file is larger than any release, or it takes longer than an hour.
        """
        for _ in range(_ATTEMPTS):
            with self._connections.until(_LONG_DEADLINE) as has_time:
                if self._fetch(path, part, meter):
                    return
            if not has_time():
                break
        size = part.stat().st_size if part.exists() else 0
        raise SourceError(
            f"The download of {self.base}/{path} broke off after {size} bytes.",
            remedy="The same command continues from there.",
        )

    def _fetch(self, path: str, part: Path, meter: Meter) -> bool:
        """Return True if the file is complete."""
        have = part.stat().st_size if part.exists() else 0
        with self._open(path, have) as answer:
            if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                # Longer than the file, or just as long: the next download's hash decides.
                part.unlink(missing_ok=True)
                return False
            resumed = answer.status == http.client.PARTIAL_CONTENT and have > 0
            done = have if resumed else 0
            length = answer.headers.get("Content-Length", "")
            total = done + int(length) if _is_number(length) else None
            with _open_part(part, append=resumed) as file:
                while chunk := _next(answer):
                    done += len(chunk)
                    if done > _MAX_ARCHIVE:
                        part.unlink()
                        raise SourceError(
                            f"{self.base}/{path} is not a release's: it has more than"
                            f" {format_size(_MAX_ARCHIVE)}. It was removed."
                        )
                    file.write(chunk)
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
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a redirect to no URL
            reason = getattr(error, "reason", None)
            if isinstance(reason, ssl.SSLError) or isinstance(error, ssl.SSLError):
                raise SourceError(
                    f"The TLS connection to {url} failed: {reason or error}.",
                    remedy="Correct the certificates of this machine or name another --mirror; --release FILE"
                    " takes a release that you have.",
                ) from None
            why = escape_unprintable(str(reason or error or type(error).__name__))
            raise UnreachableError(f"{url} can't be reached: {why}.") from None
        with answer:
            yield answer


class _Connections:
    """The sockets of connections, to cut them off at a deadline: a timeout counts from each byte."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def handlers(self) -> tuple[urllib.request.BaseHandler, ...]:
        """Return the handlers for urllib that record the sockets."""
        sockets = self._sockets

        class Plain(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        class Secure(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        class PlainHandler(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Plain, req)

        class SecureHandler(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Secure, req)

        return PlainHandler(), SecureHandler()

    @contextmanager
    def until(self, seconds: float) -> Iterator[Callable[[], bool]]:
        """Cut off the connections that the block has made `seconds` after its start.

        Yields a function that returns False once that has happened.
        """
        self._sockets.clear()
        is_over = threading.Event()

        def cut() -> None:
            is_over.set()
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield lambda: not is_over.is_set()
        finally:
            timer.cancel()


def _open_part(part: Path, *, append: bool) -> IO[bytes]:
    """Open a partial download; never a link or pipe in its place."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC) | NO_FOLLOW
    return os.fdopen(os.open(part, flags, 0o644), "ab" if append else "wb")


def _is_number(length: str) -> bool:
    return length.isascii() and length.isdigit() and len(length) < _MAX_DIGITS


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
        return answer.read1(_CHUNK)
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: a chunk of negative size
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
    allow_unsigned: bool,
    env: Mapping[str, str],
    reporter: Reporter,
) -> Download:
    """Fetch the release into `folder`. Raises UnreachableError if the server can't provide it.

    SourceError: what came is not what SHASUMS256.txt names, and is removed; or its signature is wrong, or
    missing where it is required (see `_check_signature`).
    """
    name = f"win-{platform.cpu}/node.exe" if platform.os == "win" else f"node-{tag}-{platform}.tar.xz"
    sums = server.read(f"{tag}/{_SUMS}", limit=_SMALL)
    wanted = _hash_in(sums.decode(errors="replace"), name, server)
    signed = _check_signature(tag, sums, server, set(signers), allow_unsigned=allow_unsigned, env=env)
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


def _check_signature(
    tag: Tag, sums: bytes, server: Server, signers: set[str], *, allow_unsigned: bool, env: Mapping[str, str]
) -> str:
    """Return the result of checking the signature of `sums`, in a few words.

    Over https a signature that can't be checked is accepted unless the user's gpg has keys of Node's
    releasers; over http, where anybody in between can change what comes, a good one is required.
    `allow_unsigned` accepts anything. Raises SourceError.
    """
    remedy = "./inv graft --allow-unsigned uses the release all the same."
    try:
        try:
            signature = server.read(f"{tag}/{_SUMS}.sig", limit=_SMALL)
        except UnreachableError:
            raise gpg.UncheckedError(f"{_SUMS}.sig not found", remedy="Name another --mirror.") from None
        return gpg.check(sums, signature, known=signers, env=env)
    except gpg.UncheckedError as error:
        if allow_unsigned or (server.is_secure and not gpg.has_key(signers, env=env)):
            return f"signature not checked ({error.message})"
        why = "gpg has keys of Node's releasers" if server.is_secure else "over http one is required"
        raise SourceError(
            f"The signature of {server.base}/{tag}/{_SUMS} can't be checked ({error.message}), and {why}.",
            remedy=f"{error.remedy} {remedy}",
        ) from None
    except SourceError as error:
        if allow_unsigned:
            return f"signature ignored ({error.message})"
        raise SourceError(error.message, remedy=" ".join(filter(None, (error.remedy, remedy)))) from None


def _hash_in(sums: str, name: str, server: Server) -> str:
    lines = [match for line in sums.splitlines() if (match := _LINE.fullmatch(line))]
    if not lines:
        raise UnreachableError(f"{server.base} answers with something else than a {_SUMS}.")
    found = {match[1] for match in lines if match[2] == name}
    if len(found) != 1:
        raise UnreachableError(f"{server.base} has no {name}: {_SUMS} doesn't name it.")
    return found.pop()
