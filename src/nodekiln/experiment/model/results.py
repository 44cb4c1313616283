"""The measurements of an experiment: the data model of results.json.

Every figure of a report is derived from these values; nothing here measures, counts, writes or draws.
Times are in milliseconds, sizes in bytes, unless a field says otherwise. schema.py makes
docs/results.schema.json from these classes and the texts under their fields.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nodekiln.core import limits
from nodekiln.core.errors import UsageError
from nodekiln.core.files import read_regular

SCHEMA = 2
"""Raised with every change after which an older nodekiln could misread a file.

1 has `way` for `method`, and is still read.
"""

FORMAT: Literal["nodekiln results"] = "nodekiln results"

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""

Version = Annotated[int, Meta(ge=1, le=SCHEMA)]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Number = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Milliseconds = Annotated[float, Meta(ge=0, le=limits.MILLISECONDS)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Label = Annotated[str, Meta(min_length=1, max_length=80)]

Ending = Literal["finished", "out of memory", "failed", "interrupted"]
Method = Literal["probes", "trace-gc", "perf_hooks"]
PageCache = Literal["warm", "cold", "as found"]
CollectionType = Literal[1, 2, 4, 8, 16]
Unit = Literal["bytes", "objects"]

COLLECTION_TYPES: dict[CollectionType, str] = {
    1: "scavenge",
    2: "minor mark-sweep",
    4: "mark-compact",
    8: "incremental marking",
    16: "weak callbacks",
}
"""V8's GCType bits, as probes and perf_hooks report them."""

METHODS: tuple[Method, ...] = ("probes", "trace-gc", "perf_hooks")

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample of a running trial."""

    at_ms: Milliseconds
    """Since the trial's process was started."""
    rss_bytes: Count
    writable_length: Count | None = None
    """Summed over the workload's streams, in the experiment's `stream_unit`; None if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """One garbage collection, or a step of one."""

    at_ms: Milliseconds
    """Its end, since the start of the process (of the isolate, for --trace-gc)."""
    duration_ms: Milliseconds
    type: CollectionType


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run of one binary. Trials with the same number are compared with each other."""

    number: Number
    binary: Label
    """The label of a Binary."""
    order: Number
    """Its place in the sequence that was run, warm-ups not counted."""
    wall_ms: Milliseconds
    """From start to exit; up to its end if it did not finish."""
    cpu_ms: Milliseconds
    """User and system time of the process."""
    peak_rss_bytes: Count
    """The kernel's own maximum, which samples can miss."""
    samples: tuple[Sample, ...]
    """In the order of time."""
    ending: Ending
    verified: bool | None
    """True if the output equals the input; None if that could not be checked."""
    detail: str = ""
    """Why it did not finish or verify, for a person to read."""

    @property
    def counts(self) -> bool:
        """True if its figures may be compared: it finished and lost no data."""
        return self.ending == "finished" and self.verified is not False


