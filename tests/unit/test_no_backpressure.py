"""The rewrite that switches backpressure off: eras of sources before and after, and all that it refuses."""

from __future__ import annotations

import pytest

from nodekiln.changes.no_backpressure import PATHS, plan_backpressure
from nodekiln.core import limits
from nodekiln.core.edit import Conflict, Edit, Misfit, Refusal

NEWER, OLDER, ADAPTERS, OUTGOING = PATHS

RELEASE_6 = b"""\
Writable.prototype.write = function(chunk, encoding, cb) {
  var ret = false;
  ret = writeOrBuffer(this, this._state, false, chunk, encoding, cb);
  return ret;
};

// If we return false, then somebody waits.
function writeOrBuffer(stream, state, isBuf, chunk, encoding, cb) {
  var ret = state.length < state.mark;
  if (!ret)
    state.needDrain = true;

  return ret;
}
"""
RELEASE_14 = b"""\
function writeOrBuffer(stream, state, chunk, encoding, callback) {
  const ret = state.length < state.mark;
  return ret && !state.errored && !state.destroyed;
}
"""
RELEASE_22 = b"""\
function writeOrBuffer(stream, state, chunk) {
  const ret = state.length < state.mark || state.length === 0;

  // Say false once destroyed.
  return ret && (state[kState] & (kDestroyed | kErrored)) === 0;
}
Writable.prototype.write = function(chunk) { return _write(this, chunk) === true; };
"""
SHIM = b"'use strict';\nmodule.exports = require('stream').Writable;\n"
ALREADY = b"function writeOrBuffer(a) {\n  return true;\n}\n"

GUARDED = b"stream.writableNeedDrain || !stream.write(chunk)"
UNGUARDED = b"!stream.write(chunk)"


def adapters(write: bytes) -> bytes:
    return (
        b"function newReadableStreamFromStreamReadable(stream) { return new ReadableStream({}); }\n"
        b"function newWritableStreamFromStreamWritable(stream) {\n"
        b"  if (isDestroyed(stream)) { const gone = new WritableStream(); return gone; }\n"
        b"  return new WritableStream({\n"
        b"    start(c) { controller = c; },\n" + write + b",\n"
        b"    close() { stream.end(); },\n"
        b"  }, strategy);\n"
        b"}\n"
    )


def asking(condition: bytes) -> bytes:
    return adapters(b"write(chunk) {\n      if (" + condition + b") { return wait(); }\n    }")


def rewritten(files: dict[str, bytes]) -> dict[str, bytes]:
    edits = plan_backpressure(files.get)
    assert not isinstance(edits, Refusal), edits
    return {edit.path: edit.after for edit in edits}


def refused(files: dict[str, bytes]) -> tuple[Conflict, ...]:
    answer = plan_backpressure(files.get)
    assert isinstance(answer, Refusal), answer
    return answer.conflicts


def misfits(files: dict[str, bytes]) -> list[tuple[str, Misfit]]:
    return [(conflict.path, conflict.misfit) for conflict in refused(files)]


@pytest.mark.parametrize(
    ("files", "path", "before", "after"),
    [
        pytest.param({OLDER: RELEASE_6}, OLDER, b"\n\n  return ret;\n}", b"\n\n  return true;\n}", id="6"),
        pytest.param(
            {OLDER: RELEASE_14},
            OLDER,
            b"return ret && !state.errored && !state.destroyed;",
            b"return !state.errored && !state.destroyed;",
            id="14.0",
        ),
        pytest.param(
            {OLDER: SHIM, NEWER: RELEASE_14},
            NEWER,
            b"return ret && !state.errored && !state.destroyed;",
            b"return !state.errored && !state.destroyed;",
            id="14.21",
        ),
        pytest.param(
            {OLDER: SHIM, NEWER: RELEASE_22},
            NEWER,
            b"return ret && (state[kState] & (kDestroyed | kErrored)) === 0;",
            b"return (state[kState] & (kDestroyed | kErrored)) === 0;",
            id="22",
        ),
    ],
)
def test_return_of_every_era_keeps_only_its_error_terms(
    files: dict[str, bytes], path: str, before: bytes, after: bytes
) -> None:
    assert files[path].count(before) == 1
    assert rewritten(files) == {path: files[path].replace(before, after)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{ return ret; }", b"{ return true; }"),
        (b"{ return ret }", b"{ return true; }"),
        (b"{ return ret // why\n}", b"{ return true; // why\n}"),
        (b"{ return ret; /* last */ }", b"{ return true; /* last */ }"),
        (b"{ return /* a */ ret /* b */; }", b"{ return true; }"),
        (b"{\r\n  x();\r\n  return ret;\r\n}\r\n", b"{\r\n  x();\r\n  return true;\r\n}\r\n"),
        (b"{ '\xff\xfe'; return ret; } // caf\xe9", b"{ '\xff\xfe'; return true; } // caf\xe9"),
        (b"{ if (a) { b(); }\f return ret; }", b"{ if (a) { b(); }\f return true; }"),
    ],
)
def test_plain_return_becomes_return_true_and_nothing_else_changes(before: bytes, after: bytes) -> None:
    head = b"\xef\xbb\xbf// return ret;\nfunction writeOrBuffer(a, b = 1)"
    assert rewritten({NEWER: head + before}) == {NEWER: head + after}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GUARDED, UNGUARDED),
        (b"stream.writableNeedDrain ||\n  // or\n  !stream.write(chunk)", UNGUARDED),
        (b"stream.writableNeedDrain||! stream . write (chunk, 'x')", b"! stream . write (chunk, 'x')"),
    ],
)
def test_adapter_no_longer_asks_for_need_of_drain(before: bytes, after: bytes) -> None:
    files = {NEWER: RELEASE_22, ADAPTERS: asking(before)}
    assert rewritten(files)[ADAPTERS] == asking(after)


