"""The steps of a build from what `ninja -t graph` prints, in the names that ninja prints while it builds."""

from __future__ import annotations

import pytest

from nodekiln.building.stepgraph import Step, read_descriptions, read_graph

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


def test_steps_have_the_names_that_ninja_prints_and_wait_for_each_other() -> None:
    link, compile_, generate = read_graph(DOT, read_descriptions([RULES]))
    assert link == Step("LINK node", ("node",), (1,))
    assert compile_ == Step("CXX obj/a.o", ("obj/a.o",), (2,))
    assert generate == Step("ACTION libnode: make_gen", ("gen.h",), ())


def test_a_step_waits_through_phony_ones() -> None:
    through = DOT.replace('"0x03" -> "0x02" [arrowhead=none]\n', "")
    assert read_graph(through, {})[0].after == (1,)


def test_a_rule_without_a_description_is_named_after_itself() -> None:
    assert [step.description for step in read_graph(DOT, {})] == ["link", "cxx", "make_gen"]


@pytest.mark.parametrize("text", ["", "ninja: error: unknown target 'node'\n", "digraph ninja {\n}\n"])
def test_what_is_no_graph_has_no_steps(text: str) -> None:
    assert read_graph(text, {}) == ()
