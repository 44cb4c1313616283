"""Grafts of a Node in miniature: an ELF program with two modules' texts, which answers what they say."""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.binaries.store import Store
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
CHECKOUT = Path(__file__).parents[2]
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

    @property
    def path(self) -> str:
        """A PATH with nothing, so without a tracer: this Node collects no garbage that it could see."""
        return str(self.folder / "nothing")

    def settings(self, environment: Mapping[str, str]) -> Settings:
        return Settings.read(
            environ={"NODEKILN_BUILD": str(self.build), "PATH": self.path, **environment},
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

    def inv(self, *words: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """What a user types, by way of the command `prefix`."""
        env = {
            "PATH": self.path,
            "HOME": str(self.folder),
            "PYTHONPATH": str(CHECKOUT / "src"),
            "NODEKILN_BUILD": str(self.build),
        }
        argv = [*prefix, sys.executable, str(CHECKOUT / "program.py"), *words]
        return subprocess.run(argv, cwd=self.folder, env=env, check=False, capture_output=True, text=True)

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
    assert facts["probes_seen"] == "unproven: There is no bpftrace on the PATH."
    before = desk.release.read_bytes()
    for change in graft["changed"]:
        place = slice(change["start"], change["start"] + change["length"])
        assert before[place].decode() == change["old"]
        assert made.read_bytes()[place].decode() == change["new"]
    assert len(graft["changed"]) == 2
    assert (made.parent / "patch.diff").read_text().count("diff --git") == 2


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


def ends_of(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["start"], row["start"] + row["length"]) for row in rows]


@pytest.mark.parametrize(
    ("backpressure", "probes", "padding"), [(False, True, 0), (False, False, 3), (True, True, 1)]
)
def test_a_graft_differs_from_its_release_in_the_ranges_of_its_manifest_and_nowhere_else(
    desk: Desk, backpressure: bool, probes: bool, padding: int
) -> None:
    desk.release.write_bytes(desk.release.read_bytes() + b"\xff" * padding)
    before = desk.release.read_bytes()
    made = desk.graft(backpressure=backpressure, probes=probes)
    after, graft = made.read_bytes(), manifest(made)["graft"]
    assert isinstance(graft, dict)
    assert after[: len(before)] == apply(before, graft)
    assert graft["release_size"] == len(before)
    appended = ends_of(graft["appended"])
    assert appended[0][0] == len(before)
    assert [start for start, _ in appended[1:]] == [end for _, end in appended[:-1]]
    assert appended[-1][1] == len(after)
    told = [*ends_of([*graft["changed"], *graft["rewritten"]]), (len(before), len(after))]
    for start, end in told:
        assert f"{end - start} bytes at {start:#x}, " in desk.said.getvalue()


def test_what_was_appended_is_told_by_its_name(desk: Desk) -> None:
    graft = manifest(desk.graft())["graft"]
    assert isinstance(graft, dict)
    names = ["section .note.nodekiln", "section .note.stapsdt", "section .stapsdt.base"]
    told = [row["what"] for row in graft["appended"] if row["what"] != "zeros"]
    assert told == [*names, "names of the sections", "section table"]


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


def test_a_graft_whose_probes_are_elsewhere_now_is_made_again(desk: Desk) -> None:
    made = desk.graft()
    facts = manifest(made)
    facts["graft"]["probes"][0]["address"] += 1  # type: ignore[index]
    (made.parent / "manifest.json").write_text(json.dumps(facts))
    desk.graft()
    assert "its probes were others" in desk.said.getvalue()


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
    assert (manifest(made)["self_check"], manifest(made)["probes_seen"]) == (None, None)
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
    refused(desk, PatchError, "was grafted already: it is v22", file=made, backpressure=True)


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


READ_ONLY = stat.S_IRUSR | stat.S_IXUSR
CAP_DAC_OVERRIDE, CAPABILITY_VERSION_3 = 1, 0x20080522


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """Takes from root, for this thread, the capability by which root writes where nobody may."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    before = ctypes.create_string_buffer(24)
    assert libc.capget(header, before) == 0
    effective, *rest = struct.unpack("6I", before.raw)
    assert libc.capset(header, struct.pack("6I", effective & ~(1 << CAP_DAC_OVERRIDE), *rest)) == 0
    yield
    assert libc.capset(header, before) == 0


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_build_folder_that_can_not_be_written_is_told(desk: Desk) -> None:
    desk.build.mkdir(mode=READ_ONLY)
    refused(desk, ToolchainError, "can't be written")


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_folder_of_binaries_that_can_not_be_written_is_named(desk: Desk) -> None:
    (desk.build / "binaries").mkdir(parents=True)
    (desk.build / "binaries").chmod(READ_ONLY)
    before = desk.release.read_bytes()
    with pytest.raises(PermissionError) as caught:
        desk.graft()
    assert str(desk.build / "binaries") in str(caught.value.filename)
    assert (desk.release.read_bytes(), desk.published()) == (before, [])


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_release_in_a_read_only_folder_is_grafted(desk: Desk) -> None:
    desk.release.chmod(READ_ONLY)
    desk.release.parent.chmod(READ_ONLY)
    assert GRAFTED_WRITABLE in desk.graft().read_bytes()


def test_a_build_folder_that_can_not_be_made_is_told(desk: Desk) -> None:
    desk.build.write_text("a file")
    with pytest.raises(ToolchainError, match="can't be written"):
        desk.graft()


SMALL_DISK = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin mount -t tmpfs -o size=16k none "$1" && shift || exit
"$@"
code=$?
PATH=/usr/bin:/bin ls -A "$NODEKILN_BUILD"/*
exit $code
"""
"""Runs a command in which a folder is a disk of its own, and shows what is there then."""


def test_a_full_disk_is_told_and_keeps_nothing_half_made(desk: Desk) -> None:
    desk.build.mkdir()
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    inside = [shutil.which("unshare") or "/", *as_root, "--mount", "/bin/sh", "-c"]
    try:
        subprocess.run([*inside, "mount -t tmpfs none /mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    done = desk.inv(
        "graft",
        "--tag=v22.20.0",
        "--no-backpressure",
        f"--release={desk.release}",
        prefix=[*inside, SMALL_DISK, "sh", str(desk.build)],
    )
    assert done.returncode == SourceError.exit_code
    assert f"are free in {desk.build}" in done.stderr
    assert "staging" not in done.stdout


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
    before, after = desk.release.read_bytes(), made.read_bytes()
    assert after.endswith(b" signed")
    assert GRAFTED_WRITABLE in after
    assert manifest(made)["sha256"] == hashlib.sha256(after).hexdigest()
    graft = manifest(made)["graft"]
    assert isinstance(graft, dict)
    assert after[: len(before)] == apply(before, graft)
    assert graft["appended"] == [{"what": "code signature", "start": len(before), "length": len(" signed")}]


def test_bytes_that_signing_changed_are_told(desk: Desk) -> None:
    environment = mac_release(desk)
    codesign = desk.folder / "bin" / "codesign"
    overwrite = "printf 'cut' | dd of=\"$last\" bs=1 seek=20 conv=notrunc status=none ;;"
    codesign.write_text(
        CODESIGN.replace("printf ' signed' >>\"$last\" ;;", overwrite).replace("|| exit 1", "")
    )
    made = desk.graft(target=Platform("darwin", "arm64"), probes=False, environment=environment)
    graft = manifest(made)["graft"]
    assert isinstance(graft, dict)
    before = desk.release.read_bytes()
    assert made.read_bytes() == apply(before, graft)
    told = {"what": "code signature", "start": 20, "length": 3, "old": before[20:23].hex()}
    assert graft["rewritten"] == [told | {"new": b"cut".hex()}]
    assert graft["appended"] == []


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


@pytest.fixture
def windows(desk: Desk) -> Desk:
    """A desk with a PE file that has the texts."""
    dos = b"MZ".ljust(0x3C, b"\0") + (64).to_bytes(4, "little")
    ids = b"\0internal/streams/writable\0internal/webstreams/adapters\0"
    text = WRITABLE.replace(b"\n", b"\r\n") + b"\0" + ADAPTERS.replace(b"\n", b"\r\n") + b"\0"
    desk.release.write_bytes(dos + b"PE\0\0\x64\x86" + b"v22.20.0\0" + ids + text)
    return desk


WINDOWS = "v22.20.0-no-backpressure-graft-win-x64"


def test_a_windows_binary_has_its_edits_and_says_that_its_signature_is_gone(windows: Desk) -> None:
    made = windows.graft(target=Platform("win", "x64"), probes=False)
    assert GRAFTED_WRITABLE.replace(b"\n", b"\r\n") in made.read_bytes()
    assert "signature is not valid any more" in windows.said.getvalue()
    graft = manifest(made)["graft"]
    assert isinstance(graft, dict)
    assert made.read_bytes() == apply(windows.release.read_bytes(), graft)


def test_a_strayed_windows_binary_says_what_it_is_and_is_not_grafted_again(windows: Desk) -> None:
    win = Platform("win", "x64")
    stray = Path(shutil.copy(windows.graft(target=win, probes=False), windows.folder / "stray.exe"))
    found = inspect(stray)
    assert (found.kind, found.recipe) == (Kind.GRAFTED, "v22.20.0-no-backpressure-graft")
    assert (found.platform, found.backpressure) == ("win-x64", False)
    told = "was grafted already: it is v22.20.0-no-backpressure-graft"
    refused(windows, PatchError, told, file=stray, target=win, probes=False)
    assert inspect(windows.release).kind is Kind.OTHER


def test_a_windows_binary_is_published_and_found_as_an_exe(windows: Desk) -> None:
    made = windows.graft(target=Platform("win", "x64"), probes=False)
    assert made == windows.build / "binaries" / WINDOWS / "node.exe"
    store = Store(windows.build / "binaries")
    assert store.get(WINDOWS).binary == made
    assert [published.binary for published in store.list()] == [made]
    assert windows.graft(target=Platform("win", "x64"), probes=False) == made
    assert "is already there" in windows.said.getvalue()


def test_path_and_list_tell_the_exe(windows: Desk) -> None:
    made = windows.graft(target=Platform("win", "x64"), probes=False)
    assert windows.inv("path", WINDOWS).stdout == f"{made}\n"
    (row,) = json.loads(windows.inv("list", "--format=json").stdout)
    assert row["path"] == str(made)


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"platform": "solaris-x64"}, 2, "'solaris-x64' is no platform that can be grafted"),
        ({"platform": "linux"}, 2, "Take one of linux-x64"),
        ({"release": "."}, 6, "is no file.\n  --release FILE takes a tarball or a binary"),
        ({"release": "/dev/zero"}, 6, "--release /dev/zero is no file"),
        ({"release": "nothing"}, 6, "can't be read: No such file"),
        ({"tag": "v22.20"}, 2, "is not a tag of a Node release"),
        ({"tag": "v22.20.1"}, 6, "is not Node v22.20.1.\n  --tag names the release's version"),
        ({"mirror": "ftp://localhost/dist", "release": ""}, 2, "no http(s) URL"),
        ({"words": "4"}, 2, "No idea what '--words' is"),
    ],
)
def test_what_a_user_gets_wrong_is_told_in_a_few_words(
    desk: Desk, changed: dict[str, str], code: int, told: str
) -> None:
    options = {"tag": "v22.20.0", "release": str(desk.release), **changed}
    done = desk.inv("graft", "--no-backpressure", *(f"--{name}={value}" for name, value in options.items()))
    assert told in done.stderr
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) < 8
    assert desk.published() == []
