"""Rewrites in change.toml: what they edit, and that everything else is refused with its lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodekiln.changes import planner
from nodekiln.changes.query import Failed, ask
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Misfit, Plan, Refusal
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Recipe, Tag

JS = b"""\
'use strict';
function open(size) {
  return size ? size : 16;
}
close(1);
close(2);
"""
CC = b"static int limit() {\n  return 16;\n}\nSOME_MACRO(static) class_x y {\n"
CALL = "(call_expression function: (identifier) @name arguments: (arguments (number) @n)) @call"


def change(folder: Path, tables: str) -> Registry:
    """Write a change with these [[rewrite]] tables; return a registry of it."""
    home = folder / "own"
    home.mkdir()
    head = 'name = "own"\nsummary = "s"\nwhy = "w"\ntags = ">=0"\n'
    (home / "change.toml").write_text(head + tables)
    return Registry((folder,))


def table(**fields: object) -> str:
    """Return a [[rewrite]] table; by default it edits the two calls of close() in a.js."""
    values = {
        "files": ["old.js", "a.js"],
        "query": CALL,
        "replace": "n",
        "template": "@n + 1",
        "matches": 2,
        "why": "So.",
        **fields,
    }
    return "[[rewrite]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def plan(folder: Path, tables: str, files: Mapping[str, bytes] | None = None) -> Plan | Refusal:
    registry = change(folder, tables)
    read = {"a.js": JS, "a.cc": CC, **(files or {})}.get
    return planner.plan(Recipe(tag=Tag(20, 1, 0), changes=("own",)), read, registry)


def test_every_match_is_replaced_by_the_template(tmp_path: Path) -> None:
    done = plan(tmp_path, table())
    assert isinstance(done, Plan)
    [edit] = done.edits
    assert (edit.path, edit.after) == ("a.js", JS.replace(b"(1)", b"(1 + 1)").replace(b"(2)", b"(2 + 1)"))
    assert edit.reasons == ("So.",)


def test_rewrites_of_one_file_make_one_edit(tmp_path: Path) -> None:
    second = table(query="(ternary_expression) @t", replace="t", template="@@(@t)", matches=1)
    done = plan(tmp_path, table() + second.replace("@@(@t)", "(@t)"))
    assert isinstance(done, Plan)
    assert b"return (size ? size : 16);" in done.edits[0].after
    assert b"close(1 + 1);" in done.edits[0].after


def test_first_file_that_exists_is_rewritten(tmp_path: Path) -> None:
    done = plan(tmp_path, table(), {"old.js": JS})
    assert isinstance(done, Plan)
    assert [edit.path for edit in done.edits] == ["old.js"]


def test_cpp_that_the_grammar_does_not_know_elsewhere_is_rewritten(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_cpp")
    query = "(return_statement (number_literal) @n)"
    done = plan(tmp_path, table(files=["a.cc"], query=query, template="2 * @n", matches=1))
    assert isinstance(done, Plan)
    assert done.edits[0].after == CC.replace(b"return 16", b"return 2 * 16")


@pytest.mark.parametrize(
    ("fields", "misfit", "fact"),
    [
        ({"matches": 1}, Misfit.SEVERAL_MATCHES, "lines 5, 6"),
        ({"matches": 3}, Misfit.NO_MATCH, "2 times, not 3"),
        ({"query": "(class_declaration) @n"}, Misfit.NO_MATCH, "0 times"),
        ({"files": ["none.js"]}, Misfit.FILE_MISSING, "no such file"),
        ({"files": ["none.js", "no.js"]}, Misfit.FILE_MISSING, "no.js"),
        ({"template": "1 +"}, Misfit.UNPARSABLE, "lines 5"),
        ({"template": "@n"}, Misfit.ALREADY_THERE, "already"),
        ({"query": "(call_expression (identifier) @n"}, Misfit.QUERY_FAILED, "invalid"),
        ({"query": "(no_such_node) @n"}, Misfit.QUERY_FAILED, "invalid"),
        ({"query": "; @n\n"}, None, "capture"),
        ({"query": "(program (_)+ @n)", "matches": 1}, Misfit.UNEXPECTED_SHAPE, "4 nodes"),
        ({"query": '((identifier) @n (#match? @n "("))'}, Misfit.QUERY_FAILED, "invalid"),
    ],
)
def test_rewrite_that_does_not_fit_is_refused(
    tmp_path: Path, fields: dict[str, object], misfit: Misfit | None, fact: str
) -> None:
    if misfit is None:
        with pytest.raises(PatchError, match=fact):
            plan(tmp_path, table(**fields))
        return
    done = plan(tmp_path, table(**fields))
    assert isinstance(done, Refusal)
    [conflict] = done.conflicts
    assert (conflict.misfit, fact in conflict.text) == (misfit, True), conflict


def test_cpp_rewrite_that_adds_a_syntax_error_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_cpp")
    query = "(return_statement (number_literal) @n)"
    done = plan(tmp_path, table(files=["a.cc"], query=query, template="((1", matches=1))
    assert isinstance(done, Refusal)
    assert done.conflicts[0].misfit is Misfit.UNPARSABLE


def test_rewrites_of_the_same_text_conflict(tmp_path: Path) -> None:
    done = plan(tmp_path, table() + table(template="@n + 2"))
    assert isinstance(done, Refusal)
    assert done.conflicts[0].misfit is Misfit.OVERLAP


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"query": " "}, "query is empty"),
        ({"replace": "m"}, "@name"),
        ({"template": "@other"}, "@other"),
        ({"files": []}, "files is empty"),
        ({"files": ["../a.js"]}, "not a path"),
        ({"files": ["a.py"]}, "no grammar"),
        ({"files": ["a.js", "a.cc"]}, "different languages"),
        ({"matches": 0}, "matches = 0"),
        ({"why": ""}, "why is empty"),
        ({"extra": 1}, "extra"),
    ],
)
def test_invalid_table_is_refused_before_a_file_is_read(
    tmp_path: Path, fields: dict[str, object], fact: str
) -> None:
    registry = change(tmp_path, table(**fields))
    with pytest.raises(PatchError, match=fact):
        registry.get("own")


def test_query_with_endless_regular_expression_is_stopped() -> None:
    content = b"f(%s);\n" % (b"a" * 60)
    answer = ask("javascript", '((identifier) @x (#match? @x "^(a+)+b$"))', content, timeout=0.5)
    assert isinstance(answer, Failed)
    assert "0.5 seconds" in answer.reason


def test_query_with_too_many_matches_is_stopped() -> None:
    content = b"f(1);\n" * 400
    answer = ask("javascript", "(program (_)* @a (_) @b (_)* @c (_) @d (_)* @e (_) @f)", content, timeout=0.5)
    assert isinstance(answer, Failed)


def test_thousand_matches_are_refused_with_the_first_lines(tmp_path: Path) -> None:
    done = plan(tmp_path, table(query="(number) @n"), {"a.js": b"f(1);\n" * 1000})
    assert isinstance(done, Refusal)
    assert "1000 times" in done.conflicts[0].text
    assert len(done.conflicts[0].text) < 200
