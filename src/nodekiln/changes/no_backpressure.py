"""Plan the edits that switch backpressure off, on every path by which a Writable, a socket or HTTP waits.

Pure: bytes in, edits or conflicts out, for any bytes. It goes by the structure of the code, never by version.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tree_sitter import Node

from nodekiln.changes.highwater import (
    WRITE,
    Places,
    http_places,
    lines,
    other_places,
    place,
    return_places,
)
from nodekiln.changes.javascript import Script, parse, parts, walk
from nodekiln.core.edit import Conflict, Edit, Misfit, Read, Refusal, Remember, Span, no_memo

_WRITABLES = ("lib/internal/streams/writable.js", "lib/_stream_writable.js")
"""Before 14.21 the function is in the second; since then it is in the first, and the second is a shim."""
_ADAPTERS = "lib/internal/webstreams/adapters.js"
_OUTGOING = "lib/_http_outgoing.js"
PATHS = (*_WRITABLES, _ADAPTERS, _OUTGOING)
"""All that `plan_backpressure` may read."""

_ADAPTING = b"newWritableStreamFromStreamWritable"
_NEED_DRAIN = b"writableNeedDrain"
_RETURN_PLACE = place(WRITE)
_CONDITION_PLACE = f"{place(_ADAPTING)}, write()"

_CONDITION_REASON = (
    "writableNeedDrain still gets set, and a chunk that finds it set is never written: without this change "
    "Writable.toWeb and CompressionStream silently lose half of the data."
)


def plan_backpressure(read: Read, remember: Remember = no_memo) -> tuple[Edit, ...] | Refusal:
    """Return the edits after which no write answers false because of a full buffer, and no data is lost.

    A refusal instead of them names everything that does not fit.
    """
    answers = (
        *remember("return", _WRITABLES, partial(_plan_return, read)),
        *remember("condition", (_ADAPTERS,), partial(_plan_file, read, _ADAPTERS, _condition_places)),
        *remember("http", (_OUTGOING,), partial(_plan_file, read, _OUTGOING, http_places)),
    )
    conflicts = tuple(answer for answer in answers if isinstance(answer, Conflict))
    if conflicts:
        return Refusal(conflicts)
    return tuple(answer for answer in answers if isinstance(answer, Edit))


def _plan_return(read: Read) -> tuple[Edit | Conflict, ...]:
    contents = {path: content for path in _WRITABLES if (content := read(path)) is not None}
    if not contents:
        text = f"there is no such file, and no {_WRITABLES[1]} either, where old releases have the function"
        return (Conflict(_WRITABLES[0], _RETURN_PLACE, Misfit.FILE_MISSING, text),)
    scripts = [parse(path, content) for path, content in contents.items()]
    if unparsable := tuple(script for script in scripts if isinstance(script, Conflict)):
        return unparsable
    declaring = [script for script in scripts if isinstance(script, Script) and script.functions(WRITE)]
    if not declaring:
        where = " and ".join(contents)
        text = f"no function of that name is declared (looked into {where})"
        return (Conflict(next(iter(contents)), _RETURN_PLACE, Misfit.NO_MATCH, text),)
    if len(declaring) > 1:
        text = f"{_WRITABLES[1]} declares it too, so which one counts is not known"
        return (Conflict(_WRITABLES[0], _RETURN_PLACE, Misfit.SEVERAL_MATCHES, text),)
    [script] = declaring
    spans, others = return_places(script), other_places(script)
    conflicts = tuple(each for each in (spans, others) if isinstance(each, Conflict))
    if conflicts or isinstance(spans, Conflict) or isinstance(others, Conflict):
        return conflicts
    if spans == ():
        if others:
            text = f"it no longer depends on what is buffered, and {len(others)} other places in this file do"
            return (Conflict(script.path, _RETURN_PLACE, Misfit.UNEXPECTED_SHAPE, text),)
        text = "it returns true already: backpressure is switched off in these sources"
        return (Conflict(script.path, _RETURN_PLACE, Misfit.ALREADY_THERE, text),)
    return _edit(script, tuple(sorted((*spans, *others))), _writable_places)


def _writable_places(script: Script) -> Places:
    spans, others = return_places(script), other_places(script)
    if isinstance(spans, Conflict):
        return spans
    return others if isinstance(others, Conflict) else (*spans, *others)


def _plan_file(read: Read, path: str, find: Callable[[Script], Places]) -> tuple[Edit | Conflict, ...]:
    content = read(path)
    if content is None:
        return ()  # before 16.5 there are no web streams
    script = parse(path, content)
    if isinstance(script, Conflict):
        return (script,)
    return _edit(script, find(script), find)


def _edit(script: Script, places: Places, find: Callable[[Script], Places]) -> tuple[Edit | Conflict, ...]:
    """Return the edit of these places, if the file after it parses and `find` finds nothing left to do."""
    if isinstance(places, Conflict):
        return (places,)
    if not places:
        return ()
    edit = Edit(script.path, script.content, places)
    after = parse(edit.path, edit.after)
    if isinstance(after, Conflict) or find(after) != ():
        line = script.content.count(b"\n", 0, places[0].start) + 1
        text = "the file after the rewrite would not read as intended"
        return (Conflict(script.path, f"line {line}", Misfit.UNEXPECTED_SHAPE, text),)
    return (edit,)


def _condition_places(script: Script) -> Places:
    """`X.writableNeedDrain ||` in front of `!X.write(...)`, in the write() of the adapter for web streams."""

    def conflict(misfit: Misfit, text: str) -> Conflict:
        return Conflict(script.path, _CONDITION_PLACE, misfit, text)

    functions = script.functions(_ADAPTING)
    if len(functions) != 1:
        misfit = Misfit.SEVERAL_MATCHES if functions else Misfit.NO_MATCH
        return conflict(misfit, f"the function is declared {len(functions)} times{lines(functions, ', ')}")
    methods = [method for node in walk(functions[0]) for method in _sink_writes(node)]
    if len(methods) != 1:
        misfit = Misfit.SEVERAL_MATCHES if methods else Misfit.NO_MATCH
        text = f"{len(methods)} objects with a write() method are handed to a new WritableStream, not one"
        return conflict(misfit, text + lines(methods, ": "))
    asking = [node for node in walk(methods[0]) if node.type == "if_statement"]
    guarded = [node for node in asking if _is_guarded_write(_condition(node))]
    plain = [node for node in asking if _refused_stream(_condition(node)) is not None]
    known = guarded or plain
    if len(known) != 1:
        misfit = Misfit.SEVERAL_MATCHES if known else Misfit.NO_MATCH
        text = f"{len(known)} ifs ask `X.writableNeedDrain || !X.write(...)` or `!X.write(...)`, not one"
        return conflict(misfit, text + lines(known, ": "))
    [branch] = known
    elsewhere = [
        node
        for node in walk(methods[0])
        if node.child_count == 0
        and node.text == _NEED_DRAIN
        and not branch.start_byte <= node.start_byte < branch.end_byte
    ]
    if elsewhere:  # a chunk that finds it set may stay unwritten
        text = f"writableNeedDrain is asked where it is not expected, {lines(elsewhere)}"
        return conflict(Misfit.UNEXPECTED_SHAPE, text)
    if not guarded:
        return ()
    [asked, _, written] = parts(_condition(branch))
    return (Span(asked.start_byte, written.start_byte, b"", _CONDITION_REASON),)


def _sink_writes(node: Node) -> list[Node]:
    """The methods `write` of X, where the node is `new WritableStream(X, ...)` and X an object."""
    match parts(node) if node.type == "new_expression" else []:
        case [_, made, arguments] if made.text == b"WritableStream" and arguments.type == "arguments":
            sink = parts(arguments)[1]  # after the parenthesis
            methods = [part for part in parts(sink) if part.type == "method_definition"]
            return [
                method
                for method in methods
                if any(part.type == "property_identifier" and part.text == b"write" for part in parts(method))
            ]
    return []


def _is_guarded_write(node: Node) -> bool:
    """Whether the node is `X.writableNeedDrain || !X.write(...)`."""
    match parts(node):
        case [left, operator, right] if operator.type == "||":
            stream = _owner(left, _NEED_DRAIN)
            return stream is not None and stream == _refused_stream(right)
    return False


def _refused_stream(node: Node) -> bytes | None:
    """X if the node is `!X.write(...)`, None for any other expression."""
    match parts(node):
        case [operator, call] if operator.type == "!":
            match parts(call):
                case [called, arguments] if arguments.type == "arguments":
                    return _owner(called, b"write")
    return None


def _owner(node: Node, name: bytes) -> bytes | None:
    """X if the node is `X.name`, None for any other expression."""
    match parts(node):
        case [owner, dot, member] if owner.type == "identifier" and dot.type == ".":
            return owner.text if member.text == name else None
    return None


def _condition(statement: Node) -> Node:
    """What an if statement asks, without the parentheses."""
    return parts(parts(statement)[1])[1]
