"""Sections added to a program that a compiler made, as other tools see them; and who gets GC probes."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import (
    IDENTITY,
    PROBES,
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

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the compiler makes no ELF files here")
X64 = pytest.mark.skipif("x86_64" not in platform.machine(), reason="x64 instructions")

PROLOGUE = "_ZN2v88internal4Heap23CallGCPrologueCallbacksENS_6GCTypeENS_15GCCallbackFlagsE"
EPILOGUE = "_ZN2v88internal4Heap23CallGCEpilogueCallbacksENS_6GCTypeENS_15GCCallbackFlagsE"
COLLECT_GARBAGE = "_ZN2v88internal4Heap14CollectGarbageENS0_15AllocationSpaceE"
ARGUMENTS = {"x64": "4@%esi 4@%edx 8@%rdi", "arm64": "4@x1 4@x2 8@x0"}
ME = Identity(recipe="v22.20.0-usdt", plan="cd" * 32, route="graft")

COLLECT = f"""
#include <stdio.h>
int calls;
void prologue(void *heap, int type, int flags) __asm__("{PROLOGUE}");
void epilogue(void *heap, int type, int flags) __asm__("{EPILOGUE}");
__attribute__((noinline)) void prologue(void *heap, int type, int flags) {{ calls += type; }}
__attribute__((noinline)) void epilogue(void *heap, int type, int flags) {{ calls += flags + 1; }}
void collect(void *heap) __asm__("{COLLECT_GARBAGE}");
__attribute__((noinline)) void collect(void *heap) {{
  prologue(heap, 1, 0);
  epilogue(heap, 1, 0);
  calls++;
}}
int main(void) {{
  collect(0);
  printf("%d calls\\n", calls - 1);
}}
"""
"""A heap in miniature: functions of the names that V8's have, and a program that calls them."""

Compile = Callable[..., Path]


@pytest.fixture
def compile_program(tmp_path: Path) -> Compile:
    def compile_(*options: str, source: str = COLLECT) -> Path:
        (tmp_path / "node.c").write_text(source)
        argv = ["gcc", "-O1", "-Wno-unused-parameter", *options, "-o", "node", "node.c"]
        subprocess.run(argv, cwd=tmp_path, check=True)
        return tmp_path / "node"

    return compile_


def assembly(prologue: str) -> str:
    """A program whose prologue function consists of these instructions."""
    lines = (
        *(f".globl {PROLOGUE}", f".type {PROLOGUE}, %function", f"{PROLOGUE}: {prologue}"),
        *(f".globl {EPILOGUE}", f".type {EPILOGUE}, %function", f"{EPILOGUE}: ret"),
        *(f".globl {COLLECT_GARBAGE}", f".type {COLLECT_GARBAGE}, %function"),
        f"{COLLECT_GARBAGE}: call {PROLOGUE}; call {EPILOGUE}; ret; .size {COLLECT_GARBAGE}, 11",
    )
    return "".join(f"__asm__({json.dumps(line)});" for line in lines) + "int main(void) {}"


def graft(node: Path) -> tuple[Probe, ...]:
    with open_elf(node) as elf:
        probes = gc_probes(elf)
    add_sections(node, [*probe_sections(probes), identity_section(ME)])
    return probes


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    return subprocess.run(argv, check=True, capture_output=True, text=True)


@pytest.mark.parametrize("options", [["-no-pie"], ["-pie", "-fPIE"], ["-static"], ["-rdynamic", "-s"]])
def test_probes_are_at_the_functions(compile_program: Compile, options: list[str]) -> None:
    node = compile_program(*options)
    with open_elf(node) as elf:
        start, done = gc_probes(elf)
        symbols = elf.find_symbols([PROLOGUE, EPILOGUE])
        machine = elf.machine
    assert [start.address, done.address] == [symbols[name][0].address for name in (PROLOGUE, EPILOGUE)]
    assert [(probe.provider, probe.name) for probe in (start, done)] == [
        ("node", "gc__start"),
        ("node", "gc__done"),
    ]
    assert {start.arguments, done.arguments} == {ARGUMENTS[machine]}


def test_readelf_shows_the_notes_and_warns_of_nothing(compile_program: Compile) -> None:
    node = compile_program()
    probes = graft(node)
    shown = run("readelf", "-aW", node)
    assert shown.stderr == ""
    for probe in probes:
        assert f"Name: {probe.name}" in shown.stdout
        assert f"Location: 0x{probe.address:016x}, Base: 0x{0:016x}, Semaphore: 0x{0:016x}" in shown.stdout
        assert f"Arguments: {probe.arguments}" in shown.stdout


