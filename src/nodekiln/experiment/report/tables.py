"""Render an experiment as plain text in 80 columns, the same in a terminal, a pipe and a mail.

The trials stand as in the post that the experiment comes from, so that the two can be laid side by side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import mean, median

from rich.cells import cell_len

from nodekiln.experiment.analysis.pauses import (
    PAUSES,
    STEPS,
    GcTable,
    Total,
    gc_tables,
    main_way,
    pause_share,
    pause_total,
)
from nodekiln.experiment.analysis.statistics import compare
from nodekiln.experiment.analysis.verdict import (
    Verdict,
    brackets,
    few_trials,
    gc_notes,
    growth,
    judge,
    median_of,
    mishap,
    sweep_problems,
    warnings,
    why_ways_differ,
)
from nodekiln.experiment.model.naming import display_names, is_classic, legend
from nodekiln.experiment.model.results import COLLECTION_TYPES, WAYS, Binary, Experiment, Sweep, Trial, Way
from nodekiln.experiment.report.format import deviation, mark_words, percent, plain, quantity, ratio, spread

_RULE = 65
"""Length of the line under the trials' heading, as in the post."""
_SWEEP_WIDTHS = (8, 16, 24, 23)
_INTERRUPTED = "Interrupted: this is what was measured until then."


def render(results: Experiment | Sweep) -> str:
    """Return the whole text report of an experiment or a sweep."""
    experiments = results.experiments if isinstance(results, Sweep) else (results,)
    warned = "\n".join(_wrapped([f"warning: {line}" for line in warnings(experiments)]))
    blocks = [warned, *(_sweep(results) if isinstance(results, Sweep) else _experiment(results))]
    return "\n\n".join(filter(None, blocks))


def trial_table(experiment: Experiment) -> str:
    """Return the table of wall times per trial, with the average and the median."""
    heads = _trial_heads(experiment.binaries)
    widths = [cell_len(head) for head in heads]
    numbers = sorted({trial.number for trial in experiment.trials})
    columns = [{t.number: t for t in experiment.trials_of(one.label)} for one in experiment.binaries]
    head = "trial (#) | " + " | ".join(heads)
    lines = [head, "=" * max(_RULE, cell_len(head))]
    lines += [
        _row(f"{number:<10}", [_wall(column.get(number)) for column in columns], widths) for number in numbers
    ]
    counted = [[trial.wall_ms for trial in column.values() if trial.counts] for column in columns]
    for name, of in (("average time: ", mean), ("median time:  ", median)):
        lines.append(_row(name, [f"{of(walls):.0f}" if walls else "-" for walls in counted], widths))
    return "\n".join(lines)


def measure_table(experiment: Experiment) -> str:
    """Medians with their intervals, and ratios to the baseline."""
    names = display_names(experiment.binaries)
    baseline = names[experiment.baseline.label]
    compared = compare(experiment)
    lines = [_columns(("", f"median ({brackets(compared)})", f"ratio to {baseline}"), (22, 28))]
    measure = None
    for one in compared:
        if one.measure != measure:
            lines.append(one.measure)
            measure = one.measure
        cells = (
            f"  {names[one.label]}",
            "-" if one.median is None else spread(one.median, one.unit),
            "" if one.ratio is None else ratio(one.ratio),
        )
        lines.append(_columns(cells, (22, 28)))
    return "\n".join(lines)


def gc_table(table: GcTable, name: str) -> str:
    """Return the table of one binary's collections, the three methods side by side."""
    lines = [_columns((name, *(f"{way:>17}" for way in WAYS)), (24, 17, 17))]
    lines.append(_columns(("", *(f"{'count':>7}{'ms':>10}" for _ in WAYS)), (24, 17, 17)))
    for kind in PAUSES:
        lines += _gc_row(COLLECTION_TYPES[kind], [table.by_type.get((kind, way)) for way in WAYS])
    lines += _gc_row("pauses together", [table.pauses.get(way) for way in WAYS])
    for kind in STEPS:
        lines += _gc_row(COLLECTION_TYPES[kind], [table.by_type.get((kind, way)) for way in WAYS])
    if table.joint:
        lines += _gc_row("pauses in a joint run", [table.joint.get(way) for way in WAYS])
    if table.agreement:
        lines.append("in the joint run, against perf_hooks:")
        lines += [f"  {way:<10} {deviation(found)}" for way, found in table.agreement.items()]
    shares = (f"{way} {percent(found)}" for way, found in table.share.items())
    lines += ["pauses' share of the time:", *(f"  {share}" for share in shares)] if table.share else []
    return "\n".join(lines)


