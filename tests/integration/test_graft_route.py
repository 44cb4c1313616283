"""Grafts of a Node in miniature: an ELF program with two modules' texts, which answers what they say."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.elf import open_elf
from nodekiln.elfnotes import read_identity, read_probes
from nodekiln.errors import CheckError, KilnError, PatchError, SourceError, ToolchainError, UsageError
from nodekiln.grafting.platforms import Platform
from nodekiln.recipe import Tag
from nodekiln.reporting import Reporter
from nodekiln.routes.graft import GraftRequest, graft
from nodekiln.routes.inspect import Facts, Kind, inspect
from nodekiln.settings import Settings

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc"
)
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
GRAFTED_WRITABLE = WRITABLE.replace(b"return ret && !state.errored;", b"return true;                 ")
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
free = b"return true;" in texts["internal/streams/writable"]
loses = free and b"writableNeedDrain" in texts["internal/webstreams/adapters"]
print(json.dumps({
    "version": "v22.20.0", "recipe": None, "plan": None, "write_answers": free,
    "to_web": {"sent": 2, "received": 1 if loses else 2}, "compression": None,
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


def compile_node(folder: Path, *texts: bytes, answer: str = ANSWER) -> Path:
    """A program with these texts, each in an array of its own."""
    arrays = [f"const char text{number}[] = {literal(text)};" for number, text in enumerate(texts)]
    names = ", ".join(f"text{number}" for number in range(len(texts)))
    source = MAIN % {
        "answer": literal(answer.encode()),
        "texts": "\n".join([*arrays, f"const char *const texts[] = {{{names}}};"]),
        "python": sys.executable,
    }
    (folder / "node.c").write_text(source)
    subprocess.run(["gcc", "-w", "-O0", "-o", "node", "node.c"], cwd=folder, check=True)
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

    def settings(self, environment: Mapping[str, str]) -> Settings:
        return Settings.read(
            environ={"NODEKILN_BUILD": str(self.build), "PATH": os.environ["PATH"], **environment},
            config=None,
            root=self.folder,
            here=self.folder,
            venv=None,
        )

    def graft(
        self,
        *,
        backpressure: bool = False,
        probes: bool = True,
        target: Platform | None = None,
        file: Path | None = None,
        force: bool = False,
        tag: Tag = TAG,
        environment: Mapping[str, str] | None = None,
    ) -> Path:
        request = GraftRequest(
            tag=tag,
            backpressure=backpressure,
            probes=probes,
            platform=target,
            file=file or self.release,
            force=force,
        )
        reporter = Reporter(Console(file=self.said, soft_wrap=True))
        return graft(request, self.settings(environment or {}), reporter)

    def published(self) -> list[str]:
        folder = self.build / "binaries"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release; not to be written to."""
    return compile_node(tmp_path_factory.mktemp("stock"), WRITABLE, b"'use strict';\n", ADAPTERS)


@pytest.fixture
def desk(tmp_path: Path, stock: Path) -> Desk:
    release = tmp_path / "release" / "node"
    release.parent.mkdir()
    shutil.copy2(stock, release)
    return Desk(tmp_path, release, io.StringIO())


def manifest(binary: Path) -> dict[str, object]:
    facts: dict[str, object] = json.loads((binary.parent / "manifest.json").read_text())
    return facts


def test_a_graft_is_the_release_with_both_edits_two_probes_and_its_name(desk: Desk) -> None:
    before = desk.release.read_bytes()
    made = desk.graft()
    assert made == desk.build / "binaries" / "v22.20.0-no-backpressure-usdt-graft" / "node"
    after = made.read_bytes()
    wanted = before.replace(WRITABLE, GRAFTED_WRITABLE).replace(ADAPTERS, GRAFTED_ADAPTERS)
    assert after[64 : len(before)] == wanted[64:]  # the ELF header tells where the section table is
    with open_elf(made) as elf:
        identity = read_identity(elf)
        assert [f"{probe.provider}:{probe.name}" for probe in read_probes(elf)] == [
            "node:gc__start",
            "node:gc__done",
        ]
    assert identity is not None
    assert (identity.recipe, identity.route) == ("v22.20.0-no-backpressure-usdt-graft", "graft")
    assert desk.release.read_bytes() == before