def test_gdb_shows_the_probes(compile_program: Compile) -> None:
    node = compile_program("-no-pie")
    probes = graft(node)
    shown = run("gdb", "--batch", "--nx", "--eval-command=info probes stap node", node).stdout
    rows = [line.split() for line in shown.splitlines() if line.startswith("stap ")]
    assert sorted(row[1:4] for row in rows) == sorted(
        ["node", probe.name, f"0x{probe.address:016x}"] for probe in probes
    )


def test_gdb_stops_at_a_probe_with_its_arguments(compile_program: Compile) -> None:
    node = compile_program("-no-pie")
    graft(node)
    shown = run(
        *("gdb", "--batch", "--nx"),
        *("--eval-command=break -probe-stap node:gc__start", "--eval-command=run"),
        *(
            '--eval-command=printf "type %d flags %d heap %d\\n", $_probe_arg0, $_probe_arg1, $_probe_arg2',
            node,
        ),
    )
    assert "type 1 flags 0 heap 0" in shown.stdout


def test_program_runs_as_before(compile_program: Compile) -> None:
    node = compile_program()
    before = run(node).stdout
    graft(node)
    assert run(node).stdout == before == "2 calls\n"


@pytest.mark.parametrize("options", [[], ["--strip-debug"]])
def test_strip_keeps_the_notes_and_the_program_runs(compile_program: Compile, options: list[str]) -> None:
    node = compile_program()
    probes = graft(node)
    assert run("strip", *options, node).stderr == ""
    with open_elf(node) as elf:
        assert read_probes(elf) == probes
        assert read_identity(elf) == ME
    assert run(node).stdout == "2 calls\n"
    assert run("readelf", "-aW", node).stderr == ""


def test_objcopy_takes_the_notes_out_again(compile_program: Compile) -> None:
    node = compile_program()
    graft(node)
    run("objcopy", f"--remove-section={PROBES}", f"--remove-section={IDENTITY}", node)
    with open_elf(node) as elf:
        assert (read_probes(elf), read_identity(elf)) == ((), None)
    assert run(node).stdout == "2 calls\n"


def test_probes_that_a_compiler_wrote_are_read(compile_program: Compile) -> None:
    note = (
        '.pushsection .note.stapsdt,"",%note',
        ".balign 4; .long 8, 2f-1f, 3",
        '.asciz "stapsdt"',
        "1: .quad main, 0, 0",
        '.asciz "shop"; .asciz "sale"; .asciz "-4@$7"',
        "2: .balign 4; .popsection",
    )
    source = "".join(f"__asm__({json.dumps(line)});" for line in note) + "int main(void) { return 0; }"
    with open_elf(compile_program("-no-pie", source=source)) as elf:
        ((main,),) = elf.find_symbols(["main"]).values()
        assert read_probes(elf) == (
            Probe(provider="shop", name="sale", address=main.address, arguments="-4@$7"),
        )


def refusal(node: Path) -> str:
    before = node.read_bytes()
    with pytest.raises(PatchError) as refused, open_elf(node) as elf:
        gc_probes(elf)
    assert node.read_bytes() == before
    assert refused.value.remedy is not None
    return refused.value.message


def test_grafted_program_is_refused(compile_program: Compile) -> None:
    node = compile_program()
    graft(node)
    assert "it has probes already" in refusal(node)


def test_stripped_program_is_refused(compile_program: Compile) -> None:
    assert "it has no symbol for Heap::CallGCPrologueCallbacks" in refusal(compile_program("-s"))


def test_program_for_another_processor_is_refused(compile_program: Compile) -> None:
    node = compile_program()
    data = bytearray(node.read_bytes())
    data[18:20] = (243).to_bytes(2, "little")
    node.write_bytes(data)
    assert "it is for riscv64" in refusal(node)


def test_two_functions_of_one_name_are_refused(compile_program: Compile) -> None:
    twin = PROLOGUE.removesuffix("E") + "NS0_8GCTracerE"
    node = compile_program(
        source=COLLECT + f'void twin(void) __asm__("{twin}"); void twin(void) {{ calls = 3; }}'
    )
    assert "it has 2 symbols for Heap::CallGCPrologueCallbacks" in refusal(node)


def test_program_made_to_be_searched_for_ever_is_refused(compile_program: Compile) -> None:
    names = (f"{COLLECT_GARBAGE}{number}" for number in range(17))
    many = "".join(
        f'void twin{number}(void) __asm__("{name}"); void twin{number}(void) {{ calls = 3; }}'
        for number, name in enumerate(names)
    )
    assert "it names 18 functions that collect garbage" in refusal(compile_program(source=COLLECT + many))


