"""The files of gyp and ninja: build files, the step graph, .ninja_log; and how many steps run at once.

A variant of the build files runs heavy steps in a pool of their own. gyp's files stay as they are: the
variant is written beside them, and only for files with heavy steps. A pool is not part of a command, so
adding or removing one does not rebuild anything. How much memory steps need is in memory.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

MAIN = "build.ninja"
_FOLDER = "nodekiln"
_SUFFIX = ".pooled"
"""Not .ninja: configure's own files have that suffix, and changes to them are detected by their hash."""
_VARIANT = f"{_FOLDER}{_SUFFIX}"
_POOL = "nodekiln_heavy"
_CONTINUED = re.compile(r"\$\n *")
_SUBNINJA = re.compile(r"^subninja (\S+)$", re.MULTILINE)
_BUILD = re.compile(r"^build (?:[^\n]*\$\n)*[^\n]*\n", re.MULTILINE)
_COMPILED = re.compile(r"build (\S+\.o): (?:cc|cxx)(?:_s)? ")
"""A build statement of gyp's for one object, its continued lines joined."""

_NODE = re.compile(r'"([^"]+)" \[label="(.*?)"(, shape=ellipse)?\]$')
_ARROW = re.compile(r'"([^"]+)" -> "([^"]+)"(?: \[(.*)\])?$')
_LABEL = re.compile(r'label="\s*(.*?)"')
_RULE = re.compile(r"^rule (\S+)\n((?:[ ]+.*\n)+)", re.MULTILINE)
_DESCRIPTION = re.compile(r"^ +description = (.*)$", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(.))")


# Build files


def read_files(out: Path) -> dict[str, str]:
    """Return build.ninja and the files it includes, by their paths in `out`; empty if one can't be read."""
    try:
        texts = {MAIN: (out / MAIN).read_text()}
        return texts | {path: (out / path).read_text() for path in _SUBNINJA.findall(texts[MAIN])}
    except (OSError, UnicodeDecodeError):
        return {}


def with_pool(texts: Mapping[str, str], depth: int) -> dict[str, str]:
    """Return the files that limit heavy steps to `depth` at once; empty if no step is heavy.

    The first is the one to pass to ninja with -f.
    """
    changed = {path: _pooled(text) for path, text in texts.items() if path != MAIN}
    changed = {path: text for path, text in changed.items() if text != texts[path]}
    if not changed:
        return {}

    def redirect(line: re.Match[str]) -> str:
        return f"subninja {_FOLDER}/{line[1]}{_SUFFIX}" if line[1] in changed else line[0]

    main = f"pool {_POOL}\n  depth = {depth}\n\n" + _SUBNINJA.sub(redirect, texts[MAIN])
    return {_VARIANT: main} | {f"{_FOLDER}/{path}{_SUFFIX}": text for path, text in changed.items()}


def write_pool(out: Path, depth: int) -> str:
    """Write the variant into `out` if it differs from the existing one; return the file for ninja -f."""
    files = with_pool(read_files(out), depth)
    for path, text in files.items():
        target = out / path
        if not target.exists() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    return next(iter(files), MAIN)


def _pooled(text: str) -> str:
    def add(statement: re.Match[str]) -> str:
        compiled = _COMPILED.match(_joined(statement[0]))
        heavy = compiled is not None and is_heavy(compiled[1])
        return statement[0] + f"  pool = {_POOL}\n" * heavy

    return _BUILD.sub(add, text)


def _joined(text: str) -> str:
    """Join continued lines."""
    return _CONTINUED.sub("", text)


