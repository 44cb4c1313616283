"""Evaluate one recipe of one tag: plan it, check the planned files, and list what does not fit.

Reads files through `read` only, and knows neither git nor the repository.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import partial
from itertools import zip_longest

from nodekiln.changes import hunks, planner
from nodekiln.changes.hunks import Fit
from nodekiln.changes.javascript import parse
from nodekiln.changes.patchfile import Hunk
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Conflict, Edit, Misfit, Plan, Read, Remember
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import escape_unprintable
from nodekiln.verify.outcome import Evaluation, Finding, LinePair, Status, worst

REWRITE = "rewrite"
"""Takes the place of a patch's name in findings about a structural rewrite."""

_JAVASCRIPT = (".js", ".mjs", ".cjs")
_LINE = re.compile(r"line (\d+)")
_FUNCTION = re.compile(rb"[A-Za-z_$]")
_MAX_FUNCTION = 120

_CONTEXT = 3
"""Lines of the file shown above and below a hunk that does not fit."""
_MAX_LINES = 80
_MAX_COLUMNS = 160


def evaluate(recipe: Recipe, read: Read, registry: Registry, remember: Remember) -> Evaluation:
    """Return the status of the recipe, with every hunk that moved and everything that does not fit."""
    outcome = planner.work_out(recipe, read, registry, remember)
    findings = [_hunk_finding(hunk, read) for hunk in outcome.hunks if hunk.fit is not Fit.CLEAN]
    if isinstance(outcome.result, Plan):
        for edit in outcome.result.edits:
            findings += remember(("check", edit.spans), (edit.path,), partial(check_edit, edit))
    else:
        known = {hunk.conflict for hunk in outcome.hunks}
        findings += [_rewrite_finding(each) for each in outcome.result.conflicts if each not in known]
    statuses = [finding.status for finding in findings]
    statuses += (Status(existing.value) for existing in outcome.existing.values())
    return Evaluation(worst(statuses), tuple(findings))


def check_edit(edit: Edit) -> tuple[Finding, ...]:
    """Return a finding if bytes outside the edit's spans changed, or if JavaScript no longer parses."""
    findings = []
    if not _only_spans_differ(edit):
        text = "the edited file differs outside the planned spans"
        findings.append(Finding(Status.CONFLICT, "unintended bytes", text, edit.path))
    if edit.path.endswith(_JAVASCRIPT) and isinstance(wrong := parse(edit.path, edit.after), Conflict):
        is_new = edit.base is None or not isinstance(parse(edit.path, edit.base), Conflict)
        text = f"{'after' if is_new else 'before and after'} the edit: {wrong.text}"
        findings.append(Finding(Status.CONFLICT, wrong.misfit.value, text, edit.path, hunk=wrong.place))
    return tuple(findings)


def _only_spans_differ(edit: Edit) -> bool:
    """Compare base and result between the spans, without the code that joined them."""
    base, after = edit.base or b"", edit.after
    base_at, after_at = 0, 0
    for span in edit.spans:
        kept = base[base_at : span.start]
        if after[after_at : after_at + len(kept)] != kept:
            return False
        after_at += len(kept)
        if after[after_at : after_at + len(span.new)] != span.new:
            return False
        base_at, after_at = span.end, after_at + len(span.new)
    return after[after_at:] == base[base_at:]


def _hunk_finding(hunk: hunks.Outcome, read: Read) -> Finding:
    content = read(hunk.path)
    function = "" if hunk.hunk is None else hunk.hunk.section
    if not function and content is not None and hunk.line is not None:
        function = _function_above(content, hunk.line)
    conflict = hunk.conflict
    if conflict is None:
        status, reason, text = Status.OFFSET, "moved", f"{hunk.offset:+d} lines"
    else:
        is_lost = hunk.fit is Fit.FILE_MISSING or (conflict.misfit is Misfit.NO_MATCH and hunk.line is None)
        status = Status.MISSING_ANCHOR if is_lost else Status.CONFLICT
        reason, text = conflict.misfit.value, conflict.text
    explanation: tuple[LinePair, ...] = ()
    if conflict is not None and hunk.hunk is not None and content is not None:
        explanation = explain(hunk.hunk, content, hunk.line)
    return Finding(
        status,
        reason,
        text,
        path=hunk.path,
        function=function[:_MAX_FUNCTION],
        patch=hunk.patch,
        hunk=hunk.place,
        line=hunk.line,
        offset=hunk.offset,
        explanation=explanation,
    )


def _rewrite_finding(conflict: Conflict) -> Finding:
    is_lost = conflict.misfit in (Misfit.FILE_MISSING, Misfit.NO_MATCH)
    line = _LINE.fullmatch(conflict.place)
    status = Status.MISSING_ANCHOR if is_lost else Status.CONFLICT
    return Finding(
        Status.NOT_SERVED if conflict.misfit is Misfit.NOT_SERVED else status,
        conflict.misfit.value,
        conflict.text,
        conflict.path,
        function="" if line else conflict.place.removeprefix("function "),
        patch=REWRITE,
        line=int(line[1]) if line else None,
    )


def _function_above(content: bytes, line: int) -> str:
    """Return what git shows after @@: the last line above that begins with a letter."""
    for text in reversed(content.split(b"\n", line - 1)[:-1]):
        if _FUNCTION.match(text):
            return escape_unprintable(text.strip())
    return ""


def explain(hunk: Hunk, content: bytes, line: int | None) -> tuple[LinePair, ...]:
    """Return the lines that the hunk expects beside the file's lines around `line` (from 1).

    `line` is where they agree best; None if no line agrees.
    """
    expected = [_shown(each) for each in hunk.before[:_MAX_LINES]]
    if line is None:
        return tuple(LinePair(each, "<", None, "") for each in expected)
    lines = content.split(b"\n")[: line - 1 + len(expected) + _CONTEXT]
    above = max(0, line - 1 - _CONTEXT)
    pairs = [
        LinePair("", ">", number, _shown(each))
        for number, each in enumerate(lines[above : line - 1], above + 1)
    ]
    found = [_shown(each) for each in lines[line - 1 :]]
    matcher = SequenceMatcher(None, expected, found, autojunk=False)
    for kind, left, left_end, right, right_end in matcher.get_opcodes():
        numbered = enumerate(found[right:right_end], line + right)
        for old, new in zip_longest(expected[left:left_end], numbered):
            number, text = (None, "") if new is None else new
            marker = " " if kind == "equal" else "<" if new is None else ">" if old is None else "|"
            pairs.append(LinePair(old or "", marker, number, text))
    return tuple(pairs)


def _shown(line: bytes) -> str:
    """Return the line escaped, with tabs expanded, and cut to a screen's width."""
    text = escape_unprintable(line.rstrip(b"\n").decode(errors="backslashreplace").expandtabs(8))
    return text if len(text) <= _MAX_COLUMNS else f"{text[:_MAX_COLUMNS]}..."
