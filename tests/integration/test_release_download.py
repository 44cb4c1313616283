"""Fetching from a server that breaks off, lies, redirects and asks for a password."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.grafting import download
from nodekiln.grafting.download import Server, UnreachableError
from nodekiln.grafting.download import fetch as fetch_release
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release, obtain

TAG = Tag(22, 20, 0)
LINUX = Platform("linux", "x64")
NODE = (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\0").ljust(64, b"\0") + b"node" * 50_000
TARBALL = "node-v22.20.0-linux-x64.tar.xz"


def tarball() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:xz", preset=0) as archive:
        for name, content in (
            ("bin/node", NODE),
            ("include/node/node.h", b"// node.h\n"),
            ("README.md", b"hi"),
        ):
            member = tarfile.TarInfo(f"node-v22.20.0-linux-x64/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


ARCHIVE = tarball()


def sums(archive: bytes = ARCHIVE, name: str = TARBALL) -> bytes:
    return f"{'0' * 64}  other.tar.gz\n{hashlib.sha256(archive).hexdigest()}  {name}\n".encode()


@dataclass
class Site:
    """A server's files, what it does to those who ask, and what they asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    breaks_after: list[int] = field(default_factory=list)
    """Bytes of a tarball after which the connection breaks, once each."""
    ranges: bool = True
    drips_every: float = 0
    """Seconds between the single bytes of an endless answer; 0 for whole answers."""
    is_over: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and Authorization of each request."""

    def asked_for(self, ending: str) -> list[tuple[str, str | None, str | None]]:
        return [request for request in self.asked if request[0].endswith(ending)]


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted, told = self.headers["Range"], self.headers["Authorization"]
            site.asked.append((self.path, wanted, told))
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.end_headers()
                return
            content = site.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            if site.drips_every:
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):  # until the client hangs up
                    while not site.is_over.wait(site.drips_every):
                        self.wfile.write(b"x")
                return
            start = int(re.sub(r"\D", "", wanted)) if wanted and site.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = len(content)
            if self.path.endswith(".xz") and site.breaks_after:
                end = start + site.breaks_after.pop(0)
            self.wfile.write(content[start:end])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            pass

    return Handler


def serve(host: str) -> Iterator[Site]:
    server = ThreadingHTTPServer((host, 0), BaseHTTPRequestHandler)
    site = Site(f"http://{host}:{server.server_port}")
    server.RequestHandlerClass = handler(site)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    site.is_over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    """A mirror with a whole release."""
    for made in serve("127.0.0.1"):
        made.files["/dist/v22.20.0/SHASUMS256.txt"] = sums()
        made.files[f"/dist/v22.20.0/{TARBALL}"] = ARCHIVE
        yield made


@pytest.fixture
def other() -> Iterator[Site]:
    """Another host."""
    yield from serve("127.0.0.2")


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def reporter(said: io.StringIO) -> Reporter:
    return Reporter(Console(file=said, soft_wrap=True))


def get(site: Site, folder: Path, reporter: Reporter, *, path: str = "/dist", user: str = "") -> Release:
    mirror = site.url.replace("//", f"//{user}") + path
    return obtain(
        TAG,
        LINUX,
        folder=folder,
        file=None,
        mirror=mirror,
        allow_unsigned=True,
        env={},
        reporter=reporter,
    )


def part(folder: Path) -> Path:
    return folder / ".downloads" / f"{hashlib.sha256(ARCHIVE).hexdigest()[:16]}.part"


def leftovers(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.rglob("*") if path.name.startswith(".staging") or path.suffix == ".part"
    )


def test_release_is_fetched_checked_and_unpacked(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    got = get(site, tmp_path, reporter)
    assert got.path.read_bytes() == NODE
    assert got.sha256 == hashlib.sha256(NODE).hexdigest()
    assert got.origin == f"{site.url}/dist/v22.20.0/{TARBALL}"
    assert got.checks[0] == "sha256 as in SHASUMS256.txt"
    assert got.checks[1] == "signature not checked (SHASUMS256.txt.sig not found)"
    assert got.headers is not None
    assert (got.headers / "node" / "node.h").read_bytes() == b"// node.h\n"
    assert leftovers(tmp_path) == []


def test_kept_release_needs_no_network(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    first = get(site, tmp_path, reporter)
    site.asked.clear()
    assert get(site, tmp_path, reporter) == first
    assert site.asked == []


def test_release_that_is_kept_reports_what_it_is(
    site: Site, tmp_path: Path, reporter: Reporter, said: io.StringIO
) -> None:
    get(site, tmp_path, reporter)
    fetched = said.getvalue()
    obtain(TAG, LINUX, folder=tmp_path, file=None, mirror=None, env={}, reporter=reporter)

    assert fetched == (
        f"release: {site.url}/dist/v22.20.0/{TARBALL}, 200 kB, sha256 as in SHASUMS256.txt,"
        " signature not checked (SHASUMS256.txt.sig not found)\n"
    )
    assert said.getvalue() == fetched + fetched.replace("release:", "release (kept):")


def test_named_mirror_takes_precedence_over_kept_releases(
    site: Site, other: Site, tmp_path: Path, reporter: Reporter
) -> None:
    other.files.update(site.files)
    get(site, tmp_path, reporter)

    first, second = get(other, tmp_path, reporter), get(other, tmp_path, reporter)

    assert first == second
    assert first.origin == f"{other.url}/dist/v22.20.0/{TARBALL}"
    assert len(other.asked_for(".xz")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".downloads", "v22.20.0-linux-x64"]


@pytest.mark.parametrize("base", ["/dist/v2", "/di", ""])
def test_folder_whose_name_begins_alike_is_another_mirror(
    base: str, site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    site.files |= {path.replace("/dist", base): content for path, content in site.files.items()}
    get(site, tmp_path, reporter)
    assert get(site, tmp_path, reporter, path=base).origin == f"{site.url}{base}/v22.20.0/{TARBALL}"


def test_kept_release_stays_if_the_named_mirror_is_wrong(
    site: Site, other: Site, tmp_path: Path, reporter: Reporter
) -> None:
    kept = get(site, tmp_path, reporter)
    wrong = ARCHIVE[: len(ARCHIVE) // 2]
    other.files |= {
        f"/dist/v22.20.0/{TARBALL}": wrong,
        "/dist/v22.20.0/SHASUMS256.txt": sums(wrong),
    }
    with pytest.raises(SourceError, match="is damaged"):
        get(other, tmp_path, reporter)
    assert kept.path.read_bytes() == NODE
    assert get(site, tmp_path, reporter) == kept


def test_kept_release_is_used_with_a_note_if_the_named_mirror_has_none(
    site: Site, other: Site, tmp_path: Path, reporter: Reporter, said: io.StringIO
) -> None:
    kept = get(site, tmp_path, reporter)
    said.truncate(0)
    said.seek(0)

    assert get(other, tmp_path, reporter) == kept

    lines = said.getvalue().splitlines()
    assert lines[0] == (
        f"{other.url}/dist/v22.20.0/SHASUMS256.txt answers 404 Not Found. Taking the release that is kept."
    )
    assert lines[1].startswith(f"release (kept): {site.url}/dist/v22.20.0/{TARBALL}, 200 kB, ")


def test_kept_release_that_was_damaged_is_fetched_again(
    site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    get(site, tmp_path, reporter).path.write_bytes(NODE[:-1])
    assert get(site, tmp_path, reporter).path.read_bytes() == NODE


def test_broken_connection_is_resumed_in_the_same_run(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    site.breaks_after = [100, 50]
    assert get(site, tmp_path, reporter).path.read_bytes() == NODE
    assert [wanted for _, wanted, _ in site.asked_for(".xz")] == [None, "bytes=100-", "bytes=150-"]


def test_interrupted_download_is_resumed_by_the_next_run(
    site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    site.breaks_after = [100, 10, 1]
    with pytest.raises(SourceError, match="broke off after 111 bytes"):
        get(site, tmp_path, reporter)
    site.asked.clear()
    assert get(site, tmp_path, reporter).path.read_bytes() == NODE
    assert [wanted for _, wanted, _ in site.asked_for(".xz")] == ["bytes=111-"]


def test_server_that_cannot_resume_sends_it_all_again(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    site.breaks_after, site.ranges = [100], False
    assert get(site, tmp_path, reporter).path.read_bytes() == NODE


def test_part_that_is_too_long_is_thrown_away(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(ARCHIVE + b"more")
    assert get(site, tmp_path, reporter).path.read_bytes() == NODE


def test_download_with_another_hash_is_refused_and_removed(
    site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    site.files[f"/dist/v22.20.0/{TARBALL}"] = ARCHIVE[:-1] + b"!"
    with pytest.raises(SourceError, match=r"is damaged: .* It was removed\."):
        get(site, tmp_path, reporter)
    assert leftovers(tmp_path) == []


def test_archive_with_the_right_hash_and_no_node_is_refused_and_removed(
    site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    wrong = ARCHIVE[: len(ARCHIVE) // 2]
    site.files[f"/dist/v22.20.0/{TARBALL}"] = wrong
    site.files["/dist/v22.20.0/SHASUMS256.txt"] = sums(wrong)
    with pytest.raises(SourceError, match="is damaged"):
        get(site, tmp_path, reporter)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        (sums(name="node-v22.20.0-linux-arm64.tar.xz"), f"has no {TARBALL}"),
        (sums() + sums(b"x"), f"has no {TARBALL}"),
        (sums()[:-9], f"has no {TARBALL}"),
        (b"", "something else than a SHASUMS256.txt"),
        (b"\xff\xfe", "something else than a SHASUMS256.txt"),
        (b"<html>Please log in</html>\n", "something else than a SHASUMS256.txt"),
    ],
)
def test_checksum_list_without_exactly_one_hash_counts_as_missing(
    listed: bytes, told: str, site: Site, tmp_path: Path
) -> None:
    site.files["/dist/v22.20.0/SHASUMS256.txt"] = listed
    site.files["/dist/v22.20.0/SHASUMS256.txt.sig"] = listed
    with pytest.raises(UnreachableError, match=told):
        fetch_release(
            TAG,
            LINUX,
            Server(f"{site.url}/dist", env={}),
            folder=tmp_path,
            signers=(),
            allow_unsigned=True,
            env={},
            reporter=Reporter(Console(quiet=True)),
        )


def test_list_without_end_is_refused(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    site.files["/dist/v22.20.0/SHASUMS256.txt"] = b"a" * (2**20 + 1)
    with pytest.raises(SourceError, match="more than 1048576 bytes"):
        get(site, tmp_path, reporter)


def test_unreachable_mirror_and_npm_are_both_reported(tmp_path: Path, reporter: Reporter) -> None:
    with pytest.raises(SourceError, match=r"refused.* npm not found"):
        obtain(TAG, LINUX, folder=tmp_path, file=None, mirror="http://127.0.0.1:1", env={}, reporter=reporter)
    assert leftovers(tmp_path) == []


BASIC = "Basic " + base64.b64encode(b"me:a b").decode()


def test_password_is_sent_to_its_host_and_not_printed(
    site: Site, tmp_path: Path, reporter: Reporter, said: io.StringIO
) -> None:
    got = get(site, tmp_path, reporter, user="me:a%20b@")
    assert {told for *_, told in site.asked} == {BASIC}
    assert "me" not in urlsplit(got.origin).netloc
    assert "a%20b" not in said.getvalue()


def test_password_is_never_sent_to_another_host(
    site: Site, other: Site, tmp_path: Path, reporter: Reporter
) -> None:
    path = f"/dist/v22.20.0/{TARBALL}"
    site.redirects[path] = f"{other.url}/elsewhere.xz"
    other.files["/elsewhere.xz"] = ARCHIVE
    assert get(site, tmp_path, reporter, user="me:a%20b@").path.read_bytes() == NODE
    assert site.asked_for(path) == [(path, None, BASIC)]
    assert other.asked == [("/elsewhere.xz", None, None)]


def test_password_is_sent_again_within_its_host(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    path = f"/dist/v22.20.0/{TARBALL}"
    site.redirects[path] = "/moved.xz"
    site.files["/moved.xz"] = ARCHIVE
    get(site, tmp_path, reporter, user="me:a%20b@")
    assert site.asked_for("/moved.xz") == [("/moved.xz", None, BASIC)]


def test_redirect_to_a_file_is_not_followed(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    site.redirects["/dist/v22.20.0/SHASUMS256.txt"] = "file:///etc/passwd"
    with pytest.raises(SourceError, match="is not allowed"):
        get(site, tmp_path, reporter)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "nodejs.org/dist",
        "file:///srv",
        "http://",
        "http://h:x/",
        "ftp://h/d",
        "http://h/é",
        "http://h/a b",
    ],
)
def test_mirror_that_is_not_a_url_is_wrong_usage(base: str) -> None:
    with pytest.raises(UsageError, match="is not an http"):
        Server(base, env={})


@pytest.mark.skipif(shutil.which("gpg") is None, reason="there is no gpg")
def test_list_with_a_wrong_signature_is_refused(site: Site, tmp_path: Path, reporter: Reporter) -> None:
    site.files["/dist/v22.20.0/SHASUMS256.txt.sig"] = b"nonsense"
    env = {"PATH": os.environ["PATH"], "GNUPGHOME": str(tmp_path)}
    mirror = f"{site.url}/dist"
    with pytest.raises(SourceError, match=r"signature of SHASUMS256\.txt is wrong"):
        obtain(TAG, LINUX, folder=tmp_path, file=None, mirror=mirror, env=env, reporter=reporter)


def strict(site: Site, folder: Path, reporter: Reporter, env: dict[str, str]) -> Release:
    mirror = f"{site.url}/dist"
    return obtain(TAG, LINUX, folder=folder, file=None, mirror=mirror, env=env, reporter=reporter)


def test_release_over_http_without_a_signature_is_refused(
    site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    with pytest.raises(SourceError, match=r"sig not found.*over http one is required") as caught:
        strict(site, tmp_path, reporter, {})
    assert "--allow-unsigned" in str(caught.value.remedy)
    assert leftovers(tmp_path) == []


def test_wrong_signature_with_allow_unsigned_is_ignored_with_a_note(
    site: Site, tmp_path: Path, said: io.StringIO, reporter: Reporter
) -> None:
    if shutil.which("gpg") is None:
        pytest.skip("there is no gpg")
    site.files["/dist/v22.20.0/SHASUMS256.txt.sig"] = b"nonsense"
    env = {"PATH": os.environ["PATH"], "GNUPGHOME": str(tmp_path)}
    mirror = f"{site.url}/dist"
    got = obtain(
        TAG, LINUX, folder=tmp_path, file=None, mirror=mirror, allow_unsigned=True, env=env, reporter=reporter
    )
    assert got.path.read_bytes() == NODE
    assert "signature ignored" in said.getvalue()


def test_archive_larger_than_any_release_is_cut_off_and_removed(
    site: Site, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MAX_ARCHIVE", len(ARCHIVE) - 1)
    with pytest.raises(SourceError, match="not a release's"):
        get(site, tmp_path, reporter)
    assert leftovers(tmp_path) == []


def test_server_that_sends_byte_after_byte_is_given_up_at_the_deadline(
    site: Site, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_DEADLINE", 0.3)
    site.drips_every = 0.05
    with pytest.raises(SourceError):
        get(site, tmp_path, reporter)


@pytest.mark.parametrize("target", ["http://[::1", "http://h:99999999/", "http://h/\x01", "//", "http://"])
def test_redirect_to_an_invalid_url_is_reported(
    target: str, site: Site, tmp_path: Path, reporter: Reporter
) -> None:
    site.redirects["/dist/v22.20.0/SHASUMS256.txt"] = target
    with pytest.raises(SourceError):
        get(site, tmp_path, reporter)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 416 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/9.9 what\r\n\r\n",
        b"\xff\xfe\n",
        b"",
    ],
    ids=lambda answer: answer[:40].decode("latin-1"),
)
def test_answers_that_are_not_http_raise_typed_errors(
    answer: bytes, tmp_path: Path, reporter: Reporter
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(9999)
                        connection.sendall(answer)

        threading.Thread(target=reply, daemon=True).start()
        with pytest.raises(SourceError):
            get(Site(f"http://127.0.0.1:{server.getsockname()[1]}"), tmp_path, reporter)