# The step graph: `ninja -t graph` and the rules' descriptions. It has the dependencies that gyp knows;
# headers that only the compiler finds are not part of it.


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a build: its description as ninja prints it, its outputs, and the steps it depends on.

    `after` are indices into the same graph.
    """

    description: str
    outputs: tuple[str, ...] = ()
    after: tuple[int, ...] = ()


def read_descriptions(texts: Iterable[str]) -> dict[str, str]:
    """Return the descriptions of all rules in .ninja files by rule name, variables not expanded."""
    found = {}
    for text in texts:
        for rule in _RULE.finditer(_joined(text)):
            if described := _DESCRIPTION.search(rule[2]):
                found[rule[1]] = described[1]
    return found


def read_graph(dot: str, descriptions: Mapping[str, str]) -> tuple[Step, ...]:
    """Return the steps in the output of `ninja -t graph`, without phony ones; empty if it has none.

    A step with one input and one output is an arrow with a label there, any other is an ellipse between
    arrows. 23 ms for ninja and 60 ms for this function with the 1622 steps of 20.19.2.
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
    producers = {output: step for step, made in outputs.items() for output in made}
    waits = {step: {producers[path] for path in inputs.get(step, ()) if path in producers} for step in rules}
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
    """Return the real steps that a step depends on, directly or through phony ones."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = list(waits[step])
    while ahead:
        before = ahead.pop()
        if before in real:
            found.add(before)
        elif before not in seen:
            seen.add(before)
            ahead += waits.get(before, ())
    return found


def _describe(
    template: str,
    inputs: Mapping[str, Sequence[str]],
    outputs: Mapping[str, Sequence[str]],
    paths: Mapping[str, str],
    step: str,
) -> str:
    """Expand $out and $in (of one file) in a rule's description; gyp's use no other variable that varies."""

    def value(variable: re.Match[str]) -> str:
        name = variable[1] or variable[2]
        if name in ("in", "out"):
            files = (inputs if name == "in" else outputs).get(step, ())
            return " ".join(paths.get(file, file) for file in files[:1])
        return variable[3] or variable[0]

    return _VARIABLE.sub(value, template)


# The log. Times in it are milliseconds since ninja started, and every run starts at 0 again in the same file.
# So the lines of the current run are those that were not in the file when it started.


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A step that ran: its outputs as build.ninja spells them, start and end in seconds of its run."""

    outputs: tuple[str, ...]
    start: float
    end: float


def parse_log(lines: Iterable[str]) -> tuple[LoggedStep, ...]:
    """Return the steps of one run in the order in which they ended; other lines are skipped.

    ninja logs every output of a step on a line of its own (run_torque has over 600), with the same times and
    the same hash of the command.
    """
    found: dict[tuple[int, int, str], list[str]] = {}
    for line in lines:
        match line.rstrip("\n").split("\t"):
            case [start, end, _, output, command] if start.isdecimal() and end.isdecimal():
                found.setdefault((int(start), int(end), command), []).append(output)
    return tuple(
        LoggedStep(tuple(outputs), start / 1000, end / 1000) for (start, end, _), outputs in found.items()
    )


class NinjaLog:
    """Follows the log at `path` while ninja runs; its content at the start belongs to earlier runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = frozenset(_lines(path))
        self._partial = ""
        self._position: tuple[int, int] | None = None
        """The file's inode and the bytes read so far: ninja may replace the log when it starts, with the
        same lines in another order."""

    def read(self) -> tuple[LoggedStep, ...]:
        """Return the steps that ended since the last call."""
        with suppress(OSError), self._path.open("rb") as file:
            inode = self._path.stat().st_ino
            if self._position is None or self._position[0] != inode:
                self._position, self._partial = (inode, 0), ""
            file.seek(self._position[1])
            new = file.read()
            self._position = (inode, self._position[1] + len(new))
            *lines, self._partial = (self._partial + new.decode(errors="backslashreplace")).split("\n")
            return parse_log(line for line in lines if line not in self._earlier)
        return ()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="backslashreplace").split("\n")
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """The peak memory of a step of each class in bytes, and the globs of the targets with heavy objects."""

    heavy: int
    light: int
    heavy_targets: tuple[str, ...]


@cache
def memory_needs() -> MemoryNeeds:
    """Return the figures of memory.toml."""
    facts = tomllib.loads(Path(__file__).with_name("memory.toml").read_text())
    return MemoryNeeds(facts["heavy"], facts["light"], tuple(facts["heavy_targets"]))


def is_heavy(output: str) -> bool:
    """Return True if compiling this object takes much memory; `output` as ninja spells it."""
    target = output.rpartition("/")[2].partition(".")[0]
    return any(fnmatchcase(target, pattern) for pattern in memory_needs().heavy_targets)


@dataclass(frozen=True, slots=True)
class Load:
    """The number of steps at once, and the number of heavy ones among them; at least one of each."""

    jobs: int
    heavy: int

    def halved(self) -> Load:
        """Return the load to retry with after the system killed a compiler."""
        jobs = max(1, self.jobs // 2)
        return Load(jobs, min(jobs, self.heavy))


def default_jobs(cores: int, available_memory: int) -> int:
    """Return as many jobs as fit into memory (bytes), heavy ones first; at most one per core.

    Heavy steps are nine tenths of a build (8120 of 8831 CPU seconds for 20.19.2), so they come first: with
    4 GB and 8 cores it is two heavy steps and one light one.
    """
    heavy = heavy_steps(cores, available_memory)
    left = max(0, available_memory - heavy * memory_needs().heavy)
    return min(cores, heavy + left // memory_needs().light)


def heavy_steps(jobs: int, available_memory: int) -> int:
    """Return how many of `jobs` steps may be heavy at once, at least one."""
    return max(1, min(jobs, available_memory // memory_needs().heavy))
