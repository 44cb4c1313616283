"""Find the code that answers by highWaterMark: in writable.js and in _http_outgoing.js.

Pure, and by structure, never by version. Code outside of the known functions that compares with a high-water
mark or sets needDrain is a conflict: it may be a new path for data (26.11 brought one), and a binary that
keeps it bounded must not be called no-backpressure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from nodekiln.changes.javascript import Script, parts, walk
from nodekiln.core.edit import Conflict, Misfit, Span

Places = tuple[Span, ...] | Conflict
"""What to change in a script; nothing if it is as intended."""

WRITE = b"writeOrBuffer"
"""The function at the end of every write()."""
_PIPED = b"writeKnownBuffer"
"""From 26.11 on, the function that pipe() calls while the sink is empty."""
_NEED_DRAIN = b"writableNeedDrain"
_RAW, _CHUNKED = (b"_writeRaw",), (b"write_", b"write")
_SENDING = (*_RAW, *_CHUNKED)
"""The functions of _http_outgoing.js that answer; before 18, write_ is a part of write."""
_CHUNK_COUNT = b"kChunkedLength"
"""Where a message counts its chunks itself, write_ answers by that count."""

_RETURN_TRUE = b"return true;"
_RETURN_REASON = (
    "write() never returns false because of what is buffered, so that no producer waits for 'drain'."
)
_PIPED_REASON = "pipe() writes into an empty sink past write(), and must not wait for 'drain' either."
_GETTER_REASON = (
    "pipe(), pipeline() and the adapters for web streams wait for 'drain' before their first write if"
    " writableNeedDrain is true."
)
_SENDING_REASON = "A message of HTTP/1 counts what it holds itself, apart from its socket."

_MARK = re.compile(rb"high_?water_?mark", re.IGNORECASE)
_DRAIN = re.compile(rb"\bk?[nN]eedDrain\b")
_ERROR_TERM = re.compile(rb"errored|destroyed", re.IGNORECASE)
_COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "===", "!=", "!=="})
FUNCTIONS = frozenset(
    {
        "arrow_function",
        "function_declaration",
        "function_expression",
        "generator_function",
        "generator_function_declaration",
        "method_definition",
    }
)
_MAX_LINES = 5


def return_places(script: Script) -> Places:
    """Return the edit of writeOrBuffer's one return, which must be the last statement of a plain function."""
    functions = script.functions(WRITE)
    if len(functions) != 1:
        text = f"it is declared {len(functions)} times, {lines(functions)}"
        return Conflict(script.path, place(WRITE), Misfit.SEVERAL_MATCHES, text)
    return _answer(script, functions[0], WRITE, _RETURN_REASON)


def other_places(script: Script) -> Places:
    """Return the edits of everything else in writable.js that answers false or reports a need of 'drain'."""
    functions = script.functions(_PIPED)
    if len(functions) > 1:
        text = f"it is declared {len(functions)} times, {lines(functions)}"
        return Conflict(script.path, place(_PIPED), Misfit.SEVERAL_MATCHES, text)
    found = [
        *(_answer(script, function, _PIPED, _PIPED_REASON) for function in functions),
        _getter_places(script),
        *_unknown(script, (WRITE, _PIPED)),
    ]
    return _joined(found)


def http_places(script: Script) -> Places:
    """Return the edits that make write() of a request or response true, however much the message holds."""
    found: list[Places] = []
    seen: set[bytes] = set()
    for comparison in _compared(script):
        function = _function_around(comparison)
        name = _name(function)
        seen.add(name)
        if name not in _SENDING:
            found.append(_unknown_path(script, comparison, name))
        elif not _is_whole_value(comparison):
            text = f"line {line(comparison)} compares with a high-water mark inside a longer expression"
            found.append(Conflict(script.path, place(name), Misfit.UNEXPECTED_SHAPE, text))
        else:
            found.append((Span(comparison.start_byte, comparison.end_byte, b"true", _SENDING_REASON),))
    found += [
        _unknown_path(script, setter, name)
        for setter in _setters(script)
        if (name := _name(_function_around(setter))) not in _SENDING
    ]
    if _MARK.search(script.content):  # Node 6 has none in this file
        required = (_RAW, _CHUNKED) if _CHUNK_COUNT in script.content else (_RAW,)
        found += [_missing_anchor(script, names) for names in required if seen.isdisjoint(names)]
    return _joined(found)