def test_what_the_branch_asks_once_the_chunk_is_written_stays() -> None:
    inside = b"async write(chunk) { try { if (%s) { if (!stream.writableNeedDrain) { go(); } } } catch { } }"
    files = {NEWER: RELEASE_22, ADAPTERS: adapters(inside % GUARDED)}
    assert rewritten(files)[ADAPTERS] == adapters(inside % UNGUARDED)


@pytest.mark.parametrize("files", [{}, {ADAPTERS: asking(UNGUARDED)}], ids=["no adapters", "not asked"])
def test_adapter_that_loses_nothing_is_left_alone(files: dict[str, bytes]) -> None:
    assert list(rewritten({NEWER: RELEASE_22, **files})) == [NEWER]


@pytest.mark.parametrize("value", [b"(\n  a &&\n  b\n)", b"a ? true : b", b"a && b", b"ret && state.length"])
def test_return_of_an_unknown_expression_is_refused(value: bytes) -> None:
    files = {NEWER: b"function writeOrBuffer(a) { return " + value + b"; }"}
    assert misfits(files) == [(NEWER, Misfit.UNEXPECTED_SHAPE)]


GETTER = b"""
ObjectDefineProperties(Writable.prototype, {
  writableNeedDrain: { get() { const w = this._state; return w ? !w.destroyed && w.needDrain : false; } },
});
"""


def test_getter_of_need_drain_returns_false() -> None:
    after = rewritten({NEWER: RELEASE_14 + GETTER})[NEWER]
    assert b"return false;" in after
    assert b"needDrain : false" not in after


def test_need_drain_that_is_no_getter_is_refused() -> None:
    assert misfits({NEWER: RELEASE_14 + b"x.writableNeedDrain = 1;"}) == [(NEWER, Misfit.NO_MATCH)]


SENDING = b"""
OutgoingMessage.prototype._writeRaw = function _writeRaw(data, encoding, callback, size) {
  this.outputSize += data.length;
  return this.outputSize < this[kHighWaterMark];
};
function write_(msg, chunk) {
  msg[kChunkedLength] += chunk.length;
  const ret = msg[kChunkedLength] < msg[kHighWaterMark];
  return ret;
}
"""


def test_write_of_an_http_message_ignores_what_it_holds() -> None:
    after = rewritten({NEWER: RELEASE_22, OUTGOING: SENDING})[OUTGOING]
    assert b"  return true;\n};" in after
    assert b"  const ret = true;" in after


@pytest.mark.parametrize(
    ("before", "place"),
    [
        (b"this.outputSize < this[kHighWaterMark]", "function _writeRaw"),
        (b"msg[kChunkedLength] < msg[kHighWaterMark]", "function write_"),
    ],
)
def test_http_message_without_its_comparison_is_refused(before: bytes, place: str) -> None:
    (conflict,) = refused({NEWER: RELEASE_22, OUTGOING: SENDING.replace(before, b"hasRoom(this)")})
    assert (conflict.path, conflict.place, conflict.misfit) == (OUTGOING, place, Misfit.NO_MATCH)