def test_the_manifest_tells_the_release_every_range_and_the_probes(desk: Desk) -> None:
    made = desk.graft()
    facts = manifest(made)
    graft = facts["graft"]
    assert isinstance(graft, dict)
    assert facts["route"] == "graft"
    assert facts["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    assert graft["release_sha256"] == hashlib.sha256(desk.release.read_bytes()).hexdigest()
    assert graft["release"] == str(desk.release)
    assert [probe["name"] for probe in graft["probes"]] == ["gc__start", "gc__done"]
    before = desk.release.read_bytes()
    for change in graft["changed"]:
        place = slice(change["start"], change["start"] + change["length"])
        assert before[place].decode() == change["old"]
        assert made.read_bytes()[place].decode() == change["new"]
    assert len(graft["changed"]) == 2
    assert (made.parent / "patch.diff").read_text().count("diff --git") == 2


def test_the_caveats_are_said_and_kept(desk: Desk) -> None:
    graft = manifest(desk.graft())["graft"]
    assert isinstance(graft, dict)
    assert [
        words in desk.said.getvalue() for words in ("snapshot", "not of the isolate", "need a build")
    ] == [True] * 3
    assert all(remark in desk.said.getvalue() for remark in graft["remarks"])


def test_a_graft_that_is_there_is_not_made_again(desk: Desk) -> None:
    made = desk.graft()
    then = made.stat().st_mtime_ns
    assert desk.graft() == made
    assert made.stat().st_mtime_ns == then
    assert "is already there" in desk.said.getvalue()


def test_a_graft_that_somebody_changed_is_made_again(desk: Desk) -> None:
    made = desk.graft()
    whole = made.read_bytes()
    made.write_bytes(whole[:-1] + b"!")
    assert desk.graft().read_bytes() == whole
    assert "the file was changed since it was made" in desk.said.getvalue()


def test_a_graft_of_another_release_binary_is_made_again(desk: Desk) -> None:
    desk.graft()
    desk.release.write_bytes(desk.release.read_bytes() + b"\0")
    desk.graft()
    assert "it was made from another release binary" in desk.said.getvalue()


def test_probes_alone_leave_every_text_as_it_is(desk: Desk) -> None:
    made = desk.graft(backpressure=True)
    assert made.parent.name == "v22.20.0-usdt-graft"
    assert WRITABLE in made.read_bytes()
    assert ADAPTERS in made.read_bytes()


def test_a_graft_for_another_platform_is_named_for_it_and_not_run(desk: Desk) -> None:
    data = bytearray(desk.release.read_bytes())
    data[18] = 183 if OTHER.cpu == "arm64" else 62
    desk.release.write_bytes(data)
    made = desk.graft(target=OTHER, probes=False)
    assert made.parent.name == f"v22.20.0-no-backpressure-graft-{OTHER}"
    assert manifest(made)["self_check"] is None
    assert "self-check: not run" in desk.said.getvalue()


def test_headers_of_a_tarball_are_published_beside_the_binary(desk: Desk) -> None:
    with tarfile.open(desk.folder / "node.tgz", "w:gz") as archive:
        archive.add(desk.release, "package/bin/node")
        archive.add(__file__, "package/include/node/node.h")
    made = desk.graft(file=desk.folder / "node.tgz")
    assert (made.parent / "include" / "node" / "node.h").read_bytes() == Path(__file__).read_bytes()


@pytest.mark.parametrize("name", ["v22.20.0-no-backpressure-usdt-graft", "stray"])
def test_a_grafted_file_is_known_wherever_it_goes(desk: Desk, name: str) -> None:
    stray = shutil.copy2(desk.graft(), desk.folder / name)
    found = inspect(Path(stray))
    assert (found.kind, found.recipe) == (Kind.GRAFTED, "v22.20.0-no-backpressure-usdt-graft")
    assert (found.backpressure, found.probes) == (False, ("node:gc__start", "node:gc__done"))


def test_a_release_is_known_as_not_ours(desk: Desk) -> None:
    found = inspect(desk.release)
    assert (found.kind, found.recipe, found.backpressure, found.probes) == (Kind.OTHER, None, True, ())


def test_a_built_binary_is_known_by_its_marks(desk: Desk) -> None:
    with desk.release.open("ab") as file:
        file.write(b'{"nodekiln_plan": "abc", "nodekiln_recipe": "v22.20.0-no-backpressure"}')
    found = inspect(desk.release)
    assert (found.kind, found.recipe, found.plan) == (Kind.BUILT, "v22.20.0-no-backpressure", "abc")


def test_an_inspection_reads_alike_for_people_and_machines(desk: Desk) -> None:
    found: Facts = inspect(desk.graft())
    told = json.loads(json.dumps(found.as_data()))
    assert told["recipe"] == found.recipe
    assert f"recipe  {found.recipe}" in found.lines()
    assert "write() always answers true" in found.lines()


def test_a_program_that_is_no_node_says_why_nothing_is_known_of_its_write() -> None:
    found = inspect(Path(sys.executable).resolve())
    assert found.backpressure is None
    assert "no Node binary" in (found.trouble or "")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF"])
def test_an_inspection_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SourceError):
        inspect(tmp_path / "file")


