"""A release that the user has: a bare binary, a tarball, and what only looks like one."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release, obtain

TAG = Tag(22, 20, 0)
NODE = (b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\0").ljust(64, b"\0")


def get(file: Path, folder: Path, platform: str = "linux-x64", *, said: io.StringIO | None = None) -> Release:
    return obtain(
        TAG,
        Platform.parse(platform),
        folder=folder / "releases",
        file=file,
        mirror=None,
        env={},
        reporter=Reporter(Console(file=said or io.StringIO(), soft_wrap=True)),
    )


def pack(file: Path, members: Mapping[str, bytes | tarfile.TarInfo], mode: Any = "w:gz") -> Path:
    """An archive; a TarInfo is a member without content, under the mapping's name."""
    with tarfile.open(file, mode) as archive:
        for name, what in members.items():
            member = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(what, bytes):
                member.size = len(what)
            member.name = name
            archive.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
    return file


def link(kind: bytes, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, to
    return member


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_bare_binary_is_copied_so_that_later_changes_to_it_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "node"
    file.write_bytes(NODE)
    got = get(file, tmp_path / "releases")
    file.write_bytes(b"something else")
    assert (got.path.read_bytes(), got.headers) == (NODE, None)
    assert got.sha256 == hashlib.sha256(NODE).hexdigest()
    assert got.checks == ("not checked: a file of the user's",)


def test_bare_binary_is_kept_executable(tmp_path: Path) -> None:
    (tmp_path / "node").write_bytes(NODE)
    (tmp_path / "node").chmod(0o644)
    assert os.access(get(tmp_path / "node", tmp_path).path, os.X_OK)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_tarball_is_unpacked_once(tmp_path: Path, mode: str) -> None:
    file = pack(tmp_path / "node.tar", {"package/bin/node": NODE, "package/include/node/a/b.h": b"//"}, mode)
    got = get(file, tmp_path)
    assert got.path.read_bytes() == NODE
    assert got.path.stat().st_mode & 0o777 == 0o755
    assert got.headers is not None
    assert (got.headers / "node/a/b.h").read_bytes() == b"//"
    made = got.path.stat().st_mtime_ns
    assert get(file, tmp_path).path.stat().st_mtime_ns == made


def test_only_the_binary_and_its_headers_are_extracted(tmp_path: Path) -> None:
    members: dict[str, bytes | tarfile.TarInfo] = {
        "../../evil": b"x",
        "/evil": b"x",
        "p/include/node/../../../evil": b"x",
        "p/include/node//evil": b"x",
        "p/include/node/.evil": b"x",
        "p/include/other/evil.h": b"x",
        "p/lib/evil": b"x",
        "p/q/bin/node": b"x",
        "bin/node": b"x",
        "p/include/node/evil.h": link(tarfile.SYMTYPE, "/etc/passwd"),
        "p/include/node/node.h": b"//",
        "p/bin/node": NODE,
    }
    got = get(pack(tmp_path / "node.tgz", members), tmp_path)
    assert files(got.path.parent) == ["include/node/node.h", "node", "release.json"]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"p/bin/node": NODE, "q/bin/node": NODE}, "contains node twice"),
        ({"p/bin/node": NODE, "p/include/node/a": b"x", "q/include/node/a": b"y"}, "contains a twice"),
        ({"p/bin/node": NODE, "p/include/node/a": b"x", "p/include/node/a/b": b"y"}, "contains a twice"),
        ({"p/bin/node": link(tarfile.SYMTYPE, "/bin/sh")}, "no bin/node"),
        ({"p/bin/node": link(tarfile.LNKTYPE, "/bin/sh")}, "no bin/node"),
        ({"p/bin/node": b"#!/bin/sh\n"}, "not a program for"),
        ({"p/bin/node": b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\xb7\0" * 99}, "is for linux-arm64"),
        ({"README": b"hi"}, "no bin/node"),
        ({"p/include/node/a": b"x", "p/include/node/a/b/c": b"y"}, "contains c below a file"),
        ({"p/include/node/" + "a" * 256: b"x"}, "a name of 256 bytes"),
        ({"p/include/node" + "/a" * 99: b"x"}, "a path of 101 parts"),
    ],
)
def test_archive_of_something_else_is_refused_and_leaves_nothing(
    tmp_path: Path, members: Mapping[str, bytes | tarfile.TarInfo], told: str
) -> None:
    file = pack(tmp_path / "node.tgz", members)
    with pytest.raises(SourceError, match=told):
        get(file, tmp_path)
    assert files(tmp_path) == ["node.tgz"]


