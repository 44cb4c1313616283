"""The files of gyp and ninja: the pool of heavy steps, the step graph, and .ninja_log."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.building.ninja import (
    LoggedStep,
    NinjaLog,
    Step,
    parse_log,
    read_descriptions,
    read_files,
    read_graph,
    with_pool,
    write_pool,
)

MAIN_FILE = """\
pool link_pool
  depth = 2

rule cxx
  command = g++ -c $in -o $out
subninja obj/v8.ninja
subninja obj/node.ninja
build all: phony node
"""
V8_FILE = """\
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
NODE_FILE = "build obj/src/libnode.node.o: cxx ../../src/node.cc\n"
BUILD_FILES = {"build.ninja": MAIN_FILE, "obj/v8.ninja": V8_FILE, "obj/node.ninja": NODE_FILE}


def test_pool_holds_v8_objects_only() -> None:
    v8 = with_pool(BUILD_FILES, 3)["nodekiln/obj/v8.ninja.pooled"]
    assert v8 == V8_FILE.replace("obj/v8.stamp\n", "obj/v8.stamp\n  pool = nodekiln_heavy\n").replace(
        "heap.cc\n", "heap.cc\n  pool = nodekiln_heavy\n"
    )


def test_pool_main_file_declares_pool_and_includes_changed_files() -> None:
    main = with_pool(BUILD_FILES, 3)["nodekiln.pooled"]
    assert main == "pool nodekiln_heavy\n  depth = 3\n\n" + MAIN_FILE.replace(
        "subninja obj/v8.ninja", "subninja nodekiln/obj/v8.ninja.pooled"
    )


def test_pool_files_without_heavy_steps_are_left_out() -> None:
    assert set(with_pool(BUILD_FILES, 3)) == {"nodekiln.pooled", "nodekiln/obj/v8.ninja.pooled"}


def test_pool_without_heavy_steps_is_empty() -> None:
    assert with_pool({"build.ninja": MAIN_FILE, "obj/node.ninja": NODE_FILE}, 1) == {}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "obj").mkdir()
    for path, text in BUILD_FILES.items():
        (tmp_path / path).write_text(text)
    return tmp_path


def test_write_pool_keeps_files_of_gyp(out: Path) -> None:
    write_pool(out, 1)
    assert read_files(out) == BUILD_FILES


