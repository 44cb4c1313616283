"""GC probes on official releases: added without moving a byte, seen by other tools, fired by collections."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import (
    Identity,
    Probe,
    add_sections,
    identity_section,
    probe_sections,
    read_identity,
    read_probes,
)
from nodekiln.core.errors import PatchError
from nodekiln.grafting.probes import gc_probes

pytestmark = pytest.mark.release

INLINED = "18.20.8"
"""Its compiler inlined V8's two functions into the one that collects, so probes on them would never fire."""
COPIED = "22.0.0"
"""Its compiler copied the first of V8's functions into the one that starts incremental marking."""
RUNNABLE = ("20.20.2", COPIED, "22.20.0", "24.21.0", "26.10.0")
ARM64 = "22.20.0-arm64"
Fetch = Callable[[str], Path]
ME = Identity(recipe="v0.0.0-usdt", plan="ef" * 32, route="graft")

ALLOCATE = """
const kept = [];
for (let round = 0; round < 40; round++) {
  for (let i = 0; i < 30000; i++) kept.push({ i, text: 'x' + i });
  if (round % 10 === 9) { kept.length = 0; gc(); }
}
for (let i = 0; i < 2e6; i++) kept.push({ i, text: 'x' + i }); // for incremental marking
"""
COUNT = """
usdt:%s:node:gc__start { printf("start %%d %%d\\n", tid, arg0); }
usdt:%s:node:gc__done { printf("done %%d %%d\\n", tid, arg0); }
END { printf("ended\\n"); }
"""
LINE = re.compile(r"\[(\d+):0x[0-9a-f]+\] +\d+ ms: (?:Incremental )?(Scavenge|Minor|Mark-Compact|Mark-sweep)")
COMPARABLE = {1, 2, 4}
"""GC types that --trace-gc prints a line for."""
INCREMENTAL = 8


def graft(release: Path, folder: Path) -> tuple[Path, tuple[Probe, ...]]:
    node = folder / "node"
    shutil.copy(release, node)
    with open_elf(node) as elf:
        probes = gc_probes(elf)
    add_sections(node, [*probe_sections(probes), identity_section(ME)])
    return node, probes


def readelf(what: str, node: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["readelf", what, node], check=True, capture_output=True, text=True)


def segments(node: Path) -> list[dict[str, object]]:
    with node.open("rb") as file:
        return [dict(segment.header) for segment in ELFFile(file).iter_segments()]


@pytest.mark.parametrize("version", [*RUNNABLE, ARM64])
def test_probes_are_added_and_nothing_else_changes(
    fetch_release: Fetch, version: str, tmp_path: Path
) -> None:
    release = fetch_release(version)
    node, probes = graft(release, tmp_path)
    with open_elf(node) as elf:
        assert read_probes(elf) == probes
        assert read_identity(elf) == ME
        symbols = {*elf.find_symbols(["_ZN2v88internal4Heap23CallGC"]).popitem()[1]}
        if version == COPIED:
            symbols.update(elf.find_symbols(["_ZN2v88internal4Heap41InvokeIncrementalMarkingP"]).popitem()[1])
    assert {probe.address for probe in probes} == {symbol.address for symbol in symbols}
    before, after = release.read_bytes(), bytearray(node.read_bytes())
    after[40:48], after[60:62] = before[40:48], before[60:62]  # where the section table is, and its length
    assert after.startswith(before)
    assert segments(node) == segments(release)


def test_release_with_inlined_functions_is_refused(fetch_release: Fetch) -> None:
    with open_elf(fetch_release(INLINED)) as elf, pytest.raises(PatchError, match="has inlined"):
        gc_probes(elf)


@pytest.mark.parametrize("version", [*RUNNABLE, ARM64])
def test_readelf_lists_the_probes_and_warns_of_nothing_new(
    fetch_release: Fetch, version: str, tmp_path: Path
) -> None:
    release = fetch_release(version)
    node, probes = graft(release, tmp_path)
    shown = readelf("-nW", node).stdout
    for probe in probes:
        assert f"Name: {probe.name}" in shown
        assert f"Location: 0x{probe.address:016x}" in shown
    for what in ("-hSlW", "-nW"):
        assert readelf(what, node).stderr == readelf(what, release).stderr


