"""What adding note sections costs, three ways, and what each changes in the file.

    python benchmarks/elf_sections.py NODE ...

NODE: official releases for Linux. Also times the search for the two GC functions, next to pyelftools.
LIEF and pyelftools are measured where they are installed, objcopy where it is on the PATH.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nodekiln.core.elf.file import NOTE, open_elf
from nodekiln.core.elf.notes import PROBES, NewSection, add_sections, probe_sections
from nodekiln.grafting.probes import gc_probes

_ROUNDS = 3
_BLOCK = 4096
_SEGMENTS = slice(32, 40)
"""Where the ELF header tells the place of the program headers."""


def with_nodekiln(node: Path, notes: bytes) -> None:
    add_sections(node, [NewSection(PROBES, notes, NOTE)])


def with_objcopy(node: Path, notes: bytes) -> None:
    file = node.with_suffix(".notes")
    file.write_bytes(notes)
    subprocess.run(["objcopy", f"--add-section={PROBES}={file}", node], check=True)


def with_lief(node: Path, notes: bytes) -> None:
    import lief

    binary: Any = lief.ELF.parse(str(node))
    section = lief.ELF.Section(PROBES, lief.ELF.Section.TYPE.NOTE)
    section.content = list(notes)
    section.alignment = 4
    binary.add(section, loaded=False)
    binary.write(str(node))


def ways() -> Iterator[tuple[str, Callable[[Path, bytes], None]]]:
    yield "nodekiln", with_nodekiln
    if shutil.which("objcopy"):
        yield "objcopy", with_objcopy
    if importlib.util.find_spec("lief"):
        importlib.import_module("lief")  # its first import takes half a second, which is not what is compared
        yield "LIEF", with_lief


def search_with_nodekiln(node: Path) -> bytes:
    with open_elf(node) as elf:
        return probe_sections(gc_probes(elf))[0].content


def search_with_pyelftools(node: Path) -> int:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    with node.open("rb") as file:
        tables = [
            section for section in ELFFile(file).iter_sections() if isinstance(section, SymbolTableSection)
        ]
        return sum(
            "CallGCPrologueCallbacks" in symbol.name for table in tables for symbol in table.iter_symbols()
        )


def best(action: Callable[[], object]) -> float:
    """Seconds of the fastest of three rounds."""
    seconds = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def what_changed(before: bytes, after: bytes) -> str:
    blocks = range(_BLOCK, min(len(before), len(after)) - _BLOCK, _BLOCK)
    other = sum(before[at : at + _BLOCK] != after[at : at + _BLOCK] for at in blocks)
    start = int.from_bytes(before[_SEGMENTS], "little")
    same = before[start:_BLOCK] == after[start:_BLOCK] and before[_SEGMENTS] == after[_SEGMENTS]
    return (
        f"{other:6} of {len(blocks)} blocks between the first and the last changed, program headers "
        f"{'as before' if same else 'changed'}, {len(after) - len(before):+} bytes"
    )


def measure(node: Path, folder: Path) -> Iterator[str]:
    before = node.read_bytes()
    copy = folder / "node"
    yield f"{node}: {len(before) / 1e6:.0f} MB; copied in {best(lambda: shutil.copyfile(node, copy)):.3f} s"
    notes = search_with_nodekiln(node)
    yield f"  functions found   nodekiln    {best(lambda: search_with_nodekiln(node)):7.4f} s"
    if importlib.util.find_spec("elftools"):
        yield f"                    pyelftools  {best(lambda: search_with_pyelftools(node)):7.4f} s"
    for name, add in ways():
        seconds = []
        for _ in range(_ROUNDS):
            shutil.copyfile(node, copy)
            begun = time.perf_counter()
            add(copy, notes)
            seconds.append(time.perf_counter() - begun)
        change = what_changed(before, copy.read_bytes())
        yield f"  section added     {name:11} {min(seconds):7.4f} s  {change}"


def main(nodes: list[str]) -> None:
    if not nodes:
        sys.exit("usage: python benchmarks/elf_sections.py NODE ...")
    with tempfile.TemporaryDirectory() as folder:
        for node in nodes:
            for line in measure(Path(node), Path(folder)):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