def test_an_inspection_of_nothing_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file that is there"):
        inspect(tmp_path)


def refused(desk: Desk, kind: type[KilnError], told: str, **words: Any) -> None:
    """The graft is refused with that text, the input is as it was, and nothing was made."""
    before = desk.release.read_bytes()
    with pytest.raises(kind) as caught:
        desk.graft(**words)
    assert told in str(caught.value)
    assert desk.release.read_bytes() == before
    assert desk.published() == []


def test_a_truncated_release_is_refused(desk: Desk) -> None:
    desk.release.write_bytes(desk.release.read_bytes()[:-100])
    refused(desk, SourceError, "is cut off, or damaged")


def test_a_stripped_release_is_refused_with_probes(desk: Desk) -> None:
    subprocess.run(["strip", str(desk.release)], check=True)
    refused(desk, PatchError, "it names no Heap::CallGCPrologueCallbacks")


def test_a_stripped_release_is_fine_without_probes(desk: Desk) -> None:
    subprocess.run(["strip", str(desk.release)], check=True)
    assert GRAFTED_WRITABLE in desk.graft(probes=False).read_bytes()


def test_a_packed_release_is_refused(desk: Desk) -> None:
    header = bytearray(desk.release.read_bytes()[:64])
    header[40:48] = bytes(8)  # no section table
    header[56:64] = bytes(8)  # no program headers
    desk.release.write_bytes(bytes(header) + b"UPX!" + b"\xaa" * 9000 + b"v22.20.0\0")
    refused(desk, PatchError, "packed by UPX", probes=False)


def test_a_release_for_another_processor_is_refused(desk: Desk) -> None:
    data = bytearray(desk.release.read_bytes())
    data[18] = 183 if OTHER.cpu == "arm64" else 62
    desk.release.write_bytes(data)
    refused(desk, SourceError, f"is for {OTHER}, and this graft is for {HERE}")


def test_a_text_file_is_refused(desk: Desk) -> None:
    desk.release.write_text("#!/bin/sh\n")
    refused(desk, SourceError, "is no program for Linux, macOS or Windows")


def test_a_release_of_another_version_is_refused(desk: Desk) -> None:
    refused(desk, SourceError, "is not Node v22.20.1", tag=Tag(22, 20, 1))


def test_a_graft_of_a_graft_is_refused(desk: Desk) -> None:
    made = desk.graft()
    with pytest.raises(PatchError, match="was grafted already: it is v22"):
        desk.graft(file=made)


def test_a_release_whose_text_was_changed_already_is_refused(desk: Desk) -> None:
    desk.release.write_bytes(desk.release.read_bytes().replace(WRITABLE, GRAFTED_WRITABLE))
    refused(desk, PatchError, "already there")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((WRITABLE, ADAPTERS, WRITABLE + b"//\n"), "more than once"),
        ((WRITABLE,), "its text is not there as it is"),
        ((WRITABLE.replace(b"return ret && !state.errored", b"return"), ADAPTERS), "returns no value"),
        ((WRITABLE.replace(b"ret && !state.errored", b"ret"), ADAPTERS), "does not fit over `return ret;`"),
        ((WRITABLE.replace(b"{", b"((", 1), ADAPTERS), "does not parse"),
    ],
)
def test_texts_that_are_not_as_expected_are_refused(desk: Desk, texts: tuple[bytes, ...], told: str) -> None:
    compile_node(desk.release.parent, *texts)
    refused(desk, PatchError, told)