def test_binary_that_claims_more_than_any_release_is_refused_before_it_is_written(tmp_path: Path) -> None:
    member = tarfile.TarInfo("p/bin/node")
    member.size = 2**29 + 1
    file = tmp_path / "node.tar"
    file.write_bytes(member.tobuf() + NODE * 100)
    with pytest.raises(SourceError, match="larger than any release's"):
        get(file, tmp_path)


def test_release_file_is_named_each_time(tmp_path: Path) -> None:
    said = io.StringIO()
    bare, packed = tmp_path / "node", pack(tmp_path / "node.tgz", {"p/bin/node": NODE})
    bare.write_bytes(NODE)
    get(bare, tmp_path, said=said)
    get(packed, tmp_path, said=said)
    get(packed.rename(tmp_path / "moved.tgz"), tmp_path, said=said)

    lines = said.getvalue().splitlines()

    assert lines[0].startswith(f"release: {bare} (sha256 ")
    assert lines[1].startswith(f"release: {packed} (sha256 ")
    assert lines[2].startswith(f"release: {tmp_path}/moved.tgz (sha256 ")


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_cut_off_archive_is_refused(tmp_path: Path, keep: float) -> None:
    whole = pack(
        tmp_path / "node.tar", {"p/README": bytes(range(256)) * 200, "p/bin/node": NODE * 3000}, "w:xz"
    )
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * keep)])
    with pytest.raises(SourceError, match=r"is damaged|no program"):
        get(whole, tmp_path)
    assert files(tmp_path) == ["node.tar"]


def pax(key: str, value: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.pax_headers = {key: value}
    return member


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"p/README": pax("GNU.sparse.map", "x")}, "is damaged"),
        ({"p/README": b"x", "p/a": pax("GNU.sparse.size", "1e309")}, "is damaged"),
        ({"p/README": pax("comment", "x" * 200_000)}, "too much of headers or padding"),
    ],
)
def test_numbers_and_headers_without_measure_are_refused(
    tmp_path: Path, members: Mapping[str, bytes | tarfile.TarInfo], told: str
) -> None:
    file = pack(tmp_path / "node.tgz", {**members, "p/bin/node": NODE})
    with pytest.raises(SourceError, match=rf"node\.tgz .*{told}") as caught:
        get(file, tmp_path)
    assert "a release's tarball" in (caught.value.remedy or "")
    assert files(tmp_path) == ["node.tgz"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("length", [12, 60])
def test_first_bytes_of_a_download_are_no_archive(tmp_path: Path, mode: str, length: int) -> None:
    file = pack(tmp_path / "node.tgz", {"p/bin/node": NODE}, mode)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(SourceError, match=r"node\.tgz is damaged or cut short"):
        get(file, tmp_path)


def test_binary_for_another_platform_is_refused_and_its_own_is_named(tmp_path: Path) -> None:
    file = tmp_path / "node"
    file.write_bytes(NODE)
    with pytest.raises(SourceError, match=r"is for linux-x64, and this graft is for linux-arm64") as caught:
        get(file, tmp_path, "linux-arm64")
    assert "--platform linux-x64" in (caught.value.remedy or "")


def test_file_that_is_missing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="can't be read: No such file"):
        get(tmp_path / "missing", tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_release_file_that_is_a_pipe_is_refused_without_waiting(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "thing")
    with pytest.raises(SourceError, match="thing is not a regular file"):
        get(tmp_path / "thing", tmp_path)
