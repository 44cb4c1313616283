"""What can't be grafted, each with its reason, and nothing half-made left."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator

import pytest

from nodekiln.core.errors import CheckError, PatchError, SourceError, ToolchainError, UsageError
from nodekiln.core.recipe import Tag
from tests.integration.grafts.desk import (
    ADAPTERS,
    ANSWER,
    GRAFTED_WRITABLE,
    HERE,
    NEEDS_GCC,
    OTHER,
    WRITABLE,
    Desk,
    compile_node,
    refused,
)

pytestmark = NEEDS_GCC


def test_truncated_release_is_refused(desk: Desk) -> None:
    desk.release.write_bytes(desk.release.read_bytes()[:-100])
    refused(desk, SourceError, "is cut off, or damaged")


def test_stripped_release_is_refused_with_probes(desk: Desk) -> None:
    subprocess.run(["strip", str(desk.release)], check=True)
    refused(desk, PatchError, "it has no symbol for Heap::CallGCPrologueCallbacks")


def test_stripped_release_is_fine_without_probes(desk: Desk) -> None:
    subprocess.run(["strip", str(desk.release)], check=True)
    assert GRAFTED_WRITABLE in desk.graft(probes=False).read_bytes()


def test_packed_release_is_refused(desk: Desk) -> None:
    header = bytearray(desk.release.read_bytes()[:64])
    header[40:48] = bytes(8)  # no section table
    header[56:64] = bytes(8)  # no program headers
    desk.release.write_bytes(bytes(header) + b"UPX!" + b"\xaa" * 9000 + b"v22.20.0\0")
    refused(desk, PatchError, "packed by UPX", probes=False)


def test_release_for_another_processor_is_refused(desk: Desk) -> None:
    data = bytearray(desk.release.read_bytes())
    data[18] = 183 if OTHER.cpu == "arm64" else 62
    desk.release.write_bytes(data)
    refused(desk, SourceError, f"is for {OTHER}, and this graft is for {HERE}")


def test_text_file_is_refused(desk: Desk) -> None:
    desk.release.write_text("#!/bin/sh\n")
    refused(desk, SourceError, "is not a program for Linux, macOS or Windows")


def test_wheel_is_refused_by_name(desk: Desk) -> None:
    desk.release.write_bytes(b"PK\x03\x04" + bytes(100))
    refused(desk, SourceError, "Python wheel")


def test_single_executable_is_refused(desk: Desk) -> None:
    with desk.release.open("ab") as file:
        file.write(b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1")
    refused(desk, PatchError, "is a single executable")


def test_release_of_another_version_is_refused(desk: Desk) -> None:
    refused(desk, SourceError, "is not Node v22.20.1", tag=Tag(22, 20, 1))


def test_graft_of_a_graft_is_refused(desk: Desk) -> None:
    made = desk.graft()
    refused(desk, PatchError, "is already a graft: v22", file=made, backpressure=True)


def test_release_whose_text_was_changed_already_is_refused(desk: Desk) -> None:
    desk.release.write_bytes(desk.release.read_bytes().replace(WRITABLE, GRAFTED_WRITABLE))
    refused(desk, PatchError, "already there")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((WRITABLE, ADAPTERS, WRITABLE + b"//\n"), "more than once"),
        ((WRITABLE,), "its text was not found"),
        ((WRITABLE.replace(b"return ret && !state.errored", b"return"), ADAPTERS), "returns no value"),
        ((WRITABLE.replace(b"ret && !state.errored", b"ret"), ADAPTERS), "does not fit over `return ret;`"),
        ((WRITABLE.replace(b"{", b"((", 1), ADAPTERS), "does not parse"),
    ],
)
def test_texts_that_are_not_as_expected_are_refused(desk: Desk, texts: tuple[bytes, ...], told: str) -> None:
    compile_node(desk.release.parent, *texts)
    refused(desk, PatchError, told)


def test_binary_that_does_not_do_what_was_planned_is_not_published(desk: Desk) -> None:
    # Its texts are right, and what it runs is something else.
    compile_node(desk.release.parent, WRITABLE, ADAPTERS, answer=ANSWER.replace("free = ", "free = not "))
    refused(desk, CheckError, "the result of write() on a full stream")


def test_binary_that_shows_other_texts_is_not_published(desk: Desk) -> None:
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
def test_build_folder_that_cannot_be_written_is_reported(desk: Desk) -> None:
    desk.build.mkdir(mode=READ_ONLY)
    refused(desk, ToolchainError, "can't be written")


@pytest.mark.usefixtures("bound_by_permissions")
def test_folder_of_binaries_that_cannot_be_written_is_named(desk: Desk) -> None:
    (desk.build / "binaries").mkdir(parents=True)
    (desk.build / "binaries").chmod(READ_ONLY)
    before = desk.release.read_bytes()
    with pytest.raises(PermissionError) as caught:
        desk.graft()
    assert str(desk.build / "binaries") in str(caught.value.filename)
    assert (desk.release.read_bytes(), desk.published()) == (before, [])


@pytest.mark.usefixtures("bound_by_permissions")
def test_release_in_a_read_only_folder_is_grafted(desk: Desk) -> None:
    desk.release.chmod(READ_ONLY)
    desk.release.parent.chmod(READ_ONLY)
    assert GRAFTED_WRITABLE in desk.graft().read_bytes()


def test_build_folder_that_cannot_be_made_is_reported(desk: Desk) -> None:
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


def test_full_disk_is_reported_and_keeps_nothing_half_made(desk: Desk) -> None:
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
    assert f"free in {desk.build}" in done.stderr
    assert "staging" not in done.stdout


def test_graft_without_a_change_is_wrong_usage(desk: Desk) -> None:
    refused(desk, UsageError, "No change is selected", backpressure=True, probes=False)


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"platform": "solaris-x64"}, 2, "'solaris-x64' is no platform that can be grafted"),
        ({"platform": "linux"}, 2, "Take one of linux-x64"),
        ({"release": "."}, 6, "is not a regular file.\n  --release FILE takes a tarball or a binary"),
        ({"release": "/dev/zero"}, 6, "--release /dev/zero is not a regular file"),
        ({"release": "nothing"}, 6, "can't be read: No such file"),
        ({"tag": "v22.x"}, 2, "is not a tag of a Node release"),
        ({"tag": "v22.20.1"}, 6, "is not Node v22.20.1."),
        ({"mirror": "ftp://localhost/dist", "release": ""}, 2, "not an http(s) URL"),
        ({"words": "4"}, 2, "graft has no option --words"),
    ],
)
def test_user_errors_have_short_messages(desk: Desk, changed: dict[str, str], code: int, told: str) -> None:
    options = {"tag": "v22.20.0", "release": str(desk.release), **changed}
    given = [f"--{name}={value}" for name, value in options.items() if value]
    done = desk.inv("graft", "--no-backpressure", *given)
    assert told in done.stderr
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) < 8
    assert desk.published() == []
