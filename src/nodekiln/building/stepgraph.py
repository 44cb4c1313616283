"""The steps of a build and what each waits for, as `ninja -t graph` and the rules in the .ninja files tell.

Headers that only the compiler finds are not in there; what is generated is, as gyp names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nodekiln.building.ninjafiles import joined

_NODE = re.compile(r'"([^"]+)" \[label="(.*?)"(, shape=ellipse)?\]$')
_ARROW = re.compile(r'"([^"]+)" -> "([^"]+)"(?: \[(.*)\])?$')
_LABEL = re.compile(r'label="\s*(.*?)"')
_RULE = re.compile(r"^rule (\S+)\n((?:[ ]+.*\n)+)", re.MULTILINE)
_DESCRIPTION = re.compile(r"^ +description = (.*)$", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(.))")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a build: what ninja prints for it, what it makes, and the steps (by index) it awaits."""

    description: str
    outputs: tuple[str, ...] = ()
    after: tuple[int, ...] = ()


def read_descriptions(texts: Iterable[str]) -> dict[str, str]:
    """The descriptions of all rules in .ninja files, by the rule's name, with variables as written."""
    found = {}
    for text in texts:
        for rule in _RULE.finditer(joined(text)):
            if described := _DESCRIPTION.search(rule[2]):
                found[rule[1]] = described[1]
    return found


def read_graph(dot: str, descriptions: Mapping[str, str]) -> tuple[Step, ...]:
    """The steps in the output of `ninja -t graph`, without the phony ones; empty where it holds none.

    A step of one input and one output is an arrow with a label there, any other is an ellipse between arrows.
    23 ms for ninja and 60 ms here, for the 1622 steps of 20.19.2.
    """
    paths: dict[str, str] = {}
    rules: dict[str, str] = {}
    inputs: dict[str, list[str]] = {}
    outputs: dict[str, list[str]] = {}
    for line in dot.splitlines():
        if node := _NODE.match(line):
            (rules if node[3] else paths)[node[1]] = node[2]
        elif arrow := _ARROW.match(line):
            begin, end, attributes = arrow[1], arrow[2], arrow[3] or ""
            if label := _LABEL.search(attributes):
                step = f"{begin} {end}"
                rules[step] = label[1]
                inputs[step], outputs[step] = [begin], [end]
            elif "arrowhead=none" in attributes:
                inputs.setdefault(end, []).append(begin)
            else:
                outputs.setdefault(begin, []).append(end)
    makers = {output: step for step, made in outputs.items() for output in made}
    waits = {step: {makers[path] for path in inputs.get(step, ()) if path in makers} for step in rules}
    real = [step for step, rule in rules.items() if rule != "phony"]
    index = {step: number for number, step in enumerate(real)}
    return tuple(
        Step(
            _describe(descriptions.get(rules[step], rules[step]), inputs, outputs, paths, step),
            tuple(paths.get(path, path) for path in outputs.get(step, ())),
            tuple(sorted(index[before] for before in _past_phony(step, waits, index))),
        )
        for step in real
    )


def _past_phony(step: str, waits: Mapping[str, set[str]], real: Mapping[str, int]) -> set[str]:
    """The real steps that a step waits for, directly or through phony ones."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = list(waits[step])
    while ahead:
        before = ahead.pop()
        if before in real:
            found.add(before)
        elif before not in seen:
            seen.add(before)
            ahead += waits[before]
    return found


def _describe(
    template: str,
    inputs: Mapping[str, Sequence[str]],
    outputs: Mapping[str, Sequence[str]],
    paths: Mapping[str, str],
    step: str,
) -> str:
    """A rule's description as ninja prints it; gyp's use $out, $in (of one file), and no more that varies."""

    def value(variable: re.Match[str]) -> str:
        name = variable[1] or variable[2]
        if name in ("in", "out"):
            places = (inputs if name == "in" else outputs).get(step, ())
            return " ".join(paths.get(place, place) for place in places[:1])
        return variable[3] or variable[0]

    return _VARIABLE.sub(value, template)
