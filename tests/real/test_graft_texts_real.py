"""Modules of official releases that get other texts: of a newer release, of a user, of the same length."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.graft_releases import SMOKE, graft_pair, natives
from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform
from nodekiln.pipelines.bisect import BisectRequest, bisect
from nodekiln.pipelines.graft import GraftRequest, graft
from nodekiln.pipelines.graft_plan import apply_plan, plan_texts
from tests.change_folders import PATCHES

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="runs releases for linux-x64"
    ),
]

Fetch = Callable[[str], Path]
X64, ARM64 = Platform("linux", "x64"), Platform("linux", "arm64")
OUTGOING = "lib/_http_outgoing.js"
WRITABLE = "lib/internal/streams/writable.js"

# Hangs in 24.16.0, whose client emits no 'drain' after a false write() below a large highWaterMark.
DRAIN = """
'use strict';
const http = require('http'), { once } = require('events');
const server = http.createServer((request, response) => {
  let bytes = 0;
  request.on('data', (chunk) => { bytes += chunk.length; });
  request.on('end', () => response.end(String(bytes)));
});
server.listen(0, '127.0.0.1', async () => {
  setTimeout(() => process.exit(1), 3000).unref();
  const { port } = server.address();
  const request = http.request({ host: '127.0.0.1', port, method: 'POST', highWaterMark: 2 ** 20 });
  for (let i = 0; i < 10; i++) {
    if (!request.write(Buffer.alloc(300 * 1024))) await once(request, 'drain');
  }
  request.end();
  const [response] = await once(request, 'response');
  response.resume();
  await once(response, 'end');
  process.exit(0);
});
"""


def run(binary: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary, *words], capture_output=True, text=True, timeout=120, check=False)


def write_texts(stock: Path, tag: str, target: Path, texts: Mapping[str, bytes]) -> Path:
    recipe = Recipe(tag=Tag.parse(tag), changes=(), graft=True)
    apply_plan(stock, target, recipe, X64, plan_texts(stock, texts))
    return target


def settings_of(folder: Path, changes: Path | None = None) -> Settings:
    environ = {**os.environ, "NODEKILN_BUILD": str(folder / "build")}
    if changes is not None:
        environ["NODEKILN_PATCHES"] = str(changes)
    return Settings.read(environ=environ, config=None, root=folder, patches=PATCHES, cwd=folder, venv=None)


@pytest.mark.parametrize(
    ("old", "new"), [("20.19.5", "20.19.6"), ("22.22.1", "22.22.2"), ("26.5.0", "26.5.1")]
)
def test_texts_of_the_next_release_are_grafted_onto_a_release(
    fetch_release: Fetch, tmp_path: Path, old: str, new: str
) -> None:
    result = graft_pair(fetch_release(old), fetch_release(new), Tag.parse(old), X64, tmp_path / "node")
    assert result.modules > 1
    assert (result.wrong, result.smoke) == ((), "passes")


def test_texts_of_the_next_release_are_grafted_onto_an_arm64_release(
    fetch_release: Fetch, tmp_path: Path
) -> None:
    libraries = Path("/usr/aarch64-linux-gnu/lib/libstdc++.so.6")
    if not shutil.which("qemu-aarch64-static") or not libraries.exists():
        pytest.skip("needs qemu-user-static, libc6-arm64-cross and libstdc++6-arm64-cross")
    old, new = fetch_release("22.23.2-arm64"), fetch_release("22.23.3-arm64")
    result = graft_pair(old, new, Tag(22, 23, 2), ARM64, tmp_path / "node")
    assert result.modules > 1
    assert (result.wrong, result.smoke) == ((), "passes")


def test_module_of_a_later_release_cures_the_hang_of_24_16(fetch_release: Fetch, tmp_path: Path) -> None:
    (tmp_path / "drain.js").write_text(DRAIN)
    stock, later = fetch_release("24.16.0"), fetch_release("24.21.0")
    assert [run(each, tmp_path / "drain.js").returncode for each in (stock, later)] == [1, 0]
    text = natives([], later)["_http_outgoing"].encode()
    cured = write_texts(stock, "v24.16.0", tmp_path / "node", {OUTGOING: text})
    assert run(cured, tmp_path / "drain.js").returncode == 0
    assert run(cured, "-p", "process.version").stdout == "v24.16.0\n"


def test_text_of_the_same_length_runs_also_at_the_top_level(fetch_release: Fetch, tmp_path: Path) -> None:
    """V8's code cache, which compares lengths, must not bring back the old code."""
    stock = fetch_release("22.20.0")
    old = natives([], stock)["querystring"].encode()
    new = old.replace(b"unescape: qsUnescape,", b"unescape: qsEscape,  ")
    assert len(new) == len(old)
    assert new != old
    made = write_texts(stock, "v22.20.0", tmp_path / "node", {"lib/querystring.js": new})
    script = "const q = require('querystring'); console.log(q.unescape === q.escape)"
    assert [run(each, "-e", script).stdout.strip() for each in (stock, made)] == ["false", "true"]


