"""Tarballs, good and hostile, go into a real mirror; what is refused leaves no trace there."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.archive import Limits
from nodekiln.source.tarball import import_tarball, imported

TAG = Tag(20, 19, 2)
TOP = "node-v20.19.2"
VERSION = b"#define NODE_MAJOR_VERSION 20\n#define NODE_MINOR_VERSION 19\n#define NODE_PATCH_VERSION 2\n"
LIMITS = Limits(members=12, file=5000, total=8000)
Member = tuple[tarfile.TarInfo, bytes]


def member(
    path: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, to: str = "", mode: int = 0o644
) -> Member:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode, info.size = kind, to, mode, len(content)
    return info, content


def inside(
    path: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, to: str = "", mode: int = 0o644
) -> Member:
    return member(f"{TOP}/{path}", content, kind=kind, to=to, mode=mode)


def link(path: str, to: str) -> Member:
    return inside(path, kind=tarfile.SYMTYPE, to=to)


def hard(path: str, to: str) -> Member:
    return inside(path, kind=tarfile.LNKTYPE, to=to)


HEADER = inside("src/node_version.h", VERSION)


def archive(*members: Member, format_: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def damaged_header() -> bytes:
    raw = bytearray(archive(HEADER, inside("a", b"first"), inside("b", b"second")))
    raw[raw.index(f"{TOP}/b".encode())] ^= 1
    return gzip.compress(bytes(raw))


def without_end() -> bytes:
    raw = archive(HEADER, inside("a", b"first"))
    return gzip.compress(raw[: raw.index(b"first") + 512])


def wrong_crc() -> bytes:
    raw = bytearray(gzip.compress(archive(HEADER, inside("a", b"first"))))
    raw[-8] ^= 1
    return bytes(raw)


def old_sparse() -> bytes:
    raw = archive(HEADER, inside("hole", b"x" * 512, kind=tarfile.GNUTYPE_SPARSE), format_=tarfile.GNU_FORMAT)
    return gzip.compress(raw)


def huge_pax_header() -> bytes:
    info, content = inside("a", b"first")
    info.pax_headers = {"comment": "x" * 3_000_000}
    return gzip.compress(archive(HEADER, (info, content)))


def negative_size() -> bytes:
    info = tarfile.TarInfo(f"{TOP}/a")
    info.size = -512
    return gzip.compress(archive(HEADER)[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def git(mirror: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "--git-dir", str(mirror), *arguments], check=True, capture_output=True, text=True
    ).stdout


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "locks" not in path.parts)


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def reporter(said: io.StringIO) -> Reporter:
    return Reporter(Console(file=said, soft_wrap=True))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "build")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def to_disk(content: bytes, name: str = f"{TOP}.tar.gz") -> Path:
        file = tmp_path / name
        file.write_bytes(content)
        return file

    return to_disk


GOOD = (
    member(TOP, kind=tarfile.DIRTYPE),
    inside("configure", b"#!/bin/sh\n", mode=0o775),
    HEADER,
    inside("docs/link", kind=tarfile.SYMTYPE, to="../src/node_version.h"),
    hard("copy.h", f"{TOP}/src/node_version.h"),
    inside('odd "name" \\ and \N{SNOWMAN}.js', b""),
)
GOOD_LISTING = [
    "100755 configure",
    "100644 copy.h",
    "120000 docs/link",
    '100644 odd "name" \\ and \N{SNOWMAN}.js',
    "100644 src/node_version.h",
]


def listing(mirror: Path, commit: str) -> list[str]:
    lines = git(mirror, "ls-tree", "-r", "-z", commit).split("\0")[:-1]
    return [f"{line[:6]} {line.split(chr(9), 1)[1]}" for line in lines]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tarball_becomes_a_commit_without_its_top_folder(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path], compress: Callable[[bytes], bytes]
) -> None:
    done = import_tarball(workspace, TAG, save(compress(archive(*GOOD))), reporter)

    assert listing(workspace.mirror, done.commit) == GOOD_LISTING
    assert git(workspace.mirror, "cat-file", "blob", f"{done.commit}:copy.h").encode() == VERSION
    assert (done.files, done.size, done.checked) == (5, 2 * len(VERSION) + 10, False)


def test_objects_are_whole(workspace: Workspace, reporter: Reporter, save: Callable[..., Path]) -> None:
    import_tarball(workspace, TAG, save(gzip.compress(archive(*GOOD))), reporter)

    git(workspace.mirror, "fsck", "--strict")
    assert [name for name in everything_below(workspace.root) if "import-" in name or "crash" in name] == []


def test_sources_may_be_at_the_top_level(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    files = [member(path) for path in ("./configure.py", "./node.gyp", "./lib/net.js")]

    done = import_tarball(
        workspace,
        TAG,
        save(gzip.compress(archive(*files, member("./src/node_version.h", VERSION)))),
        reporter,
    )

    assert [line[7:] for line in listing(workspace.mirror, done.commit)] == [
        "configure.py",
        "lib/net.js",
        "node.gyp",
        "src/node_version.h",
    ]


def test_attribute_files_of_macos_are_left_out_and_counted(
    workspace: Workspace, reporter: Reporter, said: io.StringIO, save: Callable[..., Path]
) -> None:
    doubles = (member(f"._{TOP}", b"\0\5\x16\7"), inside("._a", b"\0\5\x16\7"), inside("b/._c", b""))
    file = save(gzip.compress(archive(*doubles, HEADER, inside("a", b"x"), inside("b/c", b"y"))))
    done = import_tarball(workspace, TAG, file, reporter)
    assert done.files == 3
    assert "left out 3 files" in said.getvalue()


def test_many_folders_in_a_row_are_no_padding(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    folders = [inside(str(number), kind=tarfile.DIRTYPE) for number in range(2500)]

    done = import_tarball(workspace, TAG, save(gzip.compress(archive(*folders, HEADER))), reporter)

    assert done.files == 1


def test_imported_tarballs_are_listed_from_git_alone(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    assert imported(workspace, TAG) is None

    done = import_tarball(workspace, TAG, save(gzip.compress(archive(*GOOD))), reporter)
    found = imported(workspace, TAG)

    assert found is not None
    assert (found.commit, found.sha256, found.files, found.size) == (done.commit, done.sha256, 5, done.size)
    assert str(found) == f"tarball {TOP}.tar.gz (sha256 {done.sha256[:8]}...)"
    assert imported(workspace, Tag(20, 19, 20)) is None


def test_same_tarball_makes_the_same_commit_anywhere(
    tmp_path: Path, reporter: Reporter, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(gzip.compress(archive(*GOOD)))
    first = import_tarball(Workspace(tmp_path / "one"), TAG, file, reporter)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "another")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "another")

    second = import_tarball(Workspace(tmp_path / "two"), TAG, file, reporter)

    assert second == first


def test_same_tarball_again_is_already_there(
    workspace: Workspace, reporter: Reporter, said: io.StringIO, save: Callable[..., Path]
) -> None:
    file = save(gzip.compress(archive(*GOOD)))
    first = import_tarball(workspace, TAG, file, reporter)
    before = everything_below(workspace.root)

    assert import_tarball(workspace, TAG, file, reporter) == first
    assert everything_below(workspace.root) == before
    assert "v20.19.2 is already there: tarball node-v20.19.2.tar.gz" in said.getvalue()


def test_another_tarball_of_the_tag_needs_a_word(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    first = import_tarball(workspace, TAG, save(gzip.compress(archive(*GOOD))), reporter)
    other = save(gzip.compress(archive(*GOOD, inside("more", b"more"))), "nodejs.tar.gz")

    with pytest.raises(SourceError) as caught:
        import_tarball(workspace, TAG, other, reporter)
    second = import_tarball(workspace, TAG, other, reporter, accept_moved=True)

    assert first.sha256 in caught.value.message
    assert second.sha256 in caught.value.message
    assert "--accept-moved-tag" in (caught.value.remedy or "")
    found = imported(workspace, TAG)
    assert found is not None
    assert found.commit == second.commit != first.commit


def test_existing_mirror_keeps_its_content(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    workspace.prepare()
    git(workspace.mirror, "init", "--bare", "--quiet")
    git(workspace.mirror, "config", "remote.origin.promisor", "true")
    tree = git(workspace.mirror, "hash-object", "-t", "tree", "-w", "/dev/null").strip()
    commit = git(workspace.mirror, "commit-tree", "-m", "theirs", tree).strip()
    git(workspace.mirror, "update-ref", "refs/tags/v1.0.0", commit)

    done = import_tarball(workspace, TAG, save(gzip.compress(archive(*GOOD))), reporter)

    assert git(workspace.mirror, "for-each-ref", "--format=%(refname) %(objectname)").splitlines() == [
        f"refs/kiln/imports/v20.19.2 {done.commit}",
        f"refs/tags/v1.0.0 {commit}",
    ]
    assert git(workspace.mirror, "config", "remote.origin.promisor").strip() == "true"
    assert listing(workspace.mirror, done.commit) == GOOD_LISTING


def test_next_import_removes_leftovers_of_a_killed_one(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    left = workspace.root / "mirror.git.import-killed"
    (left / "objects").mkdir(parents=True)

    import_tarball(workspace, TAG, save(gzip.compress(archive(*GOOD))), reporter)

    assert not left.exists()


def test_ref_of_another_hand_is_not_taken_for_an_import(workspace: Workspace) -> None:
    workspace.prepare()
    git(workspace.mirror, "init", "--bare", "--quiet")
    tree = git(workspace.mirror, "hash-object", "-t", "tree", "-w", "/dev/null").strip()
    commit = git(workspace.mirror, "commit-tree", "-m", "theirs", tree).strip()
    git(workspace.mirror, "update-ref", "refs/kiln/imports/v20.19.2", commit)

    with pytest.raises(SourceError, match="no import of a tarball"):
        imported(workspace, TAG)


HOSTILE: dict[str, tuple[bytes | list[Member], str]] = {
    "absolute": ([HEADER, member("/etc/passwd", b"x")], "absolute path, '/etc/passwd'"),
    "dots": ([HEADER, inside("../../x", b"x")], "leaves its folder"),
    "dots of a folder": ([HEADER, inside("../x", kind=tarfile.DIRTYPE)], "leaves its folder"),
    "git": ([HEADER, inside("deps/.git/config", b"x")], "git repository's own files"),
    "git in capitals": ([HEADER, inside(".GIT/config", b"x")], "git repository's own files"),
    "git on HFS": ([HEADER, inside(".g\u200cit/config", b"x")], "git repository's own files"),
    "git on NTFS": ([HEADER, inside("GIT~1/config", b"x")], "git repository's own files"),
    "newline": ([HEADER, inside("a\nM 100644 inline b", b"x")], "control characters"),
    "escape": ([HEADER, inside("\x1b[2J", b"x")], "control characters"),
    "not UTF-8": ([HEADER, inside("caf\udce9", b"x")], "broken UTF-8"),
    "twice": ([HEADER, inside("a", b"1"), inside("./a", b"2")], "'node-v20.19.2/a' twice"),
    "below a link": ([HEADER, link("a", "src"), inside("a/b", b"x")], "both as a link and as a folder"),
    "below a file": ([HEADER, inside("a", b""), inside("a/b", b"x")], "both as a file and as a folder"),
    "link over a folder": ([HEADER, link("src", "docs")], "both as a folder and as something else"),
    "link out": ([HEADER, link("docs/a", "../../x")], "leads out of its folder, 'docs/a' -> '../../x'"),
    "link out over a link": (
        [HEADER, link("a", "src"), link("b", "a/../..")],
        "leads out of its folder, 'b'",
    ),
    "absolute link": ([HEADER, link("a", "/etc/passwd")], "leads out of its folder, 'a' -> '/etc/passwd'"),
    "empty link": ([HEADER, link("a", "")], "invalid target"),
    "hard link to nothing": ([HEADER, hard("a", f"{TOP}/b")], "hard link to a file that"),
    "hard link out": ([HEADER, hard("a", "/etc/passwd")], "absolute path, '/etc/passwd'"),
    "hard link to a link": (
        [HEADER, link("a", "src"), hard("b", f"{TOP}/a")],
        "hard link to a file that",
    ),
    "device": ([HEADER, inside("null", kind=tarfile.CHRTYPE)], "a device or pipe"),
    "pipe": ([HEADER, inside("pipe", kind=tarfile.FIFOTYPE)], "a device or pipe"),
    "sparse": (old_sparse(), "sparse or unknown kind of file"),
    "unknown kind": ([HEADER, inside("a", b"x", kind=b"Q")], "sparse or unknown kind of file"),
    "large file": ([HEADER, inside("a", b"x" * 5001)], "with 5001 bytes"),
    "large in all": (
        [HEADER, inside("a", b"x" * 4500), inside("b", b"x" * 4500)],
        "contains more than 8.0 kB",
    ),
    "large by hard links": (
        [HEADER, inside("a", b"x" * 4000), hard("b", f"{TOP}/a"), hard("c", f"{TOP}/a")],
        "contains more than 8.0 kB",
    ),
    "many": ([HEADER, *(inside(str(number)) for number in range(12))], "more than 12 members"),
    "huge header": (huge_pax_header(), "of headers or padding in one place"),
    "long path": ([HEADER, inside("a/" * 600 + "b")], "a path of 1,215 bytes, 1,024 being the most"),
    "long name": ([HEADER, inside("a" * 256)], "a name of 256 bytes, 255 being the most"),
    "deep": ([HEADER, inside("a/" * 100 + "b")], "a path of 102 parts, 100 being the most"),
    "deep folder": ([HEADER, inside("a/" * 40_000, kind=tarfile.DIRTYPE)], "a path of 80,0"),
    "long target": ([HEADER, link("a", "b/" * 600 + "b")], "a path of 1,201 bytes"),
    "long target of a hard link": ([HEADER, hard("a", "b/" * 600 + "b")], "a path of 1,201 bytes"),
    "many folders": ([HEADER, inside("1/2/3/4/5/6/7/8/9/10/11/a")], "more than 12 folders"),
    "huge padding": (gzip.compress(archive(HEADER) + bytes(3_000_000)), "of headers or padding in one place"),
    "negative size": (negative_size(), "damaged|with -512 bytes"),
    "cut short": (gzip.compress(archive(*GOOD))[:-60], "damaged or cut short"),
    "cut short in a file": (archive(HEADER, inside("a", b"x" * 4000))[:2560], "damaged or cut short"),
    "end missing": (without_end(), "damaged or cut short"),
    "damaged header": (damaged_header(), "damaged or cut short"),
    "wrong checksum of gzip": (wrong_crc(), "damaged or cut short"),
    "damaged xz": (lzma.compress(archive(*GOOD))[:-20] + bytes(20), "damaged or cut short"),
    "damaged bzip2": (bz2.compress(archive(*GOOD))[:-9] + bytes(9), "damaged or cut short"),
    "gzip of no tar": (gzip.compress(b"hello\n" * 200), "no tar archive"),
    "empty": (b"", "is empty"),
    "no members": (gzip.compress(archive()), "contains no files"),
    "zip": (b"PK\x03\x04" + bytes(600), "a zip archive"),
    "HTML": (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
    "encrypted": (b"Salted__" + bytes(600), "encrypted"),
    "anything": (b"\x99" * 600, "is not a tarball"),
    "two tops": ([HEADER, member("other/x", b"x")], "no single top-level folder"),
    "no sources": ([inside("bin/node", b"x")], "has no src/node_version.h"),
    "version is a link": (
        [link("src/node_version.h", "x.h"), inside("src/x.h", VERSION)],
        "has no src/node_version.h",
    ),
    "no version": ([inside("src/node_version.h", b"#define NODE_MAJOR_VERSION 20\n")], "without a version"),
}


@pytest.mark.parametrize("there", [False, True], ids=["no mirror", "mirror"])
@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_refused_tarball_leaves_no_trace(
    workspace: Workspace,
    reporter: Reporter,
    save: Callable[..., Path],
    content: bytes | list[Member],
    reason: str,
    there: bool,
) -> None:
    if there:
        workspace.prepare()
        git(workspace.mirror, "init", "--bare", "--quiet", "--template=")
    before = everything_below(workspace.root)
    file = save(content if isinstance(content, bytes) else gzip.compress(archive(*content)))

    with pytest.raises(SourceError, match=reason) as caught:
        import_tarball(workspace, TAG, file, reporter, limits=LIMITS)

    assert caught.value.message.count("\n") == 0
    assert "node-v20.19.2.tar.gz or .tar.xz" in (caught.value.remedy or "")
    assert everything_below(workspace.root) == before


def test_another_version_names_the_right_command(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path]
) -> None:
    file = save(gzip.compress(archive(*GOOD)))

    with pytest.raises(SourceError, match=r"the sources of v20\.19\.2, not of v20\.19\.1") as caught:
        import_tarball(workspace, Tag(20, 19, 1), file, reporter)

    assert caught.value.remedy == f"./inv import-tarball --tag v20.19.2 --file {file}"
    assert not workspace.mirror.exists()


@pytest.mark.parametrize(("name", "reason"), [("absent.tar.gz", "does not exist"), (".", "is a folder")])
def test_tarball_that_is_not_a_file_is_refused(
    workspace: Workspace, reporter: Reporter, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(SourceError, match=reason):
        import_tarball(workspace, TAG, tmp_path / name, reporter)


def test_pipe_is_not_waited_for(workspace: Workspace, reporter: Reporter, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar.gz")

    with pytest.raises(SourceError, match="is not a regular file"):
        import_tarball(workspace, TAG, tmp_path / "pipe.tar.gz", reporter)


@pytest.mark.parametrize(
    "line", ["{hash}  {name}\n", "{hash} *{name}\r\n", "{other}  x.zip\n{HASH}  {name}\n"]
)
def test_checksum_that_fits_is_reported(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path], line: str
) -> None:
    content = gzip.compress(archive(*GOOD))
    digest = hashlib.sha256(content).hexdigest()
    sums = line.format(hash=digest, HASH=digest.upper(), other="0" * 64, name=f"{TOP}.tar.gz")

    done = import_tarball(
        workspace, TAG, save(content), reporter, shasums=save(sums.encode(), "SHASUMS256.txt")
    )

    assert done.checked


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{'0' * 64}  {TOP}.tar.gz", f"says {'0' * 64}"),
        (f"{'0' * 64}  {TOP}.tar.xz", f"no line for {TOP}.tar.gz; close to it: {TOP}.tar.xz"),
        (f"{'0' * 64}  other", f"no line for {TOP}.tar.gz"),
        ("<html>", f"no line for {TOP}.tar.gz"),
    ],
)
def test_checksum_that_does_not_fit_stops_the_import(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path], line: str, reason: str
) -> None:
    file, sums = save(gzip.compress(archive(*GOOD))), save(f"{line}\n".encode(), "SHASUMS256.txt")

    with pytest.raises(SourceError, match=reason):
        import_tarball(workspace, TAG, file, reporter, shasums=sums)

    assert not workspace.root.exists()


def test_checksums_that_are_missing_stop_the_import(
    workspace: Workspace, reporter: Reporter, save: Callable[..., Path], tmp_path: Path
) -> None:
    file = save(gzip.compress(archive(*GOOD)))

    with pytest.raises(SourceError, match="can't be read"):
        import_tarball(workspace, TAG, file, reporter, shasums=tmp_path / "absent")
