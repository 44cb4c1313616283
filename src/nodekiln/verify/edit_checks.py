"""Looks at an edit as if another program had made it: only its spans differ, and JavaScript still parses."""

from __future__ import annotations

from nodekiln.changes.javascript import Script, parse, parse_after
from nodekiln.core.edit import Conflict, Edit
from nodekiln.verify.outcome import Finding, Status

_JAVASCRIPT = (".js", ".mjs", ".cjs")


def doubts(edit: Edit) -> tuple[Finding, ...]:
    """What is wrong with the file after the edit; empty where it is as intended."""
    found = []
    if not _only_spans_differ(edit):
        text = "the file after the edit differs outside of what was to be changed"
        found.append(Finding(Status.CONFLICT, "unintended bytes", text, edit.path))
    if edit.path.endswith(_JAVASCRIPT):
        before = None if edit.base is None else parse(edit.path, edit.base)
        script = parse_after(before, edit) if isinstance(before, Script) else parse(edit.path, edit.after)
        if not isinstance(script, Script):
            when = "before the edit too" if isinstance(before, Conflict) else "after the edit"
            text = f"{when}: {script.text}"
            found.append(Finding(Status.CONFLICT, script.misfit.value, text, edit.path, hunk=script.place))
    return tuple(found)


def _only_spans_differ(edit: Edit) -> bool:
    """Reads the file after from both ends of each span, without asking the edit how it put it together."""
    base, after = edit.base or b"", edit.after
    before, reached = 0, 0
    for span in edit.spans:
        kept = base[before : span.start]
        if after[reached : reached + len(kept)] != kept:
            return False
        reached += len(kept)
        if after[reached : reached + len(span.new)] != span.new:
            return False
        before, reached = span.end, reached + len(span.new)
    return after[reached:] == base[before:]
