"""Decide which edits the compiled code of a module survives: those that V8's code cache can't contradict.

Node's code cache has the compiled top level of each module, and the positions of the functions in it. A
function is compiled from the text when it is first called. So an edit takes effect, and fits the cache, if

- it is in a function that is not called while the module is compiled (V8 compiles `(function() {})` at once),
- all functions begin and end where they did,
- it uses no name that its function didn't use: which variables outlive a call was decided without it.

Text of another length makes V8 reject the cache, and then any edit is right.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from nodekiln.changes.javascript import Script, parse, walk
from nodekiln.core.edit import Edit

_FUNCTIONS = frozenset(
    {
        "function_declaration",
        "function_expression",
        "generator_function",
        "generator_function_declaration",
        "arrow_function",
        "method_definition",
    }
)
_SCOPES = _FUNCTIONS | {"class", "class_declaration", "class_static_block", "field_definition"}
_NAMES = frozenset({"identifier", "shorthand_property_identifier", "this", "super", "meta_property"})
_EAGER = frozenset({"parenthesized_expression", "unary_expression", "call_expression", "new_expression"})


def keeps_positions(edit: Edit) -> bool:
    """Return True if the edited text runs correctly with the code cache of the old one.

    The edit must not change the length of any of its spans.
    """
    before, after = parse(edit.path, edit.base or b""), parse(edit.path, edit.after)
    if not isinstance(before, Script) or not isinstance(after, Script):
        return False
    if any(len(span.new) != span.end - span.start for span in edit.spans):
        return False
    if list(_scopes(before.root)) != list(_scopes(after.root)):
        return False
    return all(_is_lazy(before, after, span.start, span.end) for span in edit.spans)


def _scopes(root: Node) -> Iterator[tuple[str, int, int]]:
    for node in walk(root):
        if node.type in _SCOPES:
            yield node.type, node.start_byte, node.end_byte


def _is_lazy(before: Script, after: Script, start: int, end: int) -> bool:
    functions = _enclosing(before.root, start, end)
    again = _enclosing(after.root, start, end)
    if not functions or not again:
        return False
    outermost = functions[-1].parent
    if outermost is None or outermost.type in _EAGER:
        return False
    return _names(again[0]) <= _names(functions[0])


def _enclosing(root: Node, start: int, end: int) -> list[Node]:
    """Return the functions whose bodies contain a range, the innermost first."""
    found = []
    node = root.descendant_for_byte_range(start, end)
    while node is not None:
        body = node.child_by_field_name("body") if node.type in _FUNCTIONS else None
        if body is not None and body.start_byte < start and end < body.end_byte:
            found.append(node)
        node = node.parent
    return found


def _names(function: Node) -> set[bytes]:
    return {node.text or b"" for node in walk(function) if node.type in _NAMES}
