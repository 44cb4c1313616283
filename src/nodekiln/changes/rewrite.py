"""Structural rewrites from change.toml: a tree-sitter query, and a template for what it captures.

Bytes in, edits or conflicts out. A rewrite matches as often as it says, and the file after it parses as
well as before, or nothing is edited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial

import msgspec
from tree_sitter import Node

from nodekiln.changes.javascript import walk
from nodekiln.changes.query import GRAMMARS, Failed, Match, ask, grammar_of, parse
from nodekiln.core.edit import Conflict, Edit, Misfit, Read, Remember, Span

_CAPTURE = re.compile(r"@(@|[A-Za-z_][\w.-]*)", re.ASCII)
_NAMES = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|;[^\n]*)|(?<![\w#?!.])@([A-Za-z_][\w.-]*)""", re.ASCII)
_MAX_LINES = 8


class Rewrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A [[rewrite]] table."""

    files: tuple[str, ...]
    """Candidates; the first that the tree has is rewritten."""
    query: str
    replace: str
    """The capture whose text is replaced."""
    template: str
    """The new text; @NAME is the text of a capture, @@ an at sign."""
    why: str
    matches: int = 1

    @property
    def compiles(self) -> bool:
        """Return whether a file of it is compiled, unlike JavaScript."""
        return any(grammar_of(path) != "javascript" for path in self.files)


def problems(row: Rewrite) -> Iterator[str]:
    """Yield what is wrong with a table by itself; a query's notation is checked by asking it."""
    if not row.files:
        yield "files is empty"
    for path in row.files:
        if any(part in ("", ".", "..", ".git") for part in path.split("/")):
            yield f"files: {path!r} is not a path in a tree"
        elif grammar_of(path) is None:
            yield f"files: {path} has no grammar; known suffixes: {', '.join(GRAMMARS)}"
    if len({grammar_of(path) for path in row.files}) > 1:
        yield "files are of different languages"
    if not row.why.strip():
        yield "why is empty"
    if row.matches < 1:
        yield f"matches = {row.matches} is not a number from 1 on"
    known = {name for name in _NAMES.findall(row.query) if name}
    if not row.query.strip():
        yield "query is empty"
    elif row.replace not in known:
        yield f"replace = {row.replace!r} is not a capture of the query ({_listed(known)})"
    for name in _CAPTURE.findall(row.template):
        if name != "@" and name not in known:
            yield f"template: @{name} is not a capture of the query ({_listed(known)})"


def check_query(row: Rewrite) -> str | None:
    """Return what is wrong with the notation of a query, None if it is valid."""
    grammar = grammar_of(row.files[0])
    answer = ask(grammar or "", row.query, b"")
    return answer.reason if isinstance(answer, Failed) else None


def paths(rows: Iterable[Rewrite]) -> tuple[str, ...]:
    """Return all files that `plan` may read."""
    return tuple(dict.fromkeys(path for row in rows for path in row.files))


def plan(change: str, rows: Iterable[Rewrite], read: Read, remember: Remember) -> tuple[Edit | Conflict, ...]:
    """Return the edits of all tables, one for each file, and a conflict for each table that does not fit."""
    spans: dict[str, list[Span]] = {}
    conflicts: list[Conflict] = []
    for number, row in enumerate(rows, 1):
        place = f"{change}, rewrite {number}"
        path = next((path for path in row.files if read(path) is not None), None)
        if path is None:
            text = f"none of {', '.join(row.files)} exists" if len(row.files) > 1 else "no such file"
            conflicts.append(Conflict(row.files[0], place, Misfit.FILE_MISSING, text))
            continue
        found = remember(
            ("rewrite", place, row), (path,), partial(_spans, row, path, read(path) or b"", place)
        )
        if isinstance(found, Conflict):
            conflicts.append(found)
        else:
            spans.setdefault(path, []).extend(found)
    answers: list[Edit | Conflict] = [*conflicts]
    for path, each in spans.items():
        answers.append(_edit(path, read(path) or b"", tuple(sorted(each)), change))
    return tuple(answers)


def _spans(row: Rewrite, path: str, content: bytes, place: str) -> tuple[Span, ...] | Conflict:
    grammar = grammar_of(path)
    found = ask(grammar or "", row.query, content)
    if isinstance(found, Failed):
        return Conflict(path, place, Misfit.QUERY_FAILED, found.reason)
    starts = [match.captures[row.replace][0][0] for match in found if match.captures.get(row.replace)]
    if len(found) != row.matches or len(starts) != len(found):
        misfit = Misfit.SEVERAL_MATCHES if len(found) > row.matches else Misfit.NO_MATCH
        text = f"the query matches {len(found)} times, not {row.matches}{_lines(content, starts)}"
        return Conflict(path, place, misfit, text)
    spans = [_span(row, match, content) for match in found]
    for span in spans:
        if isinstance(span, str):
            return Conflict(path, place, Misfit.UNEXPECTED_SHAPE, span)
    return tuple(span for span in spans if isinstance(span, Span))


def _span(row: Rewrite, match: Match, content: bytes) -> Span | str:
    """Return the replacement in one match, or why a capture is of no use."""
    texts: dict[str, bytes] = {}
    for name in {row.replace, *_CAPTURE.findall(row.template)} - {"@"}:
        nodes = match.captures.get(name, ())
        if len(nodes) != 1:
            return f"@{name} captures {len(nodes)} nodes, and a template needs exactly one"
        [(start, end)] = nodes
        texts[name] = content[start:end]
    [(start, end)] = match.captures[row.replace]
    pieces = _CAPTURE.split(row.template)  # text and names alternate
    new = b"".join(
        texts.get(piece, b"@") if number % 2 else piece.encode() for number, piece in enumerate(pieces)
    )
    return Span(start, end, new, row.why)


def _edit(path: str, content: bytes, spans: tuple[Span, ...], change: str) -> Edit | Conflict:
    place = f"{change}, line {_line(content, spans[0].start)}"
    try:
        edit = Edit(path, content, spans)
    except ValueError:
        text = "two rewrites of the change replace the same text"
        return Conflict(path, place, Misfit.OVERLAP, text)
    if edit.after == content:
        return Conflict(path, place, Misfit.ALREADY_THERE, "the text is as the template makes it already")
    grammar = grammar_of(path) or ""
    before, after = (_errors(parse(grammar, each)) for each in (content, edit.after))
    # The grammar of C++ does not know macros: more than half of Node's own files have errors by it.
    if len(after) > (0 if grammar == "javascript" else len(before)):
        lines = ", ".join(str(node.start_point.row + 1) for node in after[:_MAX_LINES])
        text = f"the file after the rewrite has syntax errors, by tree-sitter-{grammar} (lines {lines})"
        return Conflict(path, place, Misfit.UNPARSABLE, text)
    return edit


def _errors(root: Node) -> list[Node]:
    if not root.has_error:
        return []
    return [node for node in walk(root) if node.is_error or node.is_missing]


def _lines(content: bytes, starts: Iterable[int]) -> str:
    lines = sorted({_line(content, start) for start in starts})
    shown = ", ".join(map(str, lines[:_MAX_LINES])) + (", ..." if len(lines) > _MAX_LINES else "")
    return f": line{'s' * (len(lines) != 1)} {shown}" if lines else ""


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _listed(names: Iterable[str]) -> str:
    return f"captures: {', '.join(f'@{name}' for name in sorted(names)) or 'none'}"
