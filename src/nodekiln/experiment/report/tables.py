"""Render an experiment as plain text in 80 columns, the same in a terminal, a pipe and a mail.

The table of trials has the layout of the post that the experiment comes from, for comparison.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len

from nodekiln.core.reporting import one_line
from nodekiln.experiment.analysis.analyze import Analysis, Figures, SweepAnalysis
from nodekiln.experiment.analysis.pauses import PAUSES, STEPS, GcTable, Total
from nodekiln.experiment.analysis.verdict import (
    Verdict,
    brackets,
    few_trials,
    gc_notes,
    growth,
    judge,
    sweep_problems,
    warnings,
    why_methods_differ,
)
from nodekiln.experiment.model.naming import is_classic, legend
from nodekiln.experiment.model.results import COLLECTION_TYPES, METHODS
from nodekiln.experiment.report.format import deviation, mark_words, percent, quantity, ratio, spread

_RULE = 65
"""Length of the line under the trials' heading, as in the post."""
_NUMBER, _AVERAGE = 10, 14
"""Widths of the first cell of a trial, and of the average and the median."""
_SHORT = {"not run": "-", "none": "-"}
_SWEEP_WIDTHS = (8, 16, 24, 23)
_INTERRUPTED = "Interrupted: this is what was measured until then."


def render(analysis: Analysis | SweepAnalysis) -> str:
    """Return the whole text report of an experiment or a sweep."""
    warned = "\n".join(_wrapped([f"warning: {line}" for line in warnings(analysis.points)]))
    blocks = _sweep(analysis) if isinstance(analysis, SweepAnalysis) else _experiment(analysis)
    return "\n\n".join(filter(None, [warned, *blocks]))


def trial_table(analysis: Analysis) -> str:
    """Return the table of wall times per trial, with the average and the median."""
    heads = _trial_heads(analysis)
    widths = [cell_len(head) for head in heads]
    head = "trial (#) | " + " | ".join(heads)
    lines = [head, "=" * max(_RULE, cell_len(head))]
    for row in analysis.rows:
        name = f"{row.name} time: " if row.name in ("average", "median") else row.name
        lines.append(_row(f"{name:<{_AVERAGE if name.endswith(' ') else _NUMBER}}", row.cells, widths))
    return "\n".join(lines)


def measure_table(analysis: Analysis) -> str:
    """Return the medians with their intervals, and the ratios to the baseline."""
    baseline, *_ = analysis.names.values()
    compared = analysis.comparisons
    lines = [_columns(("", f"median ({brackets(compared)})", f"ratio to {baseline}"), (22, 28))]
    measure = None
    for one in compared:
        if one.measure != measure:
            lines.append(one.measure)
            measure = one.measure
        cells = (
            f"  {analysis.names[one.label]}",
            "-" if one.median is None else spread(one.median, one.unit),
            "" if one.ratio is None else ratio(one.ratio),
        )
        lines.append(_columns(cells, (22, 28)))
    return "\n".join(lines)


def gc_table(table: GcTable, name: str) -> str:
    """Return the table of one binary's collections, the three methods side by side."""
    lines = [_columns((name, *(f"{method:>17}" for method in METHODS)), (24, 17, 17))]
    lines.append(_columns(("", *(f"{'count':>7}{'ms':>10}" for _ in METHODS)), (24, 17, 17)))
    for kind in PAUSES:
        lines += _gc_row(COLLECTION_TYPES[kind], [table.by_type.get((kind, method)) for method in METHODS])
    lines += _gc_row("pauses together", [table.pauses.get(method) for method in METHODS])
    for kind in STEPS:
        lines += _gc_row(COLLECTION_TYPES[kind], [table.by_type.get((kind, method)) for method in METHODS])
    if table.joint:
        lines += _gc_row("pauses in a joint run", [table.joint.get(method) for method in METHODS])
    if table.agreement:
        lines.append("in the joint run, against perf_hooks:")
        lines += [f"  {method:<10} {deviation(found)}" for method, found in table.agreement.items()]
    shares = (f"{method} {percent(found)}" for method, found in table.share.items())
    lines += ["pauses' share of the time:", *(f"  {share}" for share in shares)] if table.share else []
    return "\n".join(lines)