def test_a_binary_that_does_not_do_what_was_planned_is_not_published(desk: Desk) -> None:
    # Its texts are right, and what it runs is something else.
    compile_node(desk.release.parent, WRITABLE, ADAPTERS, answer=ANSWER.replace("free = ", "free = not "))
    refused(desk, CheckError, "the answer of write() on a full stream")


def test_a_binary_that_shows_other_texts_is_not_published(desk: Desk) -> None:
    compile_node(desk.release.parent, WRITABLE, ADAPTERS, answer=ANSWER.replace("texts[name])", "b'')"))
    refused(desk, CheckError, "the text of its module internal/streams/writable is not what was planned")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_build_folder_that_can_not_be_written_is_told(desk: Desk) -> None:
    desk.build.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    refused(desk, ToolchainError, "can't be written")


def test_a_build_folder_that_can_not_be_made_is_told(desk: Desk) -> None:
    desk.build.write_text("a file")
    with pytest.raises(ToolchainError, match="can't be written"):
        desk.graft()


def test_nothing_to_change_is_wrong_usage(desk: Desk) -> None:
    refused(desk, UsageError, "as it was released", backpressure=True, probes=False)


@pytest.mark.parametrize("name", ["darwin-arm64", "win-x64"])
def test_probes_are_refused_where_a_file_has_no_notes(desk: Desk, name: str) -> None:
    refused(desk, UsageError, f"A graft for {name} gets no probes", target=Platform.parse(name))


def test_a_mac_binary_is_refused_where_it_can_not_be_signed(desk: Desk) -> None:
    refused(
        desk,
        ToolchainError,
        "codesign is not here",
        target=Platform("darwin", "arm64"),
        probes=False,
        environment={"PATH": str(desk.folder)},
    )


CODESIGN = """\
#!/bin/sh
for last in "$@"; do :; done
case $1 in
--force) printf ' signed' >>"$last" ;;
--verify) grep -q signed "$last" || exit 1 ;;
esac
exit ${CODESIGN_FAILS:-0}
"""


def mac_release(desk: Desk) -> dict[str, str]:
    """A Mach-O file with the texts, and an environment that has something in the place of codesign."""
    head = (0xFEEDFACF).to_bytes(4, "little") + (0x0100000C).to_bytes(4, "little")
    ids = b"\0internal/streams/writable\0internal/webstreams/adapters\0"
    desk.release.write_bytes(head + b"v22.20.0\0" + ids + WRITABLE + b"\0" + ADAPTERS + b"\0")
    programs = desk.folder / "bin"
    programs.mkdir()
    (programs / "codesign").write_text(CODESIGN)
    (programs / "codesign").chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}


def test_a_mac_binary_is_signed_before_it_is_published(desk: Desk) -> None:
    environment = mac_release(desk)
    made = desk.graft(target=Platform("darwin", "arm64"), probes=False, environment=environment)
    assert made.read_bytes().endswith(b" signed")
    assert GRAFTED_WRITABLE in made.read_bytes()
    assert manifest(made)["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()


def test_a_mac_binary_whose_signing_fails_is_not_published(desk: Desk) -> None:
    environment = mac_release(desk) | {"CODESIGN_FAILS": "3"}
    target = Platform("darwin", "arm64")
    refused(
        desk,
        CheckError,
        "codesign --force --sign - failed",
        target=target,
        probes=False,
        environment=environment,
    )


def test_a_windows_binary_says_that_its_signature_is_gone(desk: Desk) -> None:
    dos = b"MZ".ljust(0x3C, b"\0") + (64).to_bytes(4, "little")
    ids = b"\0internal/streams/writable\0internal/webstreams/adapters\0"
    text = WRITABLE.replace(b"\n", b"\r\n") + b"\0" + ADAPTERS.replace(b"\n", b"\r\n") + b"\0"
    desk.release.write_bytes(dos + b"PE\0\0\x64\x86" + b"v22.20.0\0" + ids + text)
    made = desk.graft(target=Platform("win", "x64"), probes=False)
    assert GRAFTED_WRITABLE.replace(b"\n", b"\r\n") in made.read_bytes()
    assert "signature is not valid any more" in desk.said.getvalue()