def test_write_pool_twice_writes_once(out: Path) -> None:
    write_pool(out, 1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert write_pool(out, 1) == "nodekiln.pooled"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == before


def test_write_pool_with_another_depth_rewrites(out: Path) -> None:
    write_pool(out, 1)
    write_pool(out, 2)
    assert "depth = 2\n\nrule" not in (out / "nodekiln.pooled").read_text().partition("pool link_pool")[0]
    assert (out / "nodekiln.pooled").read_text().startswith("pool nodekiln_heavy\n  depth = 2\n")


def test_write_pool_without_ninja_files_returns_main_file(tmp_path: Path) -> None:
    assert write_pool(tmp_path, 1) == "build.ninja"
    assert list(tmp_path.iterdir()) == []


# What ninja 1.12 prints for: gen.h from gen.py, a.o from a.cc and (order only) gen.h, all (phony) from a.o,
# and node from a.o and all.
DOT = """\
digraph ninja {
rankdir="LR"
node [fontsize=10, shape=box, height=0.25]
edge [fontsize=10]
"0x01" [label="node"]
"0x02" [label="link", shape=ellipse]
"0x02" -> "0x01"
"0x03" -> "0x02" [arrowhead=none]
"0x04" -> "0x02" [arrowhead=none style=dotted]
"0x03" [label="obj/a.o"]
"0x05" [label="cxx", shape=ellipse]
"0x05" -> "0x03"
"0x06" -> "0x05" [arrowhead=none]
"0x07" -> "0x05" [arrowhead=none style=dotted]
"0x06" [label="a.cc"]
"0x07" [label="gen.h"]
"0x08" -> "0x07" [label=" make_gen"]
"0x08" [label="gen.py"]
"0x04" [label="all"]
"0x03" -> "0x04" [label=" phony"]
}
"""
RULES = """\
cc = gcc
rule cxx
  command = $cc -c $in $
      -o $out
  description = CXX $out
  deps = gcc
rule link
  command = $cc $in -o $out
  description = LINK $out
rule $
    make_gen
  command = python3 gen.py
  description = ACTION libnode: $
      make_gen
  restat = 1
build obj/a.o: cxx a.cc
"""


def test_graph_steps_have_printed_names_and_dependencies() -> None:
    link, compile_, generate = read_graph(DOT, read_descriptions([RULES]))
    assert link == Step("LINK node", ("node",), (1,))
    assert compile_ == Step("CXX obj/a.o", ("obj/a.o",), (2,))
    assert generate == Step("ACTION libnode: make_gen", ("gen.h",), ())


def test_graph_dependency_through_phony_step_is_kept() -> None:
    through = DOT.replace('"0x03" -> "0x02" [arrowhead=none]\n', "")
    assert read_graph(through, {})[0].after == (1,)


def test_graph_rule_without_description_uses_rule_name() -> None:
    assert [step.description for step in read_graph(DOT, {})] == ["link", "cxx", "make_gen"]


@pytest.mark.parametrize("text", ["", "ninja: error: unknown target 'node'\n", "digraph ninja {\n}\n"])
def test_graph_of_other_text_is_empty(text: str) -> None:
    assert read_graph(text, {}) == ()


HEAD = "# ninja log v6\n"
FIRST = "14\t514\t1795400557281276699\tobj/a.o\t61636cd4ecfca33f\n"
SECOND = "15\t1031\t1795400557284366693\tobj/b.o\t606fc10241676730\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / ".ninja_log"


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_log_times_are_seconds_of_the_run() -> None:
    assert parse_log([HEAD, FIRST]) == (LoggedStep(("obj/a.o",), 0.014, 0.514),)


def test_log_step_with_many_outputs_is_one_step() -> None:
    lines = [f"7\t9\t0\tgen/{name}.h\tabc\n" for name in "xyz"]
    assert parse_log(lines) == (LoggedStep(("gen/x.h", "gen/y.h", "gen/z.h"), 0.007, 0.009),)


def test_log_steps_at_the_same_time_stay_apart() -> None:
    assert len(parse_log(["7\t9\t0\ta\tabc", "7\t9\t0\tb\tdef"])) == 2


@pytest.mark.parametrize(
    "line", ["", "# ninja log v6", "1\t2\t3\ta.o", "x\t2\t3\ta.o\tabc", "-1\t2\t3\ta.o\tabc"]
)
def test_log_other_lines_are_skipped(line: str) -> None:
    assert parse_log([line, FIRST]) == parse_log([FIRST])


def test_log_steps_of_an_earlier_run_are_left_out(log: Path) -> None:
    append(log, HEAD + FIRST)
    followed = NinjaLog(log)
    append(log, SECOND)
    assert followed.read() == parse_log([SECOND])


def test_log_read_returns_each_step_once(log: Path) -> None:
    followed = NinjaLog(log)
    append(log, HEAD + FIRST)
    assert followed.read() == parse_log([FIRST])
    append(log, SECOND)
    assert followed.read() == parse_log([SECOND])
    assert followed.read() == ()


def test_log_partial_line_is_read_when_complete(log: Path) -> None:
    followed = NinjaLog(log)
    append(log, HEAD + FIRST[:20])
    assert followed.read() == ()
    append(log, FIRST[20:])
    assert followed.read() == parse_log([FIRST])


def test_log_replaced_in_another_order_returns_new_steps_only(log: Path) -> None:
    append(log, HEAD + FIRST + SECOND)
    followed = NinjaLog(log)
    third = FIRST.replace("obj/a.o", "obj/c.o")
    fresh = log.with_name("fresh")
    fresh.write_text(HEAD + SECOND + FIRST + third)
    fresh.replace(log)
    assert followed.read() == parse_log([third])


def test_log_repeated_step_belongs_to_this_run(log: Path) -> None:
    append(log, HEAD + FIRST)
    followed = NinjaLog(log)
    again = FIRST.replace("14\t514", "10\t900")
    append(log, again)
    assert followed.read() == parse_log([again])


def test_log_missing_is_empty(log: Path) -> None:
    assert NinjaLog(log).read() == ()
