"""Switch the startup snapshot off in a compiled program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nodekiln.core.elf.file import open_elf
from nodekiln.core.errors import PatchError
from nodekiln.grafting.graft import write
from nodekiln.grafting.snapshot import switch_off
from tests.integration.grafts.desk import NEEDS_GCC

pytestmark = NEEDS_GCC

FUNCTION = "_ZN4node15SnapshotBuilder23GetEmbeddedSnapshotDataEv"
FORMER = "_ZN4node16NodeMainInstance23GetEmbeddedSnapshotDataEv"
SOURCE = """
static int data[4];
%s
int main(void) { return %s() == 0 ? 0 : 7; }
"""


def compile_program(folder: Path, *functions: str) -> Path:
    bodies = "\n".join(
        f"__attribute__((noinline)) void *{name}(void) {{ return data; }}" for name in functions
    )
    (folder / "program.c").write_text(SOURCE % (bodies, functions[0]))
    subprocess.run(["gcc", "-w", "-O1", "-o", "program", "program.c"], cwd=folder, check=True)
    return folder / "program"


@pytest.mark.parametrize("function", [FUNCTION, FORMER])
def test_function_returns_null_after_the_switch(tmp_path: Path, function: str) -> None:
    program = compile_program(tmp_path, function)
    assert subprocess.run([program], check=False).returncode == 7
    with open_elf(program) as elf:
        change = switch_off(elf)
    write(program, tmp_path / "changed", [change])
    assert subprocess.run([tmp_path / "changed"], check=False).returncode == 0


@pytest.mark.parametrize("functions", [("other",), (FUNCTION, FORMER), (f"{FUNCTION}x",)])
def test_program_without_exactly_one_such_function_is_refused(
    tmp_path: Path, functions: tuple[str, ...]
) -> None:
    with (
        open_elf(compile_program(tmp_path, *functions)) as elf,
        pytest.raises(PatchError, match="symbols for"),
    ):
        switch_off(elf)
