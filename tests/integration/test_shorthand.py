"""22, 22.20, lts and latest mean the newest matching release of a repository, or of a mirror's index."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.shorthand import release_tag, source_tag

RELEASES = {"v20.1.0": True, "v22.9.0": True, "v22.20.0": True, "v22.20.1": True, "v24.1.0": False}
"""Tags, and whether they are LTS."""
WORDS = (
    ("22", "v22.20.1"),
    ("v22", "v22.20.1"),
    ("22.9", "v22.9.0"),
    ("latest", "v24.1.0"),
    ("lts", "v22.20.1"),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases") / "node.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", str(folder)], check=True)
    stream = ""
    for tag, is_lts in RELEASES.items():
        header = f"#define NODE_VERSION_IS_LTS {is_lts:d}\n"
        stream += f"commit refs/tags/{tag}\ncommitter somebody <> 0 +0000\ndata 0\ndeleteall\n"
        stream += f"M 100644 inline src/node_version.h\ndata {len(header)}\n{header}\n"
    git = ["git", "--git-dir", str(folder), "fast-import", "--quiet"]
    subprocess.run(git, input=stream.encode(), check=True)
    return folder


class _Index(http.server.BaseHTTPRequestHandler):
    body: ClassVar[bytes] = json.dumps(
        [{"version": tag, "lts": "Jod" if is_lts else False} for tag, is_lts in RELEASES.items()]
    ).encode()

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/dist/index.json" else 404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NODEKILN_BUILD": str(tmp_path / "build")}
    return Settings.read(environ=environ, config=None, root=tmp_path, cwd=tmp_path, venv=None)


@pytest.mark.parametrize(("word", "tag"), WORDS)
def test_short_tag_in_a_repository_is_its_newest_match(
    repository: Path, settings: Settings, word: str, tag: str
) -> None:
    assert str(source_tag(word, str(repository), settings, Reporter())) == tag


@pytest.mark.parametrize(("word", "tag"), WORDS)
def test_short_tag_on_a_mirror_is_the_newest_match_of_its_index(
    mirror: str, settings: Settings, word: str, tag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(release_tag(word, None, f"{mirror}/dist", settings, Reporter())) == tag
    assert f"{word} is {tag}" in capsys.readouterr().err


def test_full_tag_needs_no_network(settings: Settings) -> None:
    assert str(source_tag("22.20.0", "/nowhere", settings, Reporter())) == "v22.20.0"
    assert str(release_tag("v22.20.0", None, "http://127.0.0.1:1", settings, Reporter())) == "v22.20.0"


def test_short_tag_without_a_match_raises_source_error(repository: Path, settings: Settings) -> None:
    with pytest.raises(SourceError, match="'21'"):
        source_tag("21", str(repository), settings, Reporter())


def test_mirror_without_an_index_raises_source_error(mirror: str, settings: Settings) -> None:
    with pytest.raises(SourceError):
        release_tag("22", None, f"{mirror}/other", settings, Reporter())


@pytest.mark.parametrize("word", ["newest", "22.x", "../22"])
def test_other_words_raise_usage_error(settings: Settings, word: str) -> None:
    with pytest.raises(UsageError):
        source_tag(word, None, settings, Reporter())


def test_unreachable_repository_falls_back_to_the_tags_fetched_before(
    repository: Path, settings: Settings, tmp_path: Path
) -> None:
    copy = shutil.copytree(repository, tmp_path / "node.git")
    assert str(source_tag("lts", str(copy), settings, Reporter())) == "v22.20.1"
    shutil.rmtree(copy)
    assert str(source_tag("22", str(copy), settings, Reporter())) == "v22.20.1"
