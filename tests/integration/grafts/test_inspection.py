"""What is said of a file: grafted, built, or neither."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from nodekiln.changes.registry import Registry
from nodekiln.core.errors import SourceError, UsageError
from nodekiln.pipelines.inspect import Facts, Kind, inspect
from tests.integration.grafts.desk import ADAPTERS, NEEDS_GCC, WRITABLE, Desk, compile_node

REGISTRY = Registry((Path(__file__).parents[3] / "patches",))

pytestmark = NEEDS_GCC


@pytest.mark.parametrize("name", ["v22.20.0-no-backpressure-usdt-graft", "stray"])
def test_grafted_file_is_recognized_anywhere(desk: Desk, name: str) -> None:
    stray = shutil.copy2(desk.graft(), desk.folder / name)
    found = inspect(Path(stray), REGISTRY)
    assert (found.kind, found.recipe) == (Kind.GRAFTED, "v22.20.0-no-backpressure-usdt-graft")
    assert (found.backpressure, found.probes) == (False, ("node:gc__start", "node:gc__done"))


def test_graft_with_a_byte_appended_is_reported_as_altered(desk: Desk) -> None:
    grafted = desk.graft()
    assert inspect(grafted, REGISTRY).is_altered is False
    with grafted.open("ab") as file:
        file.write(b"x")
    found = inspect(grafted, REGISTRY)
    assert found.is_altered is True
    assert any("altered since" in line for line in found.lines())


def test_release_is_known_as_not_ours(desk: Desk) -> None:
    found = inspect(desk.release, REGISTRY)
    assert (found.kind, found.recipe, found.backpressure, found.probes) == (Kind.OTHER, None, True, ())


def test_built_binary_is_known_by_its_marks(desk: Desk) -> None:
    with desk.release.open("ab") as file:
        file.write(b'{"nodekiln_plan": "abc", "nodekiln_recipe": "v22.20.0-no-backpressure"}')
    found = inspect(desk.release, REGISTRY)
    assert (found.kind, found.recipe, found.plan) == (Kind.BUILT, "v22.20.0-no-backpressure", "abc")


def test_inspection_reads_alike_for_people_and_machines(desk: Desk) -> None:
    found: Facts = inspect(desk.graft(), REGISTRY)
    told = json.loads(json.dumps(found.as_data()))
    assert told["recipe"] == found.recipe
    assert f"recipe  {found.recipe}" in found.lines()
    assert "write() never returns false because a buffer is full" in found.lines()


def test_program_that_is_no_node_reports_why_nothing_is_known_of_its_write() -> None:
    found = inspect(Path(sys.executable).resolve(), REGISTRY)
    assert found.backpressure is None
    assert "not a Node binary" in (found.trouble or "")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF"])
def test_inspection_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SourceError):
        inspect(tmp_path / "file", REGISTRY)


def test_inspection_of_nothing_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        inspect(tmp_path, REGISTRY)


FUSE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:"


@pytest.mark.parametrize("damaged", [False, True])
def test_single_executable_made_from_a_graft_is_reported_as_both(desk: Desk, damaged: bool) -> None:
    made = bytearray(desk.graft().read_bytes() + FUSE + b"1")
    if damaged:  # as tools leave a section table behind that others can't read
        made[60:62] = b"\xff\xff"
    single = desk.folder / "single"
    single.write_bytes(made)
    found = inspect(single, REGISTRY)
    assert (found.kind, found.single_executable) == (Kind.GRAFTED, True)
    assert (found.recipe, found.backpressure) == ("v22.20.0-no-backpressure-usdt-graft", False)
    assert found.probes == (None if damaged else ("node:gc__start", "node:gc__done"))


def test_unused_fuse_makes_no_single_executable(desk: Desk) -> None:
    with desk.release.open("ab") as file:
        file.write(FUSE + b"0")
    assert not inspect(desk.release, REGISTRY).single_executable


def test_damaged_binary_that_is_no_single_executable_is_refused(desk: Desk) -> None:
    data = bytearray(desk.graft().read_bytes())
    data[60:62] = b"\xff\xff"
    (desk.folder / "damaged").write_bytes(data)
    with pytest.raises(SourceError):
        inspect(desk.folder / "damaged", REGISTRY)


GETTER = b"""
const getter = {
  writableNeedDrain: {
    get() {
      return this.state.needDrain;
    },
  },
};
"""


def test_graft_with_fewer_edits_than_now_is_reported_as_an_earlier_one(desk: Desk) -> None:
    compile_node(desk.release.parent, WRITABLE + GETTER, ADAPTERS)
    data = desk.graft().read_bytes()
    changed = b"return false               ;"
    assert data.count(changed) == 1
    (desk.folder / "old").write_bytes(data.replace(changed, b"return this.state.needDrain;"))
    found = inspect(desk.folder / "old", REGISTRY)
    assert (found.kind, found.backpressure) == (Kind.GRAFTED, None)
    assert "earlier nodekiln" in (found.trouble or "")