def test_http_message_without_high_water_marks_is_left_alone() -> None:
    files = {NEWER: RELEASE_22, OUTGOING: b"OutgoingMessage.prototype.write = function() { return false; };"}
    assert list(rewritten(files)) == [NEWER]


def test_unknown_function_of_an_http_message_is_refused() -> None:
    unknown = SENDING + b"function writeFast(msg) {\n  return msg.outputSize < msg[kHighWaterMark];\n}\n"
    conflicts = refused({NEWER: RELEASE_22, OUTGOING: unknown})
    assert [(conflict.path, "writeFast" in str(conflict)) for conflict in conflicts] == [(OUTGOING, True)]


def test_every_span_gives_its_reason() -> None:
    files = {NEWER: RELEASE_22, ADAPTERS: asking(GUARDED)}
    edits = plan_backpressure(files.get)
    assert isinstance(edits, tuple)
    reasons = [reason for edit in edits for reason in edit.reasons]
    assert ["never returns false" in reasons[0], "lose half of the data" in reasons[1]] == [True, True]


def test_outside_the_spans_every_byte_stays() -> None:
    files = {NEWER: RELEASE_22, ADAPTERS: asking(GUARDED)}
    edits = plan_backpressure(files.get)
    assert isinstance(edits, tuple)
    for edit in edits:
        [span] = edit.spans
        assert edit.after == files[edit.path][: span.start] + span.new + files[edit.path][span.end :]


def test_rewritten_source_is_refused_as_already_changed() -> None:
    files = {NEWER: RELEASE_22, ADAPTERS: asking(GUARDED)}
    assert misfits({**files, **rewritten(files)}) == [(NEWER, Misfit.ALREADY_THERE)]


def function(body: bytes) -> bytes:
    return b"function writeOrBuffer(state) {\n" + body + b"\n}\n"


@pytest.mark.parametrize(
    ("files", "path", "misfit", "told"),
    [
        pytest.param({}, NEWER, Misfit.FILE_MISSING, OLDER, id="no file"),
        pytest.param({OLDER: b"", NEWER: b""}, NEWER, Misfit.NO_MATCH, OLDER, id="empty"),
        pytest.param({OLDER: SHIM}, OLDER, Misfit.NO_MATCH, OLDER, id="shim alone"),
        pytest.param(
            {NEWER: b"const writeOrBuffer = (a) => { return a; };"}, NEWER, Misfit.NO_MATCH, NEWER, id="arrow"
        ),
        pytest.param(
            {OLDER: RELEASE_6, NEWER: RELEASE_22}, NEWER, Misfit.SEVERAL_MATCHES, OLDER, id="both files"
        ),
        pytest.param(
            {NEWER: RELEASE_22 + RELEASE_22}, NEWER, Misfit.SEVERAL_MATCHES, "lines 1, 8", id="two functions"
        ),
        pytest.param(
            {NEWER: b"function outer() {\n" + RELEASE_14 + b"}\n" + RELEASE_14},
            NEWER,
            Misfit.SEVERAL_MATCHES,
            "lines 2, 7",
            id="another one nested",
        ),
        pytest.param(
            {NEWER: function(b"if (state) {\nreturn 1;\n}\nreturn ret;")},
            NEWER,
            Misfit.UNEXPECTED_SHAPE,
            "2 returns, lines 3, 5",
            id="two returns",
        ),
        pytest.param(
            {NEWER: function(b"return 1;\n" * 9)},
            NEWER,
            Misfit.UNEXPECTED_SHAPE,
            "lines 2, 3, 4, 5, 6, ...",
            id="many returns",
        ),
        pytest.param(
            {NEWER: function(b"state();")}, NEWER, Misfit.UNEXPECTED_SHAPE, "no return", id="no return"
        ),
        pytest.param(
            {NEWER: function(b"return ret;\nstate();")},
            NEWER,
            Misfit.UNEXPECTED_SHAPE,
            "line 2, is not its last",
            id="not last",
        ),
        pytest.param(
            {NEWER: function(b"if (state)\nreturn ret;")},
            NEWER,
            Misfit.UNEXPECTED_SHAPE,
            "line 3, is not its last",
            id="in a branch",
        ),
        pytest.param(
            {NEWER: function(b"return;")}, NEWER, Misfit.UNEXPECTED_SHAPE, "returns no value", id="no value"
        ),
        pytest.param(
            {NEWER: function(b"const f = () => 1;\nreturn f();")},
            NEWER,
            Misfit.UNEXPECTED_SHAPE,
            "another function, line 2",
            id="nested arrow",
        ),
        pytest.param(
            {NEWER: function(b"return { get a() { } };")},
            NEWER,
            Misfit.UNEXPECTED_SHAPE,
            "another function, line 2",
            id="nested method",
        ),
        pytest.param({NEWER: b"async " + RELEASE_14}, NEWER, Misfit.UNEXPECTED_SHAPE, "promise", id="async"),
        pytest.param({NEWER: ALREADY}, NEWER, Misfit.ALREADY_THERE, "already", id="already"),
        pytest.param(
            {NEWER: RELEASE_14 + b"\n\n}\n"}, NEWER, Misfit.UNPARSABLE, "line 7: does not parse", id="brace"
        ),
        pytest.param(
            {NEWER: RELEASE_14[:-2]}, NEWER, Misfit.UNPARSABLE, "line 3: does not parse", id="cut off"
        ),
        pytest.param(
            {NEWER: RELEASE_14, OLDER: b"\nlet = = 1;"}, OLDER, Misfit.UNPARSABLE, "line 2", id="bad shim"
        ),
        pytest.param(
            {NEWER: RELEASE_14, ADAPTERS: b"\nlet = = 1;"}, ADAPTERS, Misfit.UNPARSABLE, "line 2", id="bad"
        ),
        pytest.param(
            {NEWER: b"\n" + RELEASE_14.replace(b"state", b"st\xff")},
            NEWER,
            Misfit.UNPARSABLE,
            "line 2",
            id="name",
        ),
        pytest.param({NEWER: RELEASE_14 + b"\0"}, NEWER, Misfit.UNPARSABLE, "line 5", id="NUL"),
    ],
)
def test_tree_that_does_not_fit_is_refused(
    files: dict[str, bytes], path: str, misfit: Misfit, told: str
) -> None:
    [conflict] = refused(files)
    assert (conflict.path, conflict.misfit) == (path, misfit)
    assert told in str(conflict)


