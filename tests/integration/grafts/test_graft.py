"""What a graft holds, what its manifest tells, and when it is made again."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_identity, read_probes
from tests.integration.grafts.desk import (
    ADAPTERS,
    GRAFTED_ADAPTERS,
    GRAFTED_WRITABLE,
    NEEDS_GCC,
    OTHER,
    WRITABLE,
    Desk,
    apply,
    manifest,
)

pytestmark = NEEDS_GCC


def test_graft_is_the_release_with_both_edits_two_probes_and_its_name(desk: Desk) -> None:
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


def test_manifest_reports_the_release_every_range_and_the_probes(desk: Desk) -> None:
    made = desk.graft()
    facts = manifest(made)
    graft = facts["graft"]
    assert isinstance(graft, dict)
    assert facts["route"] == "graft"
    assert facts["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    assert graft["release_sha256"] == hashlib.sha256(desk.release.read_bytes()).hexdigest()
    assert graft["release"].startswith(f"{desk.release} (sha256 ")
    assert [probe["name"] for probe in graft["probes"]] == ["gc__start", "gc__done"]
    assert facts["probes_seen"] == "unproven: There is no bpftrace on the PATH."
    before = desk.release.read_bytes()
    for change in graft["changed"]:
        place = slice(change["start"], change["start"] + change["length"])
        assert before[place].decode() == change["old"]
        assert made.read_bytes()[place].decode() == change["new"]
    assert len(graft["changed"]) == 2
    assert (made.parent / "patch.diff").read_text().count("diff --git") == 2


def ends_of(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["start"], row["start"] + row["length"]) for row in rows]


@pytest.mark.parametrize(
    ("backpressure", "probes", "padding"), [(False, True, 0), (False, False, 3), (True, True, 1)]
)
def test_graft_differs_from_its_release_in_the_ranges_of_its_manifest_and_nowhere_else(
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


def test_inspect_names_appended_sections(desk: Desk) -> None:
    graft = manifest(desk.graft())["graft"]
    assert isinstance(graft, dict)
    names = ["section .note.nodekiln", "section .note.stapsdt", "section .stapsdt.base"]
    told = [row["what"] for row in graft["appended"] if row["what"] != "zeros"]
    assert told == [*names, "names of the sections", "section table"]


def test_caveats_are_printed_and_recorded(desk: Desk) -> None:
    graft = manifest(desk.graft())["graft"]
    assert isinstance(graft, dict)
    assert [
        words in desk.said.getvalue() for words in ("snapshot", "not of the isolate", "need a build")
    ] == [True] * 3
    assert all(remark in desk.said.getvalue() for remark in graft["remarks"])


def test_graft_that_exists_is_not_made_again(desk: Desk) -> None:
    made = desk.graft()
    then = made.stat().st_mtime_ns
    assert desk.graft() == made
    assert made.stat().st_mtime_ns == then
    assert "already exists" in desk.said.getvalue()


def test_graft_that_somebody_changed_is_made_again(desk: Desk) -> None:
    made = desk.graft()
    whole = made.read_bytes()
    made.write_bytes(whole[:-1] + b"!")
    assert desk.graft().read_bytes() == whole
    assert "the file was changed since it was made" in desk.said.getvalue()


def test_graft_of_another_release_binary_is_made_again(desk: Desk) -> None:
    desk.graft()
    desk.release.write_bytes(desk.release.read_bytes() + b"\0")
    desk.graft()
    assert "it was made from another release binary" in desk.said.getvalue()


def test_graft_whose_probes_are_elsewhere_now_is_made_again(desk: Desk) -> None:
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


def test_graft_for_another_platform_is_named_for_it_and_not_run(desk: Desk) -> None:
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