@dataclass(frozen=True, kw_only=True, slots=True)
class GcRun:
    """One run of one binary with its collections measured by one method."""

    binary: Label
    method: Method
    number: Number = 1
    """Runs with the same number were made in succession."""
    collections: tuple[Collection, ...] | None
    """In the order of time; None if this method was unavailable; `note` says why."""
    wall_ms: Milliseconds
    ending: Ending = "finished"
    note: str = ""
    unread_lines: tuple[str, ...] = ()
    """The first ten lines that begin as V8's --trace-gc lines do and could not be parsed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JointRun:
    """One run of one binary with all methods at once, which shows how far they agree.

    They disturb each other and the program, so that it shows nothing else.
    """

    binary: Label
    number: Number = 1
    collections: dict[Method, tuple[Collection, ...]]
    """By method, in chronological order."""
    wall_ms: Milliseconds
    ending: Ending = "finished"
    note: str = ""
    unread_lines: tuple[str, ...] = ()
    """The first ten lines that begin as V8's --trace-gc lines do and could not be parsed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Binary:
    """A compared binary."""

    label: Label
    """Short, and no other's: what tables and plots call it."""
    name: str
    """The recipe's name (v22.20.0-no-backpressure-graft), or the name of a file."""
    sha256: Sha256
    version: str
    """Its output for --version."""
    backpressure: bool | None
    """True if write() returns false on a full stream; None if unknown."""
    probes: tuple[str, ...] = ()
    """Names of its USDT probes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """The input of all trials."""

    kind: Literal["generated", "file", "none"]
    size_bytes: Count
    """Total size, repeats included."""
    sha256: Sha256 | None
    compressed_ratio: Annotated[float, Meta(gt=0)] | None
    """Size after gzip / size; None where nothing was compressed."""
    repeat: Number = 1
    name: str = ""
    """The file's name, without its folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The machine at the start."""

    cpu: str
    cores: Number
    """Processors that the trials could use."""
    governor: str | None
    """The CPU frequency governor; None if unknown (virtual machines, macOS)."""
    kernel: str
    os: str
    architecture: str
    memory_bytes: Count
    available_memory_bytes: Count
    load: Annotated[float, Meta(ge=0)] | None
    """Mean number of runnable processes over the minute before."""
    filesystem: str | None = None
    """The file system of input and output."""
    virtual_machine: str | None = None
    """The hypervisor, if known."""
    tracer: str | None = None
    """Name and version of what read the probes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """Two or more binaries under one workload with one input. The first binary is the baseline."""

    started: str
    """ISO 8601 with the offset from UTC."""
    seed: int
    """The seed of the input and of the order of trials."""
    workload: str
    program: str | None
    """The workload's source; None if it is not shown."""
    high_water_mark: Count | None
    """In `stream_unit`; None for Node's defaults."""
    stream_unit: Unit
    """The unit in which the workload's streams count."""
    cpu_bound: bool = False
    """True if the workload computes all the time: on an idle machine its wall time is about its CPU time."""
    input: Input
    page_cache: PageCache
    warm_ups: Count
    """Runs of each binary before its first trial, not counted."""
    sample_interval_ms: Milliseconds
    binaries: tuple[Binary, ...]
    trials: tuple[Trial, ...]
    gc_runs: tuple[GcRun, ...]
    joint_runs: tuple[JointRun, ...] = ()
    """Empty where no probes could be read."""
    environment: Environment
    memory_limit_bytes: Count | None
    partial: bool
    """Interrupted: what was measured until then."""
    notes: tuple[str, ...] = ()
    schema: Version = SCHEMA
    format: Literal["nodekiln results"] = FORMAT
    kind: Literal["experiment"] = "experiment"

    def __post_init__(self) -> None:
        labels = [binary.label for binary in self.binaries]
        if not labels:
            raise ValueError("no binaries")
        if len(set(labels)) < len(labels):
            raise ValueError("two binaries share a label")
        named = {trial.binary for trial in self.trials} | {run.binary for run in self.gc_runs}
        named |= {run.binary for run in self.joint_runs}
        if unknown := named - set(labels):
            raise ValueError(f"no binary is called {min(unknown)!r}")
        for what, labels_of in (
            ("trials", [trial.binary for trial in self.trials]),
            ("measured runs", [run.binary + run.method for run in self.gc_runs]),
            ("joint runs", [run.binary for run in self.joint_runs]),
        ):
            most = max(Counter(labels_of).values(), default=0)
            if most > limits.TRIALS:
                raise ValueError(f"{most} {what} of one binary, and the limit is {limits.TRIALS}")
        _unique("trial", [(trial.binary, trial.number) for trial in self.trials])
        _unique("GC run", [(run.binary, run.method, run.number) for run in self.gc_runs])
        _unique("joint run", [(run.binary, run.number) for run in self.joint_runs])

    @property
    def baseline(self) -> Binary:
        """Return the baseline, the first binary."""
        return self.binaries[0]

    def trials_of(self, label: str) -> tuple[Trial, ...]:
        """In the order of their numbers."""
        return tuple(sorted((t for t in self.trials if t.binary == label), key=lambda t: t.number))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """The same binaries under the same workload, with inputs and highWaterMarks of several sizes."""

    started: str
    experiments: tuple[Experiment, ...]
    """One per pair of input size and highWaterMark, in the order of the runs."""
    partial: bool
    notes: tuple[str, ...] = ()
    schema: Version = SCHEMA
    format: Literal["nodekiln results"] = FORMAT
    kind: Literal["sweep"] = "sweep"

    def __post_init__(self) -> None:
        if not self.experiments:
            raise ValueError("no experiments")
        first = self.experiments[0]
        for other in self.experiments[1:]:
            if other.binaries != first.binaries:
                raise ValueError("its experiments compare different binaries")
            if (other.workload, other.stream_unit) != (first.workload, first.stream_unit):
                raise ValueError("its experiments run different workloads")
        _unique("experiment", [(one.input.size_bytes, one.high_water_mark) for one in self.experiments])

    @property
    def unit(self) -> Unit:
        """The unit in which the workload's streams count."""
        return self.experiments[0].stream_unit

    @property
    def marks(self) -> tuple[int | None, ...]:
        """Return the highWaterMarks in ascending order, Node's default (None) first."""
        marks = {experiment.high_water_mark for experiment in self.experiments}
        return tuple(sorted(marks, key=lambda mark: -1 if mark is None else mark))

    def at(self, mark: int | None) -> tuple[Experiment, ...]:
        """Return the experiments with that highWaterMark, sorted by input size."""
        found = (one for one in self.experiments if one.high_water_mark == mark)
        return tuple(sorted(found, key=lambda one: one.input.size_bytes))


