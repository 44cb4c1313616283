"""What an experiment shows, in plain words: the same in the terminal and on top of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodekiln.experiment.naming import display_names
from nodekiln.experiment.pauses import GcTable, main_way, pause_ratio
from nodekiln.experiment.results import Ending, Experiment, Trial
from nodekiln.experiment.statistics import ENOUGH, Comparison, Estimate, compare
from nodekiln.experiment.wording import plain, quantity, ratio_parts

_ENDINGS: dict[Ending, str] = {
    "out of memory": "ran out of memory",
    "failed": "failed",
    "interrupted": "was interrupted",
}

_WHY_WAYS_DIFFER = (
    "Each way has runs of its own, and no two runs collect at the same moments.",
    "perf_hooks keeps what it tells in the program's own heap, which then fills up and is collected at other "
    "moments.",
    "Probes fire where V8 calls back before and after a collection; --trace-gc prints V8's own time without "
    "the callbacks, and neither incremental marking nor weak callbacks by themselves.",
    "perf_hooks is timed inside callbacks, which V8 leaves out for a collection within another, and "
    "collections after its last delivery may be missing.",
    "perf_hooks tells the main thread's collections; probes and --trace-gc those of workers as well.",
)


_JOINT = "Whether they tell the same shows in the joint run, which all three watch."


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """What one measure shows: "4.6 times", "no difference shown" or "nothing to compare"."""

    measure: str
    words: str
    around: str
    """The interval, "4.5 to 4.7", or how far two or three pairs go; empty where there is none."""
    differs: bool
    """Whether a difference is shown; one pair alone shows none."""

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
    """What was found, what went wrong on the way, and what to be careful about."""

    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    cautions: tuple[str, ...]


def judge(experiment: Experiment) -> Verdict:
    """What one experiment shows."""
    compared = compare(experiment)
    names = display_names(experiment.binaries)
    findings = (
        Finding(
            name=names[binary.label],
            baseline=names[experiment.baseline.label],
            phrases=_phrases(experiment, binary.label, compared),
        )
        for binary in experiment.binaries[1:]
    )
    return Verdict(
        findings=tuple(finding for finding in findings if finding.phrases),
        problems=problems(experiment),
        cautions=few_trials([experiment]),
    )


def problems(experiment: Experiment) -> tuple[str, ...]:
    """Trials that did not finish, or lost data, by binary."""
    told = []
    for label, name in display_names(experiment.binaries).items():
        trials = experiment.trials_of(label)
        for ending, words in _ENDINGS.items():
            if hit := [trial for trial in trials if trial.ending == ending]:
                limit = experiment.memory_limit_bytes if ending == "out of memory" else None
                under = "" if limit is None else f", with a limit of {quantity(limit, 'bytes')}"
                told.append(f"{name} {words} in {_share(hit, trials)}{under}{_reason(hit)}")
        if lost := [trial for trial in trials if trial.ending == "finished" and not trial.counts]:
            told.append(
                f"{name} lost or changed data in {_share(lost, trials)}: what came out is not what went in"
                f"{_reason(lost)}"
            )
    return tuple(told)


def few_trials(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    """A line where brackets hold no interval, only a range."""
    medians = [one.median for experiment in experiments for one in compare(experiment)]
    fewest = min((median.count for median in medians if median is not None), default=0)
    if fewest >= ENOUGH:
        return ()
    if fewest == 0:
        return ("No trial was finished.",)
    return (
        f"{_trials(fewest)} of a binary {'is' if fewest == 1 else 'are'} too few for a 95% interval: "
        f"what stands in brackets is the range. {ENOUGH} or more give one.",
    )


def mishap(trial: Trial) -> str | None:
    """Why a trial's figures don't count, in two words; None where they do."""
    if trial.counts:
        return None
    return "lost data" if trial.ending == "finished" else trial.ending


def why_ways_differ(tables: Sequence[GcTable]) -> tuple[str, ...]:
    """Where the ways of measuring GC may differ; nothing where there is one way only."""
    if not any(len(table.ways) > 1 for table in tables):
        return ()
    return (*_WHY_WAYS_DIFFER, *([_JOINT] if any(table.joint for table in tables) else []))


def gc_notes(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    """Why a way of measuring GC has no figures, or what went wrong with it, once for each reason."""
    told: dict[str, None] = {}
    for experiment in experiments:
        names = display_names(experiment.binaries)
        for run in experiment.gc_runs:
            if run.collections is None:
                told[f"{run.way}: {plain(run.note) or 'not measured'}"] = None
            elif run.note or run.ending != "finished":
                told[f"{run.way} of {names[run.binary]}: {plain(run.note) or run.ending}"] = None
        for joint in experiment.joint_runs:
            if joint.note or joint.ending != "finished":
                told[f"joint run of {names[joint.binary]}: {plain(joint.note) or joint.ending}"] = None
    return tuple(told)


def _phrases(experiment: Experiment, label: str, compared: Sequence[Comparison]) -> tuple[Phrase, ...]:
    ratios = {one.measure: one.ratio for one in compared if one.label == label}
    if (way := main_way([experiment])) is not None:
        ratios["time in GC pauses"] = pause_ratio(experiment, label, way)
    measures = sorted(ratios, key=lambda measure: measure != "peak memory")
    return tuple(_phrase(measure, ratios[measure]) for measure in measures)


def _phrase(measure: str, ratio: Estimate | None) -> Phrase:
    if ratio is None:
        return Phrase(measure=measure, words="nothing to compare", around="", differs=False)
    value, around = ratio_parts(ratio)
    if ratio.count == 1:
        return Phrase(measure=measure, words=f"{value} times", around="one pair", differs=False)
    if not ratio.enough:
        around = f"{around} in {ratio.count} pairs"
    words = "no difference shown" if ratio.holds_one else f"{value} times"
    return Phrase(measure=measure, words=words, around=around, differs=not ratio.holds_one)


def _share(hit: Sequence[Trial], trials: Sequence[Trial]) -> str:
    return f"{len(hit)} of {_trials(len(trials))}"


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"


def _reason(hit: Sequence[Trial]) -> str:
    told = sorted({plain(trial.detail) for trial in hit if trial.detail})
    return f" ({told[0]})" if told else ""