def test_unlikely_part_of_a_function_is_no_second_one(compile_program: Compile) -> None:
    cold = f'void cold(void) __asm__("{PROLOGUE}.cold"); void cold(void) {{ calls = 3; }}'
    with open_elf(compile_program(source=COLLECT + cold)) as elf:
        start, _ = gc_probes(elf)
        assert elf.find_symbols([PROLOGUE])[PROLOGUE][0].address == start.address


def test_clone_with_other_arguments_is_refused(compile_program: Compile) -> None:
    node = compile_program(source=COLLECT.replace(PROLOGUE, f"{PROLOGUE}.constprop.0"))
    assert "is a clone whose arguments the compiler may have moved" in refusal(node)


def test_functions_that_the_linker_folded_are_refused(compile_program: Compile) -> None:
    folded = f".globl {EPILOGUE}\\n.type {EPILOGUE}, %function\\n.set {EPILOGUE}, {PROLOGUE}"
    source = COLLECT.replace(EPILOGUE, "someone_else") + f'__asm__("{folded}");'
    assert "the linker folded the two functions into one" in refusal(compile_program(source=source))


@pytest.mark.parametrize("name", ["Prologue", "Epilogue"])
def test_function_that_the_compiler_copied_into_its_caller_is_refused(
    compile_program: Compile, name: str
) -> None:
    call = f"{name.lower()}(heap, 1, 0);"
    assert COLLECT.count(call) == 1
    node = compile_program(source=COLLECT.replace(call, "calls++;"))
    assert f"Heap::CollectGarbage does not call Heap::CallGC{name}Callbacks" in refusal(node)


INCREMENTAL = "_ZN2v88internal4Heap41InvokeIncrementalMarkingPrologueCallbacksEv"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("calls += 8;", ["gc__start", "gc__done", "gc__start"]),
        ("prologue(heap, 8, 0); calls++;", ["gc__start", "gc__done"]),
        ("prologue(heap, 8, 0);", ["gc__start", "gc__done"]),  # a jump
    ],
)
def test_start_of_incremental_marking_gets_a_probe_unless_it_calls_the_function(
    compile_program: Compile, body: str, names: list[str]
) -> None:
    source = COLLECT.replace(
        "int main",
        f'void begin(void *heap) __asm__("{INCREMENTAL}");\n'
        f"__attribute__((noinline)) void begin(void *heap) {{ {body} }}\nint main",
    )
    node = compile_program("-O2", "-fno-inline", "-falign-functions=512", source=source)
    with open_elf(node) as elf:
        probes = gc_probes(elf)
        [begin] = elf.find_symbols([INCREMENTAL])[INCREMENTAL]
    assert [probe.name for probe in probes] == names
    if len(probes) > 2:
        assert probes[2].address == begin.address
        assert probes[2].arguments == {"x64": "4@$8 4@$0 8@%rdi", "arm64": "4@8 4@0 8@x0"}[elf.machine]


def test_call_from_elsewhere_is_not_enough(compile_program: Compile) -> None:
    node = compile_program(source=COLLECT.replace(COLLECT_GARBAGE, "someone_else"))
    assert "Heap::CollectGarbage does not call Heap::CallGCPrologueCallbacks" in refusal(node)


def test_function_outside_text_is_refused(compile_program: Compile) -> None:
    placed = COLLECT.replace("((noinline)) void prologue", '((noinline, section("elsewhere"))) void prologue')
    assert "Heap::CallGCPrologueCallbacks is not a function in .text" in refusal(
        compile_program(source=placed)
    )


def test_data_of_that_name_is_refused(compile_program: Compile) -> None:
    source = f"""
    int prologue __asm__("{PROLOGUE}") = 3;
    void epilogue(void) __asm__("{EPILOGUE}");
    void epilogue(void) {{}}
    int main(void) {{ return 0; }}
    """
    assert "Heap::CallGCPrologueCallbacks is not a function in .text" in refusal(
        compile_program(source=source)
    )


@X64
@pytest.mark.parametrize(
    "instruction", ["int3", "ud2", "hlt", "lock incl (%rax)", ".long 0", "cli", "syscall"]
)
def test_first_instruction_that_takes_no_uprobe_is_refused(
    compile_program: Compile, instruction: str
) -> None:
    node = compile_program(source=assembly(f"{instruction}; ret"))
    assert "begins with an instruction that can't be probed" in refusal(node)


@X64
@pytest.mark.parametrize("instruction", ["endbr64", "push %rbp", "mov %rsp, %rbp", "xor %eax, %eax", "nop"])
def test_usual_first_instructions_take_one(compile_program: Compile, instruction: str) -> None:
    with open_elf(compile_program(source=assembly(f"{instruction}; nop; nop; nop; ret"))) as elf:
        assert len(gc_probes(elf)) == 2
