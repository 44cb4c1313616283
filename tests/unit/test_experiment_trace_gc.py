"""Lines of --trace-gc as the Nodes from 18 to 26 print them."""

from __future__ import annotations

import pytest

from nodekiln.tracing.trace_gc import GcTrace, Pause, parse_trace_gc


@pytest.mark.parametrize(
    ("line", "pause"),
    [
        pytest.param(
            "[42:0x274a1000]       99 ms: Scavenge 4.8 (5.6) -> 4.3 (6.6) MB, pooled: 0 MB, 0.71 / 0.00 ms  "
            "(average mu = 1.000, current mu = 1.000) task; ",
            Pause(99, 0.71, 1),
            id="22 scavenge",
        ),
        pytest.param(
            "[42:0x274a1000]      465 ms: Mark-Compact 5.2 (7.1) -> 4.4 (7.1) MB, pooled: 0 MB, "
            "2.26 / 0.10 ms  (+ 0.4 ms in 3 steps since start of marking, biggest step 0.2 ms, walltime 6 ms)"
            " (average mu = 0.995, current mu = 0.995) finalize incremental marking; ",
            Pause(465, 2.26, 4),
            id="22 mark-compact",
        ),
        pytest.param(
            "[42:0x35c2e000]     1444 ms: Scavenge (interleaved) 171.3 (236.1) -> 149.0 (245.7) MB, "
            "pooled: 0 MB, 343.26 / 0.00 ms  (average mu = 0.9, current mu = 0.9) allocation failure; ",
            Pause(1444, 343.26, 1),
            id="24 with a remark",
        ),
        pytest.param(
            "[42:0x2398c000]       49 ms: Minor Mark-Sweep 5.0 (5.8) -> 4.5 (5.8) MB, pooled: 0.0 MB, "
            "0.92 / 0.00 ms (average mu = 1.000, current mu = 1.000) allocation failure; ",
            Pause(49, 0.92, 2),
            id="26 minor",
        ),
        pytest.param(
            "[42:0x8359d00]       34 ms: Mark-sweep 3.4 (4.6) -> 2.8 (5.6) MB, 8.7 / 0.0 ms  (average mu = "
            "1.000, current mu = 1.000) testing; GC in old space requested",
            Pause(34, 8.7, 4),
            id="18 mark-sweep",
        ),
        pytest.param(
            "[42:0x8359d00]       85 ms: Mark-sweep (reduce) 19.2 (33.0) -> 17.2 (34.0) MB, 3.5 / 0.0 ms  "
            "(+ 6.6 ms in 43 steps since start of marking, biggest step 1.1 ms) (average mu = 0.803) last; ",
            Pause(85, 3.5, 4),
            id="18 with a remark",
        ),
        pytest.param(
            "[7:0x17bd9000]     1663 ms: Incremental Mark-Compact (reduce) 118.0 (120.7) -> 47.6 (55.0) MB, "
            "pooled: 0.0 MB, 35.76 / 0.01 ms (+ 2.0 ms in 3 steps since start of marking)",
            Pause(1663, 35.76, 4),
            id="26 incremental mark-compact",
        ),
        pytest.param(
            "[7:0x17bd9000]      120 ms: Incremental Minor Mark-Sweep 5.0 (5.8) -> 4.5 (5.8) MB, "
            "pooled: 0.0 MB, 0.92 / 0.00 ms (average mu = 1.000, current mu = 1.000) task; ",
            Pause(120, 0.92, 2),
            id="26 incremental minor",
        ),
    ],
)
def test_line_of_a_known_release_is_parsed(line: str, pause: Pause) -> None:
    assert parse_trace_gc(line + "\n") == GcTrace((pause,), ())


SCAVENGE = "[42:0x1]  7 ms: Scavenge 1.0 (2.0) -> 0.5 (2.0) MB, pooled: 0 MB, 0.25 / 0.00 ms  (average"


def test_other_output_between_lines_is_skipped() -> None:
    text = f"ready at 12 ms: Scavenge\n{SCAVENGE}\n[42] 9 ms: Scavenge\ndone: {SCAVENGE}\n"
    assert parse_trace_gc(text) == GcTrace((Pause(7, 0.25, 1),) * 2, ())


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(SCAVENGE.replace("Scavenge", "Ephemeral Sweep"), id="unknown kind"),
        pytest.param(SCAVENGE.replace("MB,", "MiB,"), id="unknown unit"),
        pytest.param(SCAVENGE[:50], id="cut off"),
    ],
)
def test_line_in_an_unknown_format_is_returned(line: str) -> None:
    trace = parse_trace_gc(f"{SCAVENGE}\nhello {line}\n{SCAVENGE}")
    assert trace == GcTrace((Pause(7, 0.25, 1),) * 2, (line,))


def test_text_without_collections_is_empty() -> None:
    assert parse_trace_gc("") == GcTrace((), ())
