"""A Node in miniature, and a place to graft it: an ELF program with two modules' texts, and what they say."""

from __future__ import annotations

import io
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.core.errors import KilnError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter, Verbosity
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform
from nodekiln.pipelines.graft import GraftRequest, graft

NEEDS_GCC = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc"
)
CHECKOUT = Path(__file__).parents[3]
TAG = Tag(22, 20, 0)
HERE = Platform.of_machine(sys.platform, platform.machine())
OTHER = Platform("linux", "x64" if str(HERE) == "linux-arm64" else "arm64")

WRITABLE = b"""\
'use strict';

function writeOrBuffer(stream, state) {
  const ret = state.length < state.highWaterMark;
  return ret && !state.errored;
}
"""
ADAPTERS = b"""\
'use strict';

function newWritableStreamFromStreamWritable(streamWritable) {
  return new WritableStream({
    async write(chunk) {
      if (streamWritable.writableNeedDrain || !streamWritable.write(chunk)) {
        return wait;
      }
    },
  }, strategy);
}
"""
GRAFTED_WRITABLE = WRITABLE.replace(b"return ret && !state.errored;", b"return        !state.errored;")
GRAFTED_ADAPTERS = ADAPTERS.replace(b"streamWritable.writableNeedDrain || ", b" " * 36)

# What runs in place of V8: it answers the self-check by the bytes of the binary that it is. It may not hold
# in one piece what the texts are found by.
ANSWER = r"""
import hashlib, json, re, sys
data = open(sys.argv[1], "rb").read()
texts = {name: data[at:data.index(b"\0", at)] for name, mark in (
    ("internal/streams/writable", b"function write" b"OrBuffer("),
    ("internal/webstreams/adapters", b"function newWritableStream" b"FromStreamWritable("),
) for at in [data.rindex(b"\0", 0, data.index(mark)) + 1]}
free = b"return ret" not in texts["internal/streams/writable"]
loses = free and b"writableNeedDrain" in texts["internal/webstreams/adapters"]
print(json.dumps({
    "version": "v22.20.0", "recipe": None, "plan": None, "paths": {
        "write()": {"unbounded": free, "sent": 2, "received": 2},
        "Writable.toWeb of an empty sink": {"unbounded": free, "sent": 2, "received": 1 if loses else 2},
    },
    "texts": {name: hashlib.sha256(texts[name]).hexdigest() for name in sys.argv[3:]},
}))
"""
MAIN = """
#include <unistd.h>
void _ZN2v88internal4Heap23CallGCPrologueCallbacksENS0_6GCTypeE(void) { getpid(); }
void _ZN2v88internal4Heap23CallGCEpilogueCallbacksENS0_6GCTypeE(void) { getppid(); }
void _ZN2v88internal4Heap14CollectGarbageENS0_6GCTypeE(void) {
  _ZN2v88internal4Heap23CallGCPrologueCallbacksENS0_6GCTypeE();
  _ZN2v88internal4Heap23CallGCEpilogueCallbacksENS0_6GCTypeE();
}
const char version[] = "v22.20.0";
const char ids[] = "\\0internal/streams/writable\\0internal/webstreams/adapters";
const char answer[] = %(answer)s;
%(texts)s
int main(int argc, char **argv) {
  char *words[argc + 5];
  words[0] = words[1] = "python3";
  words[1] = "-c";
  words[2] = (char *)answer;
  for (int i = 0; i <= argc; i++) words[3 + i] = argv[i];
  execvp("%(python)s", words);
  return argc + version[0] + ids[0] + (int)(long)texts;
}
"""


def compile_node(folder: Path, *texts: bytes, answer: str = ANSWER, options: Sequence[str] = ()) -> Path:
    """A program with these texts, each in an array of its own."""
    arrays = [f"const char text{number}[] = {literal(text)};" for number, text in enumerate(texts)]
    names = ", ".join(f"text{number}" for number in range(len(texts)))
    source = MAIN % {
        "answer": literal(answer.encode()),
        "texts": "\n".join([*arrays, f"const char *const texts[] = {{{names}}};"]),
        "python": sys.executable,
    }
    (folder / "node.c").write_text(source)
    subprocess.run(["gcc", "-w", "-O0", "-o", "node", "node.c", *options], cwd=folder, check=True)
    return folder / "node"


def literal(text: bytes) -> str:
    return json.dumps(text.decode())


@dataclass(frozen=True)
class Desk:
    """A release and a build folder; nothing else is used."""

    folder: Path
    release: Path
    said: io.StringIO

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def path(self) -> str:
        """A PATH with nothing, so without a tracer: this Node collects no garbage that it could see."""
        return str(self.folder / "nothing")

    def settings(self, environment: Mapping[str, str]) -> Settings:
        return Settings.read(
            environ={"NODEKILN_BUILD": str(self.build), "PATH": self.path, **environment},
            config=None,
            root=CHECKOUT,
            cwd=self.folder,
            venv=None,
        )

    def graft(
        self,
        *,
        backpressure: bool = False,
        probes: bool = True,
        more: tuple[str, ...] = (),
        target: Platform | None = None,
        file: Path | None = None,
        force: bool = False,
        tag: Tag = TAG,
        environment: Mapping[str, str] | None = None,
    ) -> Path:
        request = GraftRequest(
            tag=tag,
            changes=(*(() if backpressure else ("no-backpressure",)), *(("usdt",) if probes else ()), *more),
            platform=target,
            file=file or self.release,
            force=force,
        )
        reporter = Reporter(Console(file=self.said, soft_wrap=True), verbosity=Verbosity.VERBOSE)
        return graft(request, self.settings(environment or {}), reporter)

    def inv(self, *words: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """What a user types, by way of the command `prefix`."""
        env = {
            "PATH": self.path,
            "HOME": str(self.folder),
            "PYTHONPATH": str(CHECKOUT / "src"),
            "NODEKILN_BUILD": str(self.build),
        }
        argv = [*prefix, sys.executable, str(CHECKOUT / "src" / "nodekiln" / "__main__.py"), *words]
        return subprocess.run(argv, cwd=self.folder, env=env, check=False, capture_output=True, text=True)

    def published(self) -> list[str]:
        folder = self.build / "binaries"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def manifest(binary: Path) -> dict[str, object]:
    facts: dict[str, object] = json.loads((binary.parent / "manifest.json").read_text())
    return facts


def apply(before: bytes, graft: Mapping[str, Any]) -> bytes:
    """What the manifest says that a release becomes."""
    after = bytearray(before)
    ranges = [
        *((row["start"], row["old"].encode(), row["new"].encode()) for row in graft["changed"]),
        *((row["start"], *map(bytes.fromhex, (row["old"], row["new"]))) for row in graft["rewritten"]),
    ]
    for start, old, new in ranges:
        assert before[start : start + len(old)] == old
        assert len(old) == len(new)
        assert old != new
        after[start : start + len(new)] = new
    return bytes(after)


def refused(desk: Desk, kind: type[KilnError], told: str, *, file: Path | None = None, **words: Any) -> None:
    """The graft is refused with that text, the input is as it was, and nothing was made."""
    release = file or desk.release
    before, published = (release.read_bytes(), release.stat()), desk.published()
    with pytest.raises(kind) as caught:
        desk.graft(file=file, **words)
    assert told in str(caught.value)
    after = release.stat()
    assert (release.read_bytes(), after.st_mtime_ns, after.st_mode) == (
        before[0],
        before[1].st_mtime_ns,
        before[1].st_mode,
    )
    assert desk.published() == published