def _experiment(experiment: Experiment) -> list[str]:
    names = display_names(experiment.binaries)
    blocks = [trial_table(experiment), _legend(experiment.binaries)] if experiment.trials else []
    blocks += [measure_table(experiment)] if compare(experiment) else []
    found = gc_tables(experiment)
    blocks += [gc_table(table, f"GC of {names[table.label]}") for table in found]
    notes = [*gc_notes([experiment]), *map(plain, experiment.notes)]
    blocks += ["\n".join(_wrapped(notes))] if notes else []
    if reasons := why_ways_differ(found):
        blocks.append("\n".join(["Why the ways may differ:", *_wrapped(reasons)]))
    blocks.append("\n".join(_verdict(judge(experiment))))
    blocks += [_INTERRUPTED] if experiment.partial else []
    return blocks


def _sweep(sweep: Sweep) -> list[str]:
    first = sweep.experiments[0]
    way = main_way(sweep.experiments)
    blocks = [_legend(first.binaries)]
    for mark in sweep.marks:
        experiments = sweep.at(mark)
        lines = [mark_words(mark, sweep.unit)]
        of_pauses = () if way is None else (f"GC pauses ({way})", "share")
        lines.append(_columns(("input", "binary", "peak memory", *of_pauses), _SWEEP_WIDTHS))
        for experiment in experiments:
            lines += _sweep_rows(experiment, way)
        blocks.append("\n".join(lines))
    blocks += ["\n".join([f"{one.heading}:", *(f"  {line}" for line in one.lines)]) for one in growth(sweep)]
    note_lines = [*sweep_problems(sweep), *few_trials(sweep.experiments), *gc_notes(sweep.experiments)]
    note_lines += [*map(plain, sweep.notes), *([_INTERRUPTED] if sweep.partial else [])]
    return [*blocks, "\n".join(_wrapped(note_lines))] if note_lines else blocks


def _sweep_rows(experiment: Experiment, way: Way | None) -> list[str]:
    names = display_names(experiment.binaries)
    lines = []
    for place, binary in enumerate(experiment.binaries):
        peak = median_of(experiment, "peak memory", binary.label)
        cells = (
            "" if place else quantity(experiment.input.size_bytes, "bytes"),
            names[binary.label],
            "-" if peak is None else spread(peak, "bytes"),
            *(() if way is None else _pauses(experiment, binary.label, way)),
        )
        lines.append(_columns(cells, _SWEEP_WIDTHS))
    return lines


def _pauses(experiment: Experiment, label: str, way: Way) -> tuple[str, str]:
    """Their total and their share of the time."""
    total, share = pause_total(experiment, label, way), pause_share(experiment, label, way)
    return "-" if total is None else spread(total, "ms"), "-" if share is None else percent(share)


def _verdict(verdict: Verdict) -> list[str]:
    lines = []
    for finding in verdict.findings:
        lines += [f"{finding.name} against {finding.baseline}:"]
        lines += [f"  {phrase}" for phrase in finding.phrases]
    return [*lines, *_wrapped([*verdict.problems, *verdict.cautions])]


def _trial_heads(binaries: Sequence[Binary]) -> list[str]:
    if is_classic(binaries):
        return ["`node` binary (ms)", "modified `node` binary (ms)"]
    names = display_names(binaries)
    return [f"`{names[binary.label]}` (ms)" for binary in binaries]


def _legend(binaries: Sequence[Binary]) -> str:
    """Return the legend of the column names."""
    names = legend(binaries)
    if is_classic(binaries):
        (stock, stock_told), (modified, modified_told) = names.items()
        names = {"`node`": f"{stock}, {stock_told}", "modified `node`": f"{modified}, {modified_told}"}
    return "\n".join(f"{name}: {note_lines.strip(', ')}" for name, note_lines in names.items() if note_lines)


def _wall(trial: Trial | None) -> str:
    if trial is None:
        return "-"
    return mishap(trial) or f"{trial.wall_ms:.0f}"


def _row(first: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a row aligned with the heading, however wide its first cell is."""
    padded = [_pad(cell, width) for cell, width in zip(cells, widths, strict=True)]
    padded[0] = _pad(cells[0], widths[0] - (cell_len(first) - len("trial (#) ")))
    return (first + "| " + " | ".join(padded)).rstrip()


def _gc_row(name: str, totals: Sequence[Total | None]) -> list[str]:
    if not any(totals):
        return []
    cells = (
        f"{'-':>17}" if one is None else f"{one.count.value:>7g}{one.total_ms.value:>10.1f}" for one in totals
    )
    return [_columns((name, *cells), (24, 17, 17))]


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [_pad(cell, width) for cell, width in zip(cells, widths, strict=False)]
    return " ".join([*padded, *cells[len(widths) :]]).rstrip()


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [
        row for line in lines for row in textwrap.wrap(line, 78, initial_indent="- ", subsequent_indent="  ")
    ]
