"""Parsers of foreign input on mutated examples: they return, or raise an error of ours; nothing else."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodekiln.binaries.manifest import read_facts
from nodekiln.building.ninja import read_descriptions, read_graph
from nodekiln.changes import patchfile
from nodekiln.changes.no_backpressure import PATHS, plan_backpressure
from nodekiln.core.archives import RefusedError, read_members
from nodekiln.core.elf import file as elf
from nodekiln.core.elf import notes
from nodekiln.core.errors import KilnError
from nodekiln.core.recipe import Tag, read_version
from nodekiln.experiment.measure.traced import read_perf_hooks_lines, read_trace_gc
from nodekiln.experiment.model.results import load
from nodekiln.grafting.builtins import locate
from nodekiln.source.location import parse_location
from nodekiln.toolchain.diagnosis import diagnose
from nodekiln.verify.tagspec import TagSpec
from tests.integration.grafts.desk import ADAPTERS, WRITABLE
from tests.unit.test_elf import PLAIN as PROGRAM

CHECKOUT = Path(__file__).resolve().parents[2]
PATCH = (
    b"Subject: [PATCH] what\n\nwhy\n---\n\ndiff --git a/lib/a.js b/lib/a.js\n--- a/lib/a.js\n+++ b/lib/a.js\n"
    b"@@ -1,2 +1,3 @@ f\n x\n-y\n+z\n+w\ndiff --git a/b b/b\nnew file mode 100644\n--- /dev/null\n+++ b/b\n"
    b"@@ -0,0 +1 @@\n+b\n"
)
TRACE = (
    b"[7:0x17bd9000]     1663 ms: Scavenge 118.0 (120.7) -> 47.6 (55.0) MB, pooled: 0.0 MB, 35.76 / 0.01 ms\n"
)
GRAPH = b'"0x1" [label="a.c"]\n"0x2" [label="a.o"]\n"0x1" -> "0x2" [label=" cc"]\n'
MANIFEST = b'{"schema": 2, "name": "v20.1.0", "changes": []}'

pytestmark = pytest.mark.slow
fuzzed = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,  # the same inputs in every run: it must not fail by chance
    database=None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return `seed` with pieces replaced, repeated, removed or inserted."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = draw(
            st.one_of(
                st.binary(max_size=12),
                st.sampled_from(
                    [
                        b"",
                        b"\n",
                        b"\0",
                        b"\xff",
                        b"9" * 400,
                        b"1e999",
                        b"-1",
                        b"\xed\xb2\x80",
                        "\ufeff".encode(),
                    ]
                ),
                st.just(bytes(data[start:end]) * 2),
            )
        )
        data[start:end] = piece
    return bytes(data)


def survives(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(KilnError, RefusedError):
        parse(data)


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode(errors="surrogateescape"))


def everything_of_elf(data: bytes) -> None:
    program = elf.parse(data, "file")
    notes.read_probes(program)
    notes.read_identity(program)
    program.find_symbols(["_ZN2v8"])


def members(data: bytes) -> None:
    for _, pieces in read_members(io.BufferedReader(io.BytesIO(data))):
        list(pieces)


TARGETS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "patch": (PATCH, lambda data: patchfile.parse("x.patch", data)),
    "ELF": (PROGRAM, everything_of_elf),
    "writable.js": (WRITABLE, lambda data: plan_backpressure({PATHS[0]: data}.get)),
    "adapters.js": (ADAPTERS, lambda data: plan_backpressure({PATHS[0]: WRITABLE, PATHS[2]: data}.get)),
    "builtins": (b"\0" + WRITABLE + b"\0", lambda data: locate(data, "file")),
    "trace-gc": (TRACE, text(read_trace_gc)),
    "perf_hooks": (b"1,2.5,3\n4,5,6\n", text(lambda lines: read_perf_hooks_lines(lines.splitlines()))),
    "ninja graph": (GRAPH, text(lambda dot: read_graph(dot, {}))),
    "ninja rules": (b"rule cc\n  description = CC $out\n", text(lambda rules: read_descriptions([rules]))),
    "manifest": (MANIFEST, read_facts),
    "results": ((CHECKOUT / "tests/examples/experiment.json").read_bytes()[:3000], load),
    "node_version.h": (b"#define NODE_MAJOR_VERSION 20\n", read_version),
    "tag": (b"v22.20.0", text(Tag.parse)),
    "tags": (b">=20,<25,v18.*", text(TagSpec.parse)),
    "location": (b"https://me:secret@host:8/path?q=1", text(lambda url: parse_location(url, base=Path("/")))),
    "log": (b"g++: fatal error: Killed signal terminated program cc1plus\n", text(diagnose)),
    "tarball": (b"", members),
}


@pytest.mark.parametrize("name", list(TARGETS))
@fuzzed
@given(data=st.data())
def test_parser_raises_only_typed_errors(name: str, data: st.DataObject) -> None:
    seed, parse = TARGETS[name]
    survives(parse, data.draw(mutated(seed)))