def _missing_anchor(script: Script, names: tuple[bytes, ...]) -> Places:
    """Return a conflict unless one of the functions already answers with the literal true."""
    for node in walk(script.root):
        is_result = node.type == "true" and _is_whole_value(node)
        if is_result and _name(_function_around(node)) in names:
            return ()
    text = "it compares nothing with a high-water mark, so what its result depends on is unknown"
    return Conflict(script.path, place(names[0]), Misfit.NO_MATCH, text)


def _joined(found: list[Places]) -> Places:
    """Return all spans in order, or the first conflict."""
    conflicts = [each for each in found if isinstance(each, Conflict)]
    if conflicts:
        return conflicts[0]
    return tuple(sorted(span for each in found if not isinstance(each, Conflict) for span in each))


def _answer(script: Script, function: Node, name: bytes, reason: str) -> Places:
    """Return the edit that takes the buffered length out of what the function returns."""

    def conflict(text: str) -> Conflict:
        return Conflict(script.path, place(name), Misfit.UNEXPECTED_SHAPE, text)

    _, *inside = walk(function)
    body = parts(function)[-1]
    nested = [node for node in inside if node.type in FUNCTIONS]
    if parts(function)[0].type != "function":
        return conflict("it is async, so what it returns is a promise")
    if function.type != "function_declaration":
        return conflict("it is a generator")
    if nested:
        return conflict(f"it holds another function, {lines(nested)}")
    returns = [node for node in inside if node.type == "return_statement" and not _is_undefined(node)]
    if not returns:
        return conflict("it has no return of a value")
    if len(returns) > 1:
        return conflict(f"it has {len(returns)} returns, {lines(returns)}, where one is expected")
    [last] = returns
    if parts(body)[-2] != last:  # the part after it is the closing brace
        return conflict(f"its return, {lines(returns)}, is not its last statement")
    value = _returned(last)
    if value is None:
        return conflict(f"its return, {lines(returns)}, returns no value")
    if value.type == "true":
        return ()
    if value.type == "identifier":
        return (Span(last.start_byte, last.end_byte, _RETURN_TRUE, reason),)
    first, *rest = _terms(value)
    if rest and first.type == "identifier" and all(_is_error_term(term) for term in rest):
        # The rest ends `while (w.write(x))` on a sink that fails, so it stays.
        return (Span(first.start_byte, rest[0].start_byte, b"", reason),)
    if all(_is_error_term(term) for term in (first, *rest)):
        return ()
    return conflict(f"its return, {lines(returns)}, is neither a name nor a name and terms of errors")


def _getter_places(script: Script) -> Places:
    """Return the edit that makes the getter writableNeedDrain false; none before 14.17, which has no such."""
    getters = [
        method
        for pair in script.around(_NEED_DRAIN)
        if pair.type == "pair" and parts(pair)[0].text == _NEED_DRAIN
        for method in parts(parts(pair)[-1])
        if method.type == "method_definition"
        and any(part.type == "property_identifier" and part.text == b"get" for part in parts(method))
    ]

    def conflict(misfit: Misfit, text: str) -> Conflict:
        return Conflict(script.path, "writableNeedDrain, get()", misfit, text)

    if not getters:
        if _NEED_DRAIN not in script.content:
            return ()
        return conflict(Misfit.NO_MATCH, "the name is in the file, and no property with a get() has it")
    if len(getters) > 1:
        return conflict(Misfit.SEVERAL_MATCHES, f"{len(getters)} properties have it, {lines(getters)}")
    asked = [
        value
        for node in walk(getters[0])
        if node.type == "return_statement" and (value := _returned(node)) is not None
        if value.type != "false"
    ]
    if not asked:
        return ()
    if len(asked) > 1 or not _DRAIN.search(asked[0].text or b""):
        text = f"it returns more than its flag, {lines(asked)}"
        return conflict(Misfit.UNEXPECTED_SHAPE, text)
    return (Span(asked[0].start_byte, asked[0].end_byte, b"false", _GETTER_REASON),)