CHANGE = """\
name = "third"
summary = "counts calls"
why = "Shows which text runs."
tags = ">=18"

[[patch]]
file = "third.patch"
tags = ">=18"
why = "So."
"""
PATCH = """\
Subject: Count calls of setDefaultEncoding

In a new function.

diff --git a/lib/internal/streams/writable.js b/lib/internal/streams/writable.js
--- a/lib/internal/streams/writable.js
+++ b/lib/internal/streams/writable.js
@@ -537,5 +537,9 @@
   if (!Buffer.isEncoding(encoding))
     throw new ERR_UNKNOWN_ENCODING(encoding);
+  function count() {
+    process.counted = (process.counted || 0) + 1;
+  }
+  count();
   this._writableState.defaultEncoding = encoding;
   return this;
 };
"""


def write_change(folder: Path, patch: str) -> Path:
    home = folder / "changes" / "third"
    home.mkdir(parents=True)
    (home / "change.toml").write_text(CHANGE)
    (home / "third.patch").write_text(patch)
    return home.parent


@pytest.mark.parametrize("version", ["20.20.2", "22.20.0", "24.21.0"])
def test_longer_text_of_a_user_runs_beside_probes(fetch_release: Fetch, tmp_path: Path, version: str) -> None:
    settings = settings_of(tmp_path, write_change(tmp_path, PATCH))
    request = GraftRequest(tag=Tag.parse(version), changes=("usdt", "third"), file=fetch_release(version))
    made = graft(request, settings, Reporter(Console(quiet=True)))
    script = "const w = new stream.Writable(); w.setDefaultEncoding('utf8'); console.log(process.counted)"
    assert run(made, "-e", script).stdout == "1\n"
    assert run(made, SMOKE).returncode == 0
    with open_elf(made) as elf:
        assert {probe.name for probe in read_probes(elf)} == {"gc__start", "gc__done"}
    facts = json.loads((made.parent / "manifest.json").read_text())["graft"]
    assert {part["what"] for part in facts["rewritten"]} >= {f"place of {WRITABLE}", "program header"}


@pytest.mark.parametrize("path", ["src/node.cc", "lib/internal/unknown.js"])
def test_patch_of_a_file_that_is_no_module_is_refused_by_name(
    fetch_release: Fetch, tmp_path: Path, path: str
) -> None:
    settings = settings_of(tmp_path, write_change(tmp_path, PATCH.replace(WRITABLE, path)))
    request = GraftRequest(tag=Tag(22, 20, 0), changes=("third",), file=fetch_release("22.20.0"))
    with pytest.raises(PatchError, match=path) as refused:
        graft(request, settings, Reporter(Console(quiet=True)))
    assert "./inv build v22.20.0 --change third" in str(refused.value)


def test_bisect_finds_the_lines_that_hang_24_16(fetch_release: Fetch, tmp_path: Path) -> None:
    (tmp_path / "drain.js").write_text(DRAIN)
    settings, told = settings_of(tmp_path), io.StringIO()
    request = BisectRequest(good=Tag(24, 15, 0), bad=Tag(24, 16, 0), command=("node", "drain.js"))
    found = bisect(request, settings, Reporter(Console(file=told, width=200)))
    assert found.text.startswith(f"{OUTGOING}, lines 1142 to 1147")
    assert b"\n-    const ret = this._flushOutput(socket);\n" in found.diff
    again = io.StringIO()
    assert bisect(request, settings, Reporter(Console(file=again, width=200))) == found
    steps = [line for line in again.getvalue().splitlines() if "exit code" in line]
    assert steps
    assert all("from an earlier run" in line for line in steps)