def _experiment(analysis: Analysis) -> list[str]:
    experiment = analysis.experiment
    blocks = [trial_table(analysis), _legend(analysis)] if experiment.trials else []
    blocks += [measure_table(analysis)] if analysis.comparisons else []
    blocks += [gc_table(table, f"GC of {analysis.names[label]}") for label, table in analysis.gc.items()]
    notes = [*gc_notes([analysis]), *map(one_line, experiment.notes)]
    blocks += ["\n".join(_wrapped(notes))] if notes else []
    if reasons := why_methods_differ(analysis.gc.values()):
        blocks.append("\n".join(["Why the methods may differ:", *_wrapped(reasons)]))
    blocks.append("\n".join(_verdict(judge(analysis))))
    blocks += [_INTERRUPTED] if experiment.partial else []
    return blocks


def _sweep(analysis: SweepAnalysis) -> list[str]:
    sweep, method = analysis.sweep, analysis.method
    blocks = [_legend(analysis)]
    for mark in sweep.marks:
        of_pauses = () if method is None else (f"GC pauses ({method})", "share")
        lines = [mark_words(mark, sweep.unit)]
        lines.append(_columns(("input", "binary", "peak memory", *of_pauses), _SWEEP_WIDTHS))
        last = None
        for row in analysis.rows(mark):
            cells = [
                "" if row.size_bytes == last else quantity(row.size_bytes, "bytes"),
                row.name,
                "-" if row.peak is None else spread(row.peak, "bytes"),
            ]
            if method is not None:
                cells.append("-" if row.pauses is None else spread(row.pauses, "ms"))
                cells.append("-" if row.share is None else percent(row.share))
            lines.append(_columns(cells, _SWEEP_WIDTHS))
            last = row.size_bytes
        blocks.append("\n".join(lines))
    blocks += [
        "\n".join([f"{one.heading}:", *(f"  {line}" for line in one.lines)]) for one in growth(analysis)
    ]
    notes = [*sweep_problems(analysis), *few_trials(analysis.points), *gc_notes(analysis.points)]
    notes += [*map(one_line, sweep.notes), *([_INTERRUPTED] if sweep.partial else [])]
    return [*blocks, "\n".join(_wrapped(notes))] if notes else blocks


def _verdict(verdict: Verdict) -> list[str]:
    lines = []
    for finding in verdict.findings:
        lines += [f"{finding.name} against {finding.baseline}:"]
        lines += [f"  {phrase}" for phrase in finding.phrases]
    return [*lines, *_wrapped([*verdict.problems, *verdict.cautions])]


def _trial_heads(analysis: Analysis) -> list[str]:
    if is_classic(analysis.binaries):
        return ["`node` binary (ms)", "modified `node` binary (ms)"]
    return [f"`{name}` (ms)" for name in analysis.names.values()]


def _legend(analysis: Analysis | SweepAnalysis) -> str:
    """Return the legend of the column names."""
    entries = legend(analysis.binaries, analysis.names)
    if is_classic(analysis.binaries):
        (stock, about_stock), (modified, about_modified) = entries.items()
        entries = {"`node`": f"{stock}, {about_stock}", "modified `node`": f"{modified}, {about_modified}"}
    return "\n".join(f"{name}: {text.strip(', ')}" for name, text in entries.items() if text)


def _row(first: str, cells: Sequence[Figures | str], widths: Sequence[int]) -> str:
    """Return a row aligned with the heading, however wide its first cell is."""
    texts = [_SHORT.get(cell, cell) if isinstance(cell, str) else f"{cell.wall_ms:.0f}" for cell in cells]
    padded = [_pad(text, width) for text, width in zip(texts, widths, strict=True)]
    padded[0] = _pad(texts[0], widths[0] - (cell_len(first) - len("trial (#) ")))
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