@pytest.mark.parametrize(
    ("content", "misfit"),
    [
        pytest.param(b"", Misfit.NO_MATCH, id="empty"),
        pytest.param(asking(GUARDED) * 2, Misfit.SEVERAL_MATCHES, id="two functions"),
        pytest.param(
            asking(GUARDED).replace(b"WritableStream(", b"Other("), Misfit.NO_MATCH, id="no web stream"
        ),
        pytest.param(adapters(b"put() {}"), Misfit.NO_MATCH, id="no write()"),
        pytest.param(adapters(b"write() {}, write() {}"), Misfit.SEVERAL_MATCHES, id="two write()"),
        pytest.param(adapters(b"write: (c) => stream.write(c)"), Misfit.NO_MATCH, id="write no method"),
        pytest.param(adapters(b"write(c) { return stream.write(c); }"), Misfit.NO_MATCH, id="no if"),
        pytest.param(asking(b"stream.write(chunk)"), Misfit.NO_MATCH, id="not negated"),
        pytest.param(asking(b"stream.full || !stream.write(c)"), Misfit.NO_MATCH, id="other property"),
        pytest.param(asking(b"a.writableNeedDrain || !b.write(c)"), Misfit.NO_MATCH, id="two streams"),
        pytest.param(asking(b"s?.writableNeedDrain || !s.write(c)"), Misfit.NO_MATCH, id="optional"),
        pytest.param(asking(b"s.writableNeedDrain && !s.write(c)"), Misfit.NO_MATCH, id="and"),
        pytest.param(asking(b"!s.write(c) || s.writableNeedDrain"), Misfit.NO_MATCH, id="reverse"),
        pytest.param(asking(b"x || " + GUARDED), Misfit.NO_MATCH, id="three terms"),
        pytest.param(asking(GUARDED + b") { } if (" + GUARDED), Misfit.SEVERAL_MATCHES, id="asked twice"),
        pytest.param(
            asking(b"stream.writableNeedDrain) { return; } if (" + UNGUARDED),
            Misfit.UNEXPECTED_SHAPE,
            id="asked before",
        ),
        pytest.param(
            asking(b"stream['writableNeedDrain']) { return; } else if (" + GUARDED),
            Misfit.UNEXPECTED_SHAPE,
            id="asked before by key",
        ),
    ],
)
def test_adapter_that_does_not_fit_is_refused(content: bytes, misfit: Misfit) -> None:
    assert misfits({NEWER: RELEASE_22, ADAPTERS: content}) == [(ADAPTERS, misfit)]


