"""Put the result of an experiment into words: the same in the terminal and at the top of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from nodekiln.core.errors import CheckError
from nodekiln.core.reporting import one_line
from nodekiln.experiment.analysis.analyze import Analysis, SweepAnalysis
from nodekiln.experiment.analysis.pauses import GcTable
from nodekiln.experiment.analysis.statistics import ENOUGH, Comparison, Estimate, MetricUnit
from nodekiln.experiment.model.results import Ending, Experiment, GcRun, JointRun, Trial
from nodekiln.experiment.report.format import mark_words, quantity, ratio_parts

TOO_FEW = "too few values"
_MAX_DISAGREEMENT = 0.2
"""Between the totals of --trace-gc and perf_hooks in one run; 0.1 is usual: V8 leaves out its callbacks."""
_MAX_WALL_TO_CPU = 1.5
"""Wall time over CPU time of a CPU-bound workload; up to 1.2 was measured on an idle machine."""
_ENDINGS: dict[Ending, str] = {
    "out of memory": "ran out of memory",
    "failed": "failed",
    "interrupted": "was interrupted",
}

_WHY_METHODS_DIFFER = (
    "Each method has runs of its own, and no two runs collect at the same moments.",
    "perf_hooks keeps its records in the program's own heap, which then fills up and is collected at other "
    "moments.",
    "Probes fire where V8 calls back before and after a collection; --trace-gc prints V8's own time without "
    "the callbacks, and neither incremental marking nor weak callbacks by themselves.",
    "perf_hooks is timed inside callbacks, which V8 leaves out for a collection within another, and "
    "collections after its last delivery may be missing.",
    "perf_hooks reports the main thread's collections; probes and --trace-gc those of workers as well.",
)
_JOINT = "The joint run, which all three methods watch, shows whether they agree."


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """The finding: "4.6 times", "no difference shown" or "nothing to compare"."""

    measure: str
    words: str
    around: str
    """The interval ("4.5 to 4.7") or the range of a few pairs; empty if there is none."""
    differs: bool
    """True if a difference is shown; a few pairs show none, however far from 1."""

    def __str__(self) -> str:
        """peak memory 4.6 times (4.5 to 4.7); wall time: no difference shown (0.98 to 1.02)."""
        around = f" ({self.around})" if self.around else ""
        return f"{self.measure}{'' if self.differs else ':'} {self.words}{around}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One binary against the baseline."""

    name: str
    baseline: str
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Findings, failures and caveats of an experiment."""

    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    cautions: tuple[str, ...]


def judge(analysis: Analysis) -> Verdict:
    """Return the verdict of one experiment."""
    names = analysis.names
    baseline, *others = names
    findings = (
        Finding(name=names[label], baseline=names[baseline], phrases=_phrases(analysis, label))
        for label in others
    )
    return Verdict(
        findings=tuple(finding for finding in findings if finding.phrases),
        problems=problems(analysis),
        cautions=few_trials([analysis]),
    )


def problems(analysis: Analysis) -> tuple[str, ...]:
    """Describe the trials that did not finish or lost data, by binary."""
    return tuple(line for label in analysis.names for line in _problems_of(analysis, label))


def few_trials(analyses: Sequence[Analysis]) -> tuple[str, ...]:
    """Return a note if the brackets contain a range instead of an interval."""
    compared = [one for analysis in analyses for one in analysis.comparisons]
    medians = [one.median.count for one in compared if one.median is not None]
    pairs = [one.ratio.count for one in compared if one.ratio is not None]
    if not medians:
        return ("No trial was finished.",)
    if (fewest := min(medians)) < ENOUGH:
        texts = f"{_trials(fewest)} of a binary"
    elif (fewest := min(pairs, default=ENOUGH)) < ENOUGH:  # the others failed, or are zeros
        texts = f"{fewest} pair{'' if fewest == 1 else 's'} of trials"
    else:
        return ()
    return (
        f"{texts} {'is' if fewest == 1 else 'are'} too few for a 95% interval: "
        f"the brackets contain the range. {ENOUGH} or more give one.",
    )


def brackets(compared: Sequence[Comparison]) -> str:
    """Explain the brackets behind medians and ratios: intervals, ranges of a few values, or both."""
    found = {one.enough for each in compared for one in (each.median, each.ratio) if one is not None}
    if found == {True}:
        return "95% interval"
    return "interval or range" if True in found else "range"


def find_failure(analysis: Analysis | SweepAnalysis) -> CheckError | None:
    """Return the error to end with if no trial of a binary counts.

    A binary that ran out of memory under a limit has a result; an interrupted experiment has no failure.
    """
    is_sweep = isinstance(analysis, SweepAnalysis)
    if (analysis.sweep if isinstance(analysis, SweepAnalysis) else analysis.experiment).partial:
        return None
    texts, endings = [], set()
    for point in analysis.points:
        where = f"{_point(point.experiment)}: " if is_sweep else ""
        without = [label for label in point.names if not _has_result(point, label)]
        texts += [f"{where}{line}" for label in without for line in _problems_of(point, label)]
        endings |= {trial.ending for label in without for trial in point.trials[label]}
    if not texts:
        return None
    return CheckError(
        f"There is nothing to compare: {'; '.join(texts)}.",
        remedy="Take a smaller --size; or --memory-limit, with which that is a result."
        if "out of memory" in endings
        else "Run the workload alone for details: BINARY FILE INPUT OUTPUT",
    )


def why_methods_differ(tables: Iterable[GcTable]) -> tuple[str, ...]:
    """Return notes on differences between the methods of measuring GC."""
    tables = tuple(tables)
    if not any(len(table.methods) > 1 for table in tables):
        return ()
    return (*_WHY_METHODS_DIFFER, *([_JOINT] if any(table.joint for table in tables) else []))


def busy_warning(load: float, cores: int) -> str:
    """Return the warning for a load average above the number of cores."""
    unit = "core" if cores == 1 else "cores"
    return f"The machine is busy: load {load:.1f} on {cores} {unit}. Times may be too long."


def warnings(analyses: Sequence[Analysis]) -> tuple[str, ...]:
    """Return the reasons not to trust the figures, for the top of the report: each one once."""
    found: dict[str, None] = {}
    for analysis in analyses:
        experiment, names = analysis.experiment, analysis.names
        machine = experiment.environment
        if machine.load is not None and machine.load > machine.cores:
            found[busy_warning(machine.load, machine.cores)] = None
        for line in _waiting(analysis):
            found[line] = None
        for label, table in analysis.gc.items():
            ratio = table.agreement.get("trace-gc")
            if ratio is not None and abs(ratio.value - 1) > _MAX_DISAGREEMENT:
                found[
                    f"GC pauses of {names[label]} by --trace-gc and perf_hooks differ by"
                    f" {abs(ratio.value - 1):.0%} in the joint run: one of them is incomplete."
                ] = None
        runs: tuple[GcRun | JointRun, ...] = (*experiment.gc_runs, *experiment.joint_runs)
        for run in runs:
            if run.unread_lines:
                found[
                    f"GC figures of {names[run.binary]} by --trace-gc are incomplete: unknown line"
                    f" {one_line(run.unread_lines[0])}"
                ] = None
    return tuple(found)


def _waiting(analysis: Analysis) -> list[str]:
    """Return a warning for each binary whose trials waited for a processor most of the time."""
    if not analysis.experiment.cpu_bound:
        return []
    lines = []
    for label, name in analysis.names.items():
        trials = [trial for trial in analysis.trials[label] if trial.counts and trial.cpu_ms > 0]
        if trials and (ratio := median(one.wall_ms / one.cpu_ms for one in trials)) > _MAX_WALL_TO_CPU:
            lines.append(
                f"The machine was busy: the wall time of {name} is {ratio:.1f} times its CPU time, and the"
                " workload computes all the time."
            )
    return lines


def gc_notes(analyses: Sequence[Analysis]) -> tuple[str, ...]:
    """Return why a method of measuring GC has no figures, or what went wrong, once for each reason."""
    texts: dict[str, None] = {}
    for analysis in analyses:
        names = analysis.names
        for run in analysis.experiment.gc_runs:
            if run.collections is None:
                texts[f"{run.method}: {one_line(run.note) or 'not measured'}"] = None
            elif run.note or run.ending != "finished":
                texts[f"{run.method} of {names[run.binary]}: {one_line(run.note) or run.ending}"] = None
        for joint in analysis.experiment.joint_runs:
            if joint.note or joint.ending != "finished":
                texts[f"joint run of {names[joint.binary]}: {one_line(joint.note) or joint.ending}"] = None
    return tuple(texts)


def _phrases(analysis: Analysis, label: str) -> tuple[Phrase, ...]:
    ratios = {one.measure: one.ratio for one in analysis.comparisons if one.label == label}
    if analysis.method is not None:
        ratios["time in GC pauses"] = analysis.gc[label].ratio.get(analysis.method)
    measures = sorted(ratios, key=lambda measure: measure != "peak memory")
    return tuple(_phrase(measure, ratios[measure]) for measure in measures)


def _phrase(measure: str, ratio: Estimate | None) -> Phrase:
    if ratio is None:
        return Phrase(measure=measure, words="nothing to compare", around="", differs=False)
    value, around = ratio_parts(ratio)
    if not ratio.enough:
        around = "one pair" if ratio.count == 1 else f"{around} in {ratio.count} pairs"
    if ratio.holds_one and ratio.count > 1:
        return Phrase(measure=measure, words="no difference shown", around=around, differs=False)
    if not ratio.enough:  # no headline, but the ratio is shown: 8 times the memory is hardly chance
        return Phrase(measure=measure, words=TOO_FEW, around=f"{value} times, {around}", differs=False)
    return Phrase(measure=measure, words=f"{value} times", around=around, differs=True)


def _problems_of(analysis: Analysis, label: str) -> list[str]:
    name, trials = analysis.names[label], analysis.trials[label]
    texts = []
    for ending, words in _ENDINGS.items():
        if hit := [trial for trial in trials if trial.ending == ending]:
            limit = analysis.experiment.memory_limit_bytes if ending == "out of memory" else None
            under = "" if limit is None else f", with a limit of {quantity(limit, 'bytes')}"
            texts.append(f"{name} {words} in {_share(hit, trials)}{under}{_reason(hit)}")
    if lost := [trial for trial in trials if trial.ending == "finished" and not trial.counts]:
        texts.append(
            f"{name} lost or changed data in {_share(lost, trials)}: the output differs from the input"
            f"{_reason(lost)}"
        )
    return texts


def _has_result(analysis: Analysis, label: str) -> bool:
    is_limited = analysis.experiment.memory_limit_bytes is not None
    return any(
        trial.counts or (is_limited and trial.ending == "out of memory") for trial in analysis.trials[label]
    )


def _point(experiment: Experiment) -> str:
    """Return its position in a sweep."""
    size = quantity(experiment.input.size_bytes, "bytes")
    return f"{size}, {mark_words(experiment.high_water_mark, experiment.stream_unit)}"


def _share(hit: Sequence[Trial], trials: Sequence[Trial]) -> str:
    return f"{len(hit)} of {_trials(len(trials))}"


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"


def _reason(hit: Sequence[Trial]) -> str:
    texts = sorted({one_line(trial.detail) for trial in hit if trial.detail})
    return f" ({texts[0]})" if texts else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """The findings of a sweep at one highWaterMark, a line per binary."""

    heading: str
    lines: tuple[str, ...]


def growth(analysis: SweepAnalysis) -> tuple[Growth, ...]:
    """Return the growth from the smallest input to the largest; nothing for a single size."""
    texts = []
    sweep = analysis.sweep
    for mark in sweep.marks:
        experiments = analysis.at(mark)
        least, most = experiments[0], experiments[-1]
        if least is most:
            continue
        sizes = _from_to(*(quantity(one.size_bytes, "bytes") for one in (least, most)))
        lines = [f"{name}: {_line(least, most, label)}" for label, name in least.names.items()]
        texts.append(Growth(heading=f"{mark_words(mark, sweep.unit)}, input {sizes}", lines=tuple(lines)))
    return tuple(texts)


def sweep_problems(analysis: SweepAnalysis) -> tuple[str, ...]:
    """Return the failures with their size and highWaterMark."""
    return tuple(f"{_point(one.experiment)}: {line}" for one in analysis.points for line in problems(one))


def _line(least: Analysis, most: Analysis, label: str) -> str:
    peaks = [_value(one.median_of("peak memory", label), "bytes") for one in (least, most)]
    parts = [f"peak memory {_from_to(*peaks)}"]
    if least.method is not None:
        pauses = [_value(one.pauses_of(label), "ms") for one in (least, most)]
        parts.append(f"GC pauses {_from_to(*pauses)}")
    return ", ".join(parts)


def _value(estimate: Estimate | None, unit: MetricUnit) -> str:
    return "(not measured)" if estimate is None else quantity(estimate.value, unit)


def _from_to(first: str, last: str) -> str:
    return f"{first} to {last}"
