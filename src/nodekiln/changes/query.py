"""Run tree-sitter queries, in a process of their own: nothing else can stop one that takes forever.

A query's #match? is a regular expression, which may need more time than there is; so may the query itself.
As a program, this module reads a question as JSON from stdin and writes the answer as JSON to stdout.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Query, QueryCursor

GRAMMARS: Mapping[str, str] = {
    **dict.fromkeys((".js", ".mjs", ".cjs"), "javascript"),
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp"), "cpp"),
}
"""The grammar for each kind of file. That of C++ parses C, but for names that are keywords of C++."""
TIMEOUT = 5.0
"""Seconds for one query on one file; a usual one takes some milliseconds, of which Python's start is most."""
_MAX_MEMORY = 2 << 30
"""Bytes of address space: of a thousand million matches the first million would fill them."""
_MAX_MATCHES = 100_000


@dataclass(frozen=True, slots=True)
class Match:
    """The byte ranges of each capture of one match, by name."""

    captures: Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Failed:
    """A query without an answer: invalid, too slow, or too large."""

    reason: str


def grammar_of(path: str) -> str | None:
    """Return the grammar for a path, None if there is none."""
    return GRAMMARS.get(PurePosixPath(path).suffix)


@cache
def language(grammar: str) -> Language:
    """Return a grammar of GRAMMARS; C++'s is loaded only where a rewrite needs it."""
    return Language(import_module(f"tree_sitter_{grammar}").language())


def parse(grammar: str, content: bytes) -> Node:
    """Return the root of the syntax tree, which may contain errors."""
    return Parser(language(grammar)).parse(content).root_node


def ask(grammar: str, query: str, content: bytes, timeout: float = TIMEOUT) -> tuple[Match, ...] | Failed:
    """Return the matches of a query in the order of the file, or why there is no answer."""
    from nodekiln.core.errors import ToolchainError  # not in the child, which should start fast
    from nodekiln.core.process import capture

    question = {"grammar": grammar, "query": query, "content": base64.b64encode(content).decode("ascii")}
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    try:
        done = capture(
            [sys.executable, "-m", __name__],
            env=environment,
            stdin=json.dumps(question).encode(),
            timeout=timeout,
        )
    except ToolchainError:
        return Failed(f"the query took more than {timeout:g} seconds")
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return Failed("the query took too much memory, or tree-sitter crashed")
    if "error" in answer:
        return Failed(str(answer["error"]))
    return tuple(
        Match({name: tuple((start, end) for start, end in places) for name, places in match.items()})
        for match in answer["matches"]
    )


def _answer(grammar: str, text: str, content: bytes) -> dict[str, object]:
    try:
        query = Query(language(grammar), text)
    except (ValueError, TypeError) as error:  # QueryError is a ValueError; invalid expressions in predicates
        return {"error": f"the query is invalid: {error}"}
    if not query.pattern_count:
        return {"error": "the query is empty"}
    found = QueryCursor(query).matches(parse(grammar, content))
    if len(found) > _MAX_MATCHES:
        return {"error": f"the query matches {len(found)} times"}
    matches = [
        {name: [(node.start_byte, node.end_byte) for node in nodes] for name, nodes in captures.items()}
        for _, captures in found
    ]
    return {"matches": matches}


def main() -> None:
    """Answer one question."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    question = json.load(sys.stdin)
    content = base64.b64decode(question["content"])
    try:
        answer = _answer(question["grammar"], question["query"], content)
    except MemoryError:
        answer = {"error": "the query took too much memory"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
