"""A password in a repository's URL reaches the server, and neither `ps` nor the mirror's configuration."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.location import parse_location
from nodekiln.source.repository import Repository

WORD = "geheim-4711"


def _content(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the arguments of processes in /proc")
def test_password_reaches_the_server_and_no_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    words = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        ["openssl", *words.split(), "-keyout", tmp_path / "key", "-out", tmp_path / "certificate"],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "certificate"))
    seen: list[str] = []
    arguments: list[bytes] = []

    class Server(BaseHTTPRequestHandler):
        """Asks for a password, and then has nothing."""

        def do_GET(self) -> None:
            places = Path("/proc").glob("[0-9]*/cmdline")
            arguments.extend(_content(place) for place in places)
            seen.append(self.headers["Authorization"] or "")
            self.send_response(404 if self.headers["Authorization"] else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("localhost", 0), Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    workspace = Workspace(tmp_path / "build")
    try:
        url = f"https://me:{WORD}@localhost:{server.server_port}/node.git"
        repository = Repository(workspace, parse_location(url, base=tmp_path), Reporter())
        with pytest.raises(SourceError) as caught:
            repository.resolve(Tag.parse("v22.20.0"))
    finally:
        server.shutdown()
        server.server_close()
    assert "Basic " + base64.b64encode(f"me:{WORD}".encode()).decode() in seen
    assert any(b"remote-https" in words for words in arguments)
    assert not any(WORD.encode() in words for words in arguments)
    assert WORD not in str(caught.value)
    for place in workspace.root.rglob("*"):
        assert not place.is_file() or WORD.encode() not in place.read_bytes()