def test_all_conflicts_are_reported_at_once() -> None:
    files = {OLDER: b"(", NEWER: b"\n)", ADAPTERS: b""}
    assert misfits(files) == [
        (NEWER, Misfit.UNPARSABLE),
        (OLDER, Misfit.UNPARSABLE),
        (ADAPTERS, Misfit.NO_MATCH),
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\0" * 300_000, id="NUL"),
        pytest.param(bytes(range(256)) * 100, id="all bytes"),
        pytest.param(b"\xff\xfe" * 100_000, id="no UTF-8"),
        pytest.param(b"(" * 300_000, id="open"),
        pytest.param(b"[" * 50_000 + b"]" * 50_000, id="deep"),
        pytest.param(b"function writeOrBuffer() {" * 20_000 + b"}" * 20_000, id="nested functions"),
        pytest.param(b"function writeOrBuffer() { return 1; }\n" * 20_000, id="many functions"),
        pytest.param(b"function writeOrBuffer() { " + b"return 1; " * 50_000 + b"}", id="many returns"),
    ],
)
def test_no_bytes_make_it_raise(content: bytes) -> None:
    answer = plan_backpressure({NEWER: content, ADAPTERS: content}.get)
    assert isinstance(answer, Refusal)


def test_file_of_three_megabytes_is_rewritten() -> None:
    filler = b"x = a + 1; // what it takes\n" * 110_000
    files = {NEWER: filler + RELEASE_14}
    assert len(files[NEWER]) > 3_000_000
    assert rewritten(files)[NEWER].startswith(filler)


def test_only_the_paths_it_names_are_read() -> None:
    asked = []

    def read(path: str) -> bytes | None:
        asked.append(path)
        return RELEASE_22 if path == NEWER else None

    edits = plan_backpressure(read)
    assert isinstance(edits, tuple)
    assert all(isinstance(edit, Edit) for edit in edits)
    assert sorted(asked) == sorted(PATHS)


PIPED = b"""\
function writeKnownBuffer(stream, chunk) {
  const state = stream._writableState;
  if (state.length !== 0)
    return undefined;
  const ret = state.length < state.highWaterMark || state.length === 0;
  if (!ret)
    state[kState] |= kNeedDrain;
  return ret && (state[kState] & (kDestroyed | kErrored)) === 0;
}
"""


def test_function_that_pipe_calls_keeps_only_the_terms_of_errors() -> None:
    after = PIPED.replace(b"return ret && (", b"return (")
    content = rewritten({NEWER: RELEASE_22 + PIPED})[NEWER]
    assert content.endswith(after)
    assert misfits({NEWER: content}) == [(NEWER, Misfit.ALREADY_THERE)]


def test_sources_with_one_of_two_functions_rewritten_are_refused() -> None:
    content = rewritten({NEWER: RELEASE_22})[NEWER] + PIPED
    assert misfits({NEWER: content}) == [(NEWER, Misfit.UNEXPECTED_SHAPE)]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(b"return state.length < state.highWaterMark;", id="returns a comparison"),
        pytest.param(b"if (state.length >= state.highWaterMark) stop();", id="asks a comparison"),
        pytest.param(b"state.needDrain = !fits(state);", id="sets a property"),
        pytest.param(b"state[kState] |= kNeedDrain;", id="sets a bit"),
    ],
)
def test_unknown_path_by_highwatermark_is_a_missing_anchor_with_name_and_line(code: bytes) -> None:
    [conflict] = refused({NEWER: RELEASE_22 + b"function writeFast(state) {\n" + code + b"\n}\n"})
    assert (conflict.path, conflict.misfit) == (NEWER, Misfit.NO_MATCH)
    assert conflict.place == "function writeFast, line 9"


def test_script_that_takes_too_long_to_parse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PARSE_SECONDS", 0.1)
    refusal = plan_backpressure({"lib/internal/streams/writable.js": b'"' * 1_900_000}.get)
    assert isinstance(refusal, Refusal)
    assert [conflict.misfit for conflict in refusal.conflicts] == [Misfit.UNPARSABLE]


def test_generator_of_the_same_name_is_a_second_declaration() -> None:
    source = (
        b"function writeOrBuffer() { const ret = 1; return ret; }\nfunction* writeOrBuffer() { yield 1; }\n"
    )
    refusal = plan_backpressure({"lib/internal/streams/writable.js": source}.get)
    assert isinstance(refusal, Refusal)
    assert refusal.conflicts[0].misfit is Misfit.SEVERAL_MATCHES
