"""The variant of gyp's .ninja files in which heavy steps have a pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.building.ninjafiles import read_files, with_pool, write_pool

MAIN = """\
pool link_pool
  depth = 2

rule cxx
  command = g++ -c $in -o $out
subninja obj/v8.ninja
subninja obj/node.ninja
build all: phony node
"""
V8 = """\
defines = -DV8
build obj/deps/v8/src/api/v8_base_without_compiler.api.o: cxx $
    ../../deps/v8/src/api/api.cc || $
    obj/v8.stamp
build $
    obj/deps/v8/src/heap/v8_base_without_compiler.heap.o: $
    cxx ../../deps/v8/src/heap/heap.cc
  cflags = -O1
build obj/libv8_base_without_compiler.a: alink obj/deps/v8/src/api/v8_base_without_compiler.api.o
build obj/deps/v8/src/base/v8_libbase.bits.o: cxx ../../deps/v8/src/base/bits.cc
"""
NODE = "build obj/src/libnode.node.o: cxx ../../src/node.cc\n"
FILES = {"build.ninja": MAIN, "obj/v8.ninja": V8, "obj/node.ninja": NODE}


def test_v8s_objects_and_only_they_are_in_the_pool() -> None:
    v8 = with_pool(FILES, 3)["nodekiln/obj/v8.ninja.pooled"]
    assert v8 == V8.replace("obj/v8.stamp\n", "obj/v8.stamp\n  pool = nodekiln_heavy\n").replace(
        "heap.cc\n", "heap.cc\n  pool = nodekiln_heavy\n"
    )


def test_the_first_file_has_the_pool_and_names_the_others() -> None:
    main = with_pool(FILES, 3)["nodekiln.pooled"]
    assert main == "pool nodekiln_heavy\n  depth = 3\n\n" + MAIN.replace(
        "subninja obj/v8.ninja", "subninja nodekiln/obj/v8.ninja.pooled"
    )


def test_files_without_heavy_steps_are_not_written_again() -> None:
    assert set(with_pool(FILES, 3)) == {"nodekiln.pooled", "nodekiln/obj/v8.ninja.pooled"}


def test_a_build_without_heavy_steps_gets_no_pool() -> None:
    assert with_pool({"build.ninja": MAIN, "obj/node.ninja": NODE}, 1) == {}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "obj").mkdir()
    for path, text in FILES.items():
        (tmp_path / path).write_text(text)
    return tmp_path


def test_gyps_own_files_stay_as_they_are(out: Path) -> None:
    write_pool(out, 1)
    assert read_files(out) == FILES


def test_what_is_written_already_is_left_alone(out: Path) -> None:
    write_pool(out, 1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert write_pool(out, 1) == "nodekiln.pooled"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == before


def test_another_depth_is_written(out: Path) -> None:
    write_pool(out, 1)
    write_pool(out, 2)
    assert "depth = 2\n\nrule" not in (out / "nodekiln.pooled").read_text().partition("pool link_pool")[0]
    assert (out / "nodekiln.pooled").read_text().startswith("pool nodekiln_heavy\n  depth = 2\n")


def test_a_folder_without_ninja_files_is_built_as_it_is(tmp_path: Path) -> None:
    assert write_pool(tmp_path, 1) == "build.ninja"
    assert list(tmp_path.iterdir()) == []
