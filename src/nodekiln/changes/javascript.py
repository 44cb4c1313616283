"""Parses JavaScript with tree-sitter; a file that does not parse is a conflict.

Trees are walked, not queried: for 100,000 nested functions, a walk takes 0.1 s and a query a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import tree_sitter_javascript
from tree_sitter import Language, Node, Parser

from nodekiln.core import limits
from nodekiln.core.edit import Conflict, Misfit

_JAVASCRIPT = Language(tree_sitter_javascript.language())


_PIECE = 2**16
_FEW = 50
"""Occurrences of a name that are looked up one by one; for more, the whole tree is walked."""


@dataclass(frozen=True, slots=True)
class Script:
    """A file that parses."""

    path: str
    content: bytes
    root: Node

    def functions(self, name: bytes) -> list[Node]:
        """Return all declarations of functions and generators of that name, at any depth."""
        return [
            node
            for node in self.around(name)
            if node.type in ("function_declaration", "generator_function_declaration")
            and (identifier := node.child_by_field_name("name")) is not None
            and identifier.text == name
        ]

    def around(self, name: bytes) -> Iterator[Node]:
        """Yield the nodes that have the name as a part, and possibly others, in the order of the file."""
        if self.content.count(name) > _FEW:
            yield from walk(self.root)
            return
        at = self.content.find(name)
        while at >= 0:
            node = self.root.descendant_for_byte_range(at, at + len(name))
            if node is not None and node.parent is not None:
                yield node.parent
            at = self.content.find(name, at + len(name))


@lru_cache(maxsize=8)
def parse(path: str, content: bytes) -> Script | Conflict:
    """Return the parsed file, or a conflict with the line of the first syntax error.

    The latest results are kept: a rewrite parses its result, and verify checks it again (5 ms).
    """
    if len(content) > limits.UNTIMED_SCRIPT and not _parses_in_time(content):
        text = f"parsing its {len(content)} bytes takes more than {limits.PARSE_SECONDS} s"
        return Conflict(path, "the whole file", Misfit.UNPARSABLE, text)
    root = Parser(_JAVASCRIPT).parse(content).root_node
    if not root.has_error:
        return Script(path, content, root)
    below = islice(walk(root), 1, None)  # the root may be an error too, and has no useful line
    wrong = next((node for node in below if node.is_error or node.is_missing), root)
    line = wrong.start_point.row + 1
    text = "tree-sitter-javascript reports a syntax error"
    return Conflict(path, f"line {line}", Misfit.UNPARSABLE, text)


def _parses_in_time(content: bytes) -> bool:
    """Parse for a limited time: the error recovery takes minutes for some texts, and bytes can't be timed."""
    end = time.thread_time() + limits.PARSE_SECONDS
    try:
        Parser(_JAVASCRIPT).parse(
            lambda offset, _: content[offset : offset + _PIECE],
            progress_callback=lambda *_: time.thread_time() > end,
        )
    except ValueError:
        return False
    return True


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all its descendants, in the order of the file."""
    cursor = node.walk()
    while True:
        if cursor.node is not None:
            yield cursor.node
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def parts(node: Node) -> list[Node]:
    """Return the node's children, including tokens, without comments."""
    return [child for child in node.children if not child.is_extra]
