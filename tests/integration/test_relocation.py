"""Texts that move in programs that gcc compiled from objects like Node's, in fixed and in relative code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nodekiln.core.edit import Edit, Span
from nodekiln.core.elf.file import Elf, open_elf
from nodekiln.core.elf.notes import Identity, add_sections, identity_section, read_identity
from nodekiln.core.elf.segment import add_segment, find_room
from nodekiln.core.errors import PatchError
from nodekiln.grafting.builtins import Builtin, locate_by_symbols
from nodekiln.grafting.graft import write
from nodekiln.grafting.relocate import Relocation, relocate

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None, reason="needs Linux and g++"
)

SOURCE = r"""
#include <cstdint>
#include <cstdio>
namespace node { namespace builtins {
__attribute__((noinline)) void* retain(void* owner) { asm volatile("" : "+r"(owner)); return owner; }
template <typename Character> class Resource {
 public:
  Resource(const Character* data, unsigned long length, void* owner)
    : data_(data), length_(length), owner_(retain(owner)) {}
  virtual ~Resource() { retain(owner_); }
  void print() const { fwrite(data_, sizeof(Character), length_, stdout); }
 private:
  void* cached_ = nullptr;
  const Character* data_;
  const unsigned long length_;
  void* owner_;
};
static const char fs_raw[] = "'use strict';\nfs\n";
static const char net_raw[] = "'use strict';\nnet\n";
static const uint16_t internal_cli_table_raw[] = {'a', 'b', 0x2026};
static Resource<char> fs_resource(fs_raw, sizeof fs_raw - 1, nullptr);
static Resource<char> net_resource(net_raw, sizeof net_raw - 1, nullptr);
static Resource<uint16_t> internal_cli_table_resource(internal_cli_table_raw, 3, nullptr);
}}
int main() {
  node::builtins::fs_resource.print();
  node::builtins::net_resource.print();
  node::builtins::internal_cli_table_resource.print();
}
"""
FS, NET, WIDE = "lib/fs.js", "lib/net.js", "lib/internal/cli_table.js"
OLD = {FS: b"'use strict';\nfs\n", NET: b"'use strict';\nnet\n", WIDE: "ab…".encode()}
LONGER = b"'use strict';\nfs\n" + b"// more\n" * 9000


@pytest.fixture(scope="module", params=["-no-pie -fno-pie", "-pie -fPIE"], ids=["fixed", "relative"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that prints its three texts."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "node.cc").write_text(SOURCE)
    flags = str(request.param).split()
    subprocess.run(["g++", "-O2", *flags, "-o", "node", "node.cc"], cwd=folder, check=True)
    return folder / "node"


def replaced(builtins: dict[str, Builtin], texts: dict[str, bytes]) -> list[Edit]:
    return [
        Edit(path, builtins[path].text, (Span(0, len(builtins[path].text), text, "test"),))
        for path, text in texts.items()
    ]


def plan(elf: Elf, texts: dict[str, bytes]) -> Relocation:
    builtins = dict(locate_by_symbols(elf, OLD))
    assert {path: builtin.text for path, builtin in builtins.items()} == OLD
    return relocate(elf, builtins, replaced(builtins, texts))


def make(program: Path, target: Path, texts: dict[str, bytes]) -> bytes:
    """Move the texts in a copy, and return what it prints."""
    with open_elf(program) as elf:
        moved = plan(elf, texts)
    write(program, target, moved.rewritten)
    with open_elf(target) as elf:
        add_segment(target, elf, find_room(elf), moved.content)
    return subprocess.run([target], check=True, capture_output=True).stdout


def test_longer_texts_are_printed_in_place_of_the_old(program: Path, tmp_path: Path) -> None:
    printed = make(program, tmp_path / "node", {FS: LONGER, WIDE: "….\n".encode() * 3})
    assert printed == LONGER + OLD[NET] + "….\n".encode("utf-16-le") * 3


def test_moved_texts_are_found_again(program: Path, tmp_path: Path) -> None:
    make(program, tmp_path / "node", {FS: LONGER, NET: b"shorter"})
    with open_elf(tmp_path / "node") as elf:
        found = locate_by_symbols(elf, OLD)
    assert {path: builtin.text for path, builtin in found.items()} == {**OLD, FS: LONGER, NET: b"shorter"}


def test_notes_are_kept_beside_a_new_segment(program: Path, tmp_path: Path) -> None:
    target = tmp_path / "node"
    printed = make(program, target, {FS: LONGER})
    identity = Identity(recipe="v22.20.0-graft", plan="0" * 64, route="graft", changes=())
    add_sections(target, (identity_section(identity),))
    with open_elf(target) as elf:
        assert read_identity(elf) == identity
        before = [section.name for section in elf.sections if section.name.startswith(".note")]
    assert ".note.gnu.build-id" in before
    assert subprocess.run([target], check=True, capture_output=True).stdout == printed


def test_character_beyond_the_encoding_of_a_module_is_refused(program: Path) -> None:
    with open_elf(program) as elf, pytest.raises(PatchError, match=r"lib/net\.js.*u2026"):
        plan(elf, {NET: "…".encode()})


def test_text_of_the_same_length_without_a_known_code_cache_is_refused(program: Path) -> None:
    with open_elf(program) as elf, pytest.raises(PatchError, match="code cache"):
        plan(elf, {NET: OLD[NET].replace(b"net", b"ten")})


def test_stripped_program_has_no_module_that_could_move(program: Path, tmp_path: Path) -> None:
    subprocess.run(["strip", "-o", tmp_path / "node", program], check=True)
    with open_elf(tmp_path / "node") as elf:
        assert locate_by_symbols(elf, OLD) == {}
