"""One recipe of one tag: planned, looked at, and told as a status with findings. Pure but for `read`."""

from __future__ import annotations

import re
from functools import partial

from nodekiln.changes import hunks, planner
from nodekiln.changes.hunks import Fit
from nodekiln.changes.series import Series
from nodekiln.changes.usdt import Provider
from nodekiln.core.edit import Conflict, Misfit, Plan, Read, Remember
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import escape_unprintable
from nodekiln.verify.edit_checks import doubts
from nodekiln.verify.explain import explain
from nodekiln.verify.outcome import Finding, Judgement, Side, Status, worst

REWRITE = "rewrite"
"""Stands where a patch's name would, for what is done by structure."""

_LINE = re.compile(r"line (\d+)")
_FUNCTION = re.compile(rb"[A-Za-z_$]")
_LONGEST = 120
_BROUGHT = {Provider.NATIVE: Status.NATIVE, Provider.UPSTREAMED: Status.UPSTREAMED}


def judge(recipe: Recipe, read: Read, series: Series, remember: Remember) -> Judgement:
    """Plans, and tells of every hunk that moved and of everything that does not fit."""
    outcome = planner.work_out(recipe, read, series, remember)
    findings = [_of(hunk, read) for hunk in outcome.hunks if hunk.fit is not Fit.CLEAN]
    if isinstance(outcome.result, Plan):
        for edit in outcome.result.edits:
            findings += remember(("doubts", edit.spans), (edit.path,), partial(doubts, edit))
    else:
        told = {hunk.conflict for hunk in outcome.hunks}
        findings += [_of_rewrite(each) for each in outcome.result.conflicts if each not in told]
    statuses = [finding.status for finding in findings]
    if outcome.provider is not None:
        statuses.append(_BROUGHT[outcome.provider])
    return Judgement(worst(statuses), tuple(findings))


def _of(hunk: hunks.Outcome, read: Read) -> Finding:
    content = read(hunk.path)
    function = "" if hunk.hunk is None else hunk.hunk.section
    if not function and content is not None and hunk.line is not None:
        function = _function_above(content, hunk.line)
    conflict = hunk.conflict
    if conflict is None:
        status, reason, text = Status.OFFSET, "moved", f"{hunk.offset:+d} lines"
    else:
        lost = hunk.fit is Fit.FILE_MISSING or (conflict.misfit is Misfit.NO_MATCH and hunk.line is None)
        status = Status.MISSING_ANCHOR if lost else Status.CONFLICT
        reason, text = conflict.misfit.value, conflict.text
    sides: tuple[Side, ...] = ()
    if conflict is not None and hunk.hunk is not None and content is not None:
        sides = explain(hunk.hunk, content, hunk.line)
    return Finding(
        status,
        reason,
        text,
        path=hunk.path,
        function=function[:_LONGEST],
        patch=hunk.patch,
        hunk=hunk.place,
        line=hunk.line,
        offset=hunk.offset,
        explanation=sides,
    )


def _of_rewrite(conflict: Conflict) -> Finding:
    lost = conflict.misfit in (Misfit.FILE_MISSING, Misfit.NO_MATCH)
    line = _LINE.fullmatch(conflict.place)
    return Finding(
        Status.MISSING_ANCHOR if lost else Status.CONFLICT,
        conflict.misfit.value,
        conflict.text,
        conflict.path,
        function="" if line else conflict.place.removeprefix("function "),
        patch=REWRITE,
        line=int(line[1]) if line else None,
    )


def _function_above(content: bytes, line: int) -> str:
    """What git would put behind the @@: the last line above that begins with a letter."""
    for text in reversed(content.split(b"\n", line - 1)[:-1]):
        if _FUNCTION.match(text):
            return escape_unprintable(text.strip())
    return ""
