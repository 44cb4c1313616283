"""The streams patch for 26.11 and later, run in an official release: which chunks it counts, on each path.

Its JavaScript is grafted, with counters of the program in place of the binding that only a build has.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.graft_releases import natives
from nodekiln.changes import hunks, patchfile
from tests.change_folders import PATCHES
from tests.real.test_graft_texts_real import WRITABLE, write_texts

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="runs releases for linux-x64"
    ),
]

PATCH = "0003-streams-from-26.11.patch"
COUNT = """
'use strict';
const { Readable, Writable, pipeline } = require('stream');
let counts;
globalThis.counters = {
  getWriteFlag: () => [1],
  streamWrite(stream, state, chunk, isObject, fits) { counts.writes++; if (!fits) counts.full++; },
  streamDrain() { counts.drains++; },
};
const sink = (highWaterMark) =>
  new Writable({ highWaterMark, write(chunk, encoding, done) { counts.arrived++; setImmediate(done); } });
const source = (chunks, options = {}) =>
  new Readable({ ...options, read() { this.push(chunks-- > 0 ? Buffer.alloc(10) : null); } });
const paths = {
  write: (chunks, end) => {
    const stream = sink(16).on('finish', end);
    for (let i = 0; i < chunks; i++) stream.write(Buffer.alloc(10));
    stream.end();
  },
  pipe: (chunks, end) => source(chunks).pipe(sink(1e6)).on('finish', end),
  full: (chunks, end) => source(chunks).pipe(sink(16)).on('finish', end),
  strings: (chunks, end) => source(chunks, { encoding: 'latin1' }).pipe(sink(1e6)).on('finish', end),
  pipeline: (chunks, end) => pipeline(source(chunks), sink(1e6), end),
};
(async () => {
  const found = {};
  let chunks = 101;
  for (const [name, run] of Object.entries(paths)) {
    counts = { chunks, writes: 0, full: 0, drains: 0, arrived: 0 };
    await new Promise((end) => run(chunks, end));
    found[name] = counts;
    chunks += 6;
  }
  console.log(JSON.stringify(found));
})();
"""


def test_streams_patch_counts_every_chunk_on_every_path(
    fetch_release: Callable[[str], Path], tmp_path: Path
) -> None:
    stock = fetch_release("26.12.1")
    before = natives([], stock)[WRITABLE.removeprefix("lib/").removesuffix(".js")].encode("latin-1")
    patch = patchfile.parse(PATCH, (PATCHES / "usdt" / PATCH).read_bytes())
    applied = hunks.apply([patch], {WRITABLE: before}.get)
    assert applied.conflicts == ()
    (edit,) = applied.edits
    assert edit.after.count(b"require('internal/probes')") == 1
    counting = edit.after.replace(
        b"require('internal/probes')", b"globalThis.counters ?? { getWriteFlag() {} }"
    )
    binary = write_texts(stock, "v26.12.1", tmp_path / "node", {WRITABLE: counting})
    done = subprocess.run([binary, "-e", COUNT], capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert list(found) == ["write", "pipe", "full", "strings", "pipeline"]
    for counts in found.values():
        assert counts["writes"] == counts["arrived"] == counts["chunks"]
    assert found["write"]["full"] == found["write"]["chunks"] - 1
    assert found["full"]["full"] == found["full"]["drains"] > 0
    assert [found[name]["full"] for name in ("pipe", "strings", "pipeline")] == [0, 0, 0]