@pytest.mark.parametrize("version", RUNNABLE)
def test_binary_runs(fetch_release: Fetch, version: str, tmp_path: Path) -> None:
    node, _ = graft(fetch_release(version), tmp_path)
    ran = subprocess.run([node, "-p", "process.version"], check=True, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == (f"v{version}\n", "")


@pytest.mark.parametrize(("version", "told"), [("22.20.0", True), ("24.21.0", False)])
def test_stripped_release_gets_probes_while_it_exports_the_functions(
    fetch_release: Fetch, version: str, told: bool, tmp_path: Path
) -> None:
    whole, stripped = fetch_release(version), tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, whole], check=True)
    with open_elf(whole) as elf:
        expected = gc_probes(elf)
    with open_elf(stripped) as elf:
        if told:
            assert gc_probes(elf) == expected
        else:
            with pytest.raises(PatchError, match="it has no symbol for Heap::CallGCPrologueCallbacks"):
                gc_probes(elf)


@pytest.mark.parametrize("version", ["22.20.0", "24.21.0"])
def test_strip_keeps_the_notes_and_the_binary_runs(
    fetch_release: Fetch, version: str, tmp_path: Path
) -> None:
    node, probes = graft(fetch_release(version), tmp_path)
    stripped = subprocess.run(["strip", node], check=True, capture_output=True, text=True)
    assert stripped.stderr == ""
    with open_elf(node) as elf:
        assert read_probes(elf) == probes
        assert read_identity(elf) == ME
    ran = subprocess.run([node, "-p", "process.version"], check=True, capture_output=True, text=True)
    assert ran.stdout == f"v{version}\n"


@pytest.mark.parametrize("version", ["22.20.0"])
def test_gdb_shows_the_probes(fetch_release: Fetch, version: str, tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    node, probes = graft(fetch_release(version), tmp_path)
    argv = ["gdb", "--batch", "--nx", "--eval-command=info probes stap node", str(node)]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    for probe in probes:
        assert re.search(rf"^stap +node +{probe.name} +0x{probe.address:016x}", shown, re.MULTILINE)


def needs_tracer() -> None:
    if shutil.which("bpftrace") is None or os.geteuid() != 0:
        pytest.skip("tracing needs bpftrace and root")


@pytest.mark.trace
@pytest.mark.parametrize("version", ["22.20.0", "24.21.0"])
def test_bpftrace_lists_the_probes(fetch_release: Fetch, version: str, tmp_path: Path) -> None:
    needs_tracer()
    node, _ = graft(fetch_release(version), tmp_path)
    argv = ["bpftrace", "-l", f"usdt:{node}:*"]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
    assert sorted(shown.split()) == [f"usdt:{node}:node:gc__done", f"usdt:{node}:node:gc__start"]


@pytest.mark.trace
@pytest.mark.parametrize("version", RUNNABLE)
def test_probes_fire_as_often_as_trace_gc_prints(fetch_release: Fetch, version: str, tmp_path: Path) -> None:
    needs_tracer()
    node, _ = graft(fetch_release(version), tmp_path)
    (tmp_path / "allocate.js").write_text(ALLOCATE)
    traced = tmp_path / "traced.txt"
    command = f"{node} --trace-gc --expose-gc {tmp_path / 'allocate.js'}"
    argv = ["bpftrace", "-q", "-o", str(traced), "-e", COUNT % (node, node), "-c", command]
    ran = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300)
    printed = len(LINE.findall(ran.stdout))
    fired = Counter(
        (words[0], int(words[2]))
        for words in map(str.split, traced.read_text().splitlines())
        if len(words) == 3
    )
    assert "ended" in traced.read_text()
    assert printed > 10
    for what in ("start", "done"):
        assert (
            sum(times for (name, kind), times in fired.items() if name == what and kind in COMPARABLE)
            == printed
        )
    for kind in (*COMPARABLE, INCREMENTAL):
        assert fired["start", kind] == fired["done", kind]
    assert fired["start", INCREMENTAL] > 0
    assert fired["start", 1] > 0
    assert fired["start", 4] >= 4  # one for each gc()
