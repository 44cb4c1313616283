"""Which edits of equal length run with the code cache of the old text."""

from __future__ import annotations

import pytest

from nodekiln.changes.positions import keeps_positions
from nodekiln.core.edit import Edit, Span

BASE = b"""\
'use strict';
const { a } = primordials;
let top = 1;
function outer(x, y) {
  const z = x + y;
  const inner = (p) => { return p + z; };
  return inner(z);
}
(function() { top = top + 2; })();
class C { field = 1; method(q) { return q + 1; } }
module.exports = { outer, C };
"""


def edit(old: bytes, new: bytes) -> Edit:
    start = BASE.index(old)
    return Edit("lib/a.js", BASE, (Span(start, start + len(old), new.ljust(len(old)), "test"),))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"x + y;", b"x * y;"),
        (b"x + y;", b"x;"),
        (b"return inner(z);", b"return z;"),
        (b"return p + z;", b"return z;"),
        (b"return q + 1;", b"return 1;"),
    ],
)
def test_edit_inside_a_function_that_is_compiled_later_keeps_positions(old: bytes, new: bytes) -> None:
    assert keeps_positions(edit(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"top = 1;", b"top = 2;"),  # the top level is compiled in the cache
        (b"field = 1", b"field = 2"),
        (b"top = top + 2;", b"top = 3;"),  # called at once, so compiled at once
        (b"x + y;", b"a;"),  # a need not have outlived the top level
        (b"return p + z;", b"return x;"),  # x need not have outlived outer
        (b"(p) => { return p + z; };", b"null;"),  # a function less
        (b"x + y;", b"() => 1;"),  # a function more
        (b"x + y;", b"x +;"),  # no JavaScript
        (b"(x, y)", b"(y, x)"),
    ],
)
def test_edit_that_the_code_cache_contradicts_does_not_keep_positions(old: bytes, new: bytes) -> None:
    assert not keeps_positions(edit(old, new))


def test_longer_edit_does_not_keep_positions() -> None:
    start = BASE.index(b"x + y;")
    assert not keeps_positions(Edit("lib/a.js", BASE, (Span(start, start + 6, b"x + y + x;", "test"),)))