def _unknown(script: Script, known: tuple[bytes, ...]) -> Iterator[Conflict]:
    """Yield a conflict for each place in another function that answers by a mark or sets needDrain."""
    for node in (*_compared(script), *_setters(script)):
        name = _name(_function_around(node))
        if name not in known:
            yield _unknown_path(script, node, name)


def _unknown_path(script: Script, node: Node, name: bytes) -> Conflict:
    text = "it decides by a high-water mark or sets needDrain, and no edit covers it"
    return Conflict(script.path, f"{place(name or b'outside')}, line {line(node)}", Misfit.NO_MATCH, text)


def _compared(script: Script) -> list[Node]:
    """Return the comparisons that a high-water mark is a part of."""
    found: dict[int, Node] = {}
    for match in _MARK.finditer(script.content):
        node = script.root.descendant_for_byte_range(match.start(), match.end())
        while node is not None and node.type not in FUNCTIONS and not node.type.endswith("_statement"):
            if node.type == "binary_expression" and parts(node)[1].type in _COMPARISONS:
                found.setdefault(node.start_byte, node)
                break
            node = node.parent
    return list(found.values())


def _setters(script: Script) -> list[Node]:
    """Return the assignments that may set a need of 'drain'."""
    found: dict[int, Node] = {}
    for match in _DRAIN.finditer(script.content):
        node = script.root.descendant_for_byte_range(match.start(), match.end())
        while node is not None and node.type not in FUNCTIONS and not node.type.endswith("_statement"):
            if node.type == "assignment_expression":
                left, _, right = parts(node)
                if left.start_byte <= match.start() < left.end_byte and right.type != "false":
                    found.setdefault(node.start_byte, node)
            elif node.type == "augmented_assignment_expression" and parts(node)[1].type == "|=":
                found.setdefault(node.start_byte, node)
            node = node.parent
    return list(found.values())


def _function_around(node: Node) -> Node | None:
    above = node.parent
    while above is not None and above.type not in FUNCTIONS:
        above = above.parent
    return above


def _name(function: Node | None) -> bytes:
    """Return the name a function is declared, assigned or defined by; empty if there is none."""
    if function is None:
        return b""
    name = function.child_by_field_name("name")
    above = function.parent
    if name is None and above is not None:
        if above.type == "assignment_expression":
            target = parts(above)[0]
            name = target.child_by_field_name("property") or target
        elif above.type in ("variable_declarator", "pair"):
            name = parts(above)[0]
    elif name is not None and above is not None and above.type == "assignment_expression":
        target = parts(above)[0]  # `X.prototype.write = function write(...)`
        name = target.child_by_field_name("property") or name
    return b"" if name is None else name.text or b""


def _is_whole_value(comparison: Node) -> bool:
    above = comparison.parent
    if above is None:
        return False
    if above.type == "return_statement":
        return True
    return above.type in ("assignment_expression", "variable_declarator") and parts(above)[-1] == comparison


def _terms(value: Node) -> list[Node]:
    """Return the terms of `a && b && c`, or the value itself."""
    match parts(value) if value.type == "binary_expression" else []:
        case [left, operator, right] if operator.type == "&&":
            return [*_terms(left), right]
    return [value]


def _is_error_term(term: Node) -> bool:
    return _ERROR_TERM.search(term.text or b"") is not None


def _returned(statement: Node) -> Node | None:
    match parts(statement):
        case [_, value, *_] if value.is_named:
            return value
    return None


def _is_undefined(statement: Node) -> bool:
    value = _returned(statement)
    return value is not None and value.text == b"undefined"


def place(name: bytes) -> str:
    """Return how a conflict names a function."""
    return f"function {name.decode(errors='backslashreplace')}"


def line(node: Node) -> int:
    """Return the line a node begins on, from 1."""
    return node.start_point.row + 1


def lines(nodes: list[Node], before: str = "") -> str:
    """Return the lines of the nodes, for a message."""
    numbers = [str(line(node)) for node in nodes[:_MAX_LINES]]
    if not numbers:
        return ""
    more = ", ..." if len(nodes) > _MAX_LINES else ""
    return f"{before}line{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}{more}"
