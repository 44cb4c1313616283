"""Grafts for macOS and Windows: their bytes, signatures and names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from nodekiln.binaries.store import Store
from nodekiln.changes.registry import Registry
from nodekiln.core.errors import CheckError, PatchError, ToolchainError, UsageError
from nodekiln.core.settings import Workspace
from nodekiln.grafting.platforms import Platform
from nodekiln.pipelines.inspect import Kind, inspect
from tests.integration.grafts.desk import (
    ADAPTERS,
    GRAFTED_WRITABLE,
    NEEDS_GCC,
    WRITABLE,
    Desk,
    apply,
    manifest,
    refused,
)

REGISTRY = Registry((Path(__file__).parents[3] / "patches",))

pytestmark = NEEDS_GCC


@pytest.mark.parametrize("name", ["darwin-arm64", "win-x64"])
def test_probes_are_refused_where_a_file_has_no_notes(desk: Desk, name: str) -> None:
    refused(desk, UsageError, f"Probes can't be grafted for {name}", target=Platform.parse(name))


def test_mac_binary_is_refused_where_it_cannot_be_signed(desk: Desk) -> None:
    refused(
        desk,
        ToolchainError,
        "codesign not found",
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


def test_mac_binary_is_signed_before_it_is_published(desk: Desk) -> None:
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


def test_bytes_that_signing_changed_are_reported(desk: Desk) -> None:
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


def test_mac_binary_whose_signing_fails_is_not_published(desk: Desk) -> None:
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


def test_windows_binary_has_its_edits_and_reports_that_its_signature_is_gone(windows: Desk) -> None:
    made = windows.graft(target=Platform("win", "x64"), probes=False)
    assert GRAFTED_WRITABLE.replace(b"\n", b"\r\n") in made.read_bytes()
    assert "signature is no longer valid" in windows.said.getvalue()
    graft = manifest(made)["graft"]
    assert isinstance(graft, dict)
    assert made.read_bytes() == apply(windows.release.read_bytes(), graft)


def test_strayed_windows_binary_reports_what_it_is_and_is_not_grafted_again(windows: Desk) -> None:
    win = Platform("win", "x64")
    stray = Path(shutil.copy(windows.graft(target=win, probes=False), windows.folder / "stray.exe"))
    found = inspect(stray, REGISTRY)
    assert (found.kind, found.recipe) == (Kind.GRAFTED, "v22.20.0-no-backpressure-graft")
    assert (found.platform, found.backpressure) == ("win-x64", False)
    told = "is already a graft: v22.20.0-no-backpressure-graft"
    refused(windows, PatchError, told, file=stray, target=win, probes=False)
    assert inspect(windows.release, REGISTRY).kind is Kind.OTHER


def test_windows_binary_is_published_and_found_as_an_exe(windows: Desk) -> None:
    made = windows.graft(target=Platform("win", "x64"), probes=False)
    assert made == windows.build / "binaries" / WINDOWS / "node.exe"
    store = Store(Workspace(windows.build))
    assert store.get(WINDOWS).binary == made
    assert [published.binary for published in store.list()] == [made]
    assert windows.graft(target=Platform("win", "x64"), probes=False) == made
    assert "already exists" in windows.said.getvalue()


def test_path_and_list_report_the_exe(windows: Desk) -> None:
    made = windows.graft(target=Platform("win", "x64"), probes=False)
    assert windows.inv("path", WINDOWS).stdout == f"{made}\n"
    (row,) = json.loads(windows.inv("list", "--format=json").stdout)
    assert row["path"] == str(made)