def _unique(what: str, keys: Sequence[Any]) -> None:
    for key, same in groupby(sorted(keys, key=repr)):
        if len(list(same)) > 1:
            raise ValueError(f"two {what}s are {key}")


def dump(results: Experiment | Sweep) -> str:
    """Return the text of results.json."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1).decode() + "\n"


def load(text: bytes | str, origin: str = "results.json") -> Experiment | Sweep:
    """Parse the text of results.json; `origin` names it in errors.

    Raises UsageError for a text that is damaged, is something else's, or was written by a newer nodekiln.
    """
    again = "./inv compare makes a new one; it can't be drawn from this."
    try:
        head: Any = msgspec.json.decode(text)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise UsageError(
                f"{origin} does not contain results of ./inv compare.", remedy="Name the folder of a run."
            )
        schema = head.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise UsageError(
                f"{origin} was written by a newer nodekiln (schema {schema}; this one reads {SCHEMA}).",
                remedy="Use that version.",
            )
        shape: Any = Sweep if head.get("kind") == "sweep" else Experiment
        results: Experiment | Sweep = msgspec.convert(_as_current(head), type=shape)
    except (msgspec.DecodeError, UnicodeError) as error:  # ValidationError is a DecodeError
        raise UsageError(f"{origin} is damaged: {error}.", remedy=again) from None
    except RecursionError:
        raise UsageError(f"{origin} is damaged: it nests too deeply.", remedy=again) from None
    return results


def _as_current(data: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file of schema 1 as one of the current schema; other content as it is."""
    if data.get("schema") != 1:
        return data
    current = data | {"schema": SCHEMA}
    if isinstance(experiments := data.get("experiments"), list):
        current["experiments"] = [_as_current(one) if isinstance(one, dict) else one for one in experiments]
    if isinstance(runs := data.get("gc_runs"), list):
        current["gc_runs"] = [_renamed(run) if isinstance(run, dict) else run for run in runs]
    return current


def _renamed(run: dict[str, Any]) -> dict[str, Any]:
    return {"method" if key == "way" else key: value for key, value in run.items()}


def read_results(folder: Path) -> Experiment | Sweep:
    """Return the results in the folder of a run; raise UsageError if it has none that can be rendered."""
    file = folder / RESULTS
    remedy = "./inv report takes the folder of a run: build/experiments/<time>."
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait, a device never end
            raise UsageError(f"{file} is not a regular file.", remedy=remedy)
        text = read_regular(file, follow=True)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}.", remedy=remedy) from None
    return load(text, str(file))
