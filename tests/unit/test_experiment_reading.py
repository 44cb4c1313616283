"""What runs leave behind, read; and what machines say of themselves."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import pytest

from nodekiln.experiment.inputs.inputs import chunks, compressed_ratio
from nodekiln.experiment.measure.environment import name_hypervisor, name_processor, name_system
from nodekiln.experiment.measure.traced import (
    is_collection,
    read_perf_hooks_lines,
    read_probe_lines,
    read_trace_gc,
)
from nodekiln.experiment.measure.trials import find_loss
from nodekiln.experiment.measure.watching import judge
from nodekiln.experiment.model.results import Collection

DATA = os.urandom(300_000) + bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def test_probe_lines_count_from_the_start_of_the_process() -> None:
    lines = [
        "@b[4, 7000000, 71]: 9500000",
        "",
        "@ended[8, 7100000, 71]: 7200000",
        "@a[1, 3000000, 71]: 3250000",
        "@collections: 3",
    ]
    assert read_probe_lines(lines, began_ns=2_000_000) == (
        Collection(at_ms=1.25, duration_ms=0.25, type=1),
        Collection(at_ms=5.2, duration_ms=0.1, type=8),
        Collection(at_ms=7.5, duration_ms=2.5, type=4),
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Lost 3 events",
        "@turn: 1",
        "@collections: 12",
        "@a[1, 2]: 3",
        "@a[1, 2, 3]: x",
        "@a[1, 2, 3, 4]: 5",
        "@a[-1, 2, 3]: 4",
        "@a[\N{ARABIC-INDIC DIGIT ONE}, 2, 3]: 4",
    ],
)
def test_lines_about_other_things_than_collections_are_skipped(line: str) -> None:
    assert read_probe_lines([line], began_ns=0) == ()
    assert not is_collection(line)


def test_type_that_no_v8_has_is_left_out() -> None:
    assert read_probe_lines(["@a[3, 1, 7]: 2"], began_ns=0) == ()


@pytest.mark.parametrize("line", ["", "1,2", "1,2,x", "1,2,3,4", "3,1,2", "-1,5,6"])
def test_line_of_perf_hooks_that_was_cut_off_is_passed_over(line: str) -> None:
    assert read_perf_hooks_lines([line]) == ()


def test_perf_hooks_lines_report_start_and_duration() -> None:
    assert read_perf_hooks_lines(["1,10.5,0.5", "4,20,2.25", "16,21"]) == (
        Collection(at_ms=11, duration_ms=0.5, type=1),
        Collection(at_ms=22.25, duration_ms=2.25, type=4),
    )


def test_trace_gc_lines_are_found_among_what_a_program_printed() -> None:
    line = "[7:0x1]  40 ms: Scavenge 1.0 (2.0) -> 0.5 (2.0) MB, pooled: 0 MB, 0.25 / 0.00 ms  ("
    collection = Collection(at_ms=40, duration_ms=0.25, type=1)
    assert read_trace_gc(f"hello\n{line}\n") == ((collection,), ())


def test_trace_gc_with_lines_in_an_unknown_format_keeps_the_first_ten() -> None:
    line = "[7:0x1]  40 ms: Concurrent Sweep 1.0 (2.0) -> 0.5 (2.0) MB"
    assert read_trace_gc(f"{line}\n" * 12) == ((), (line,) * 10)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(DATA, id="as it is"),
        pytest.param(gzip.compress(DATA), id="gzip"),
        pytest.param(gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]), id="gzip in two parts"),
    ],
)
def test_output_that_is_the_input_again_lost_nothing(output: bytes, tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(output)
    assert find_loss(tmp_path / "output", SHA256) == ""


@pytest.mark.parametrize(
    ("output", "why"),
    [
        pytest.param(b"", "neither", id="empty"),
        pytest.param(DATA[:-1], "neither", id="cut off"),
        pytest.param(gzip.compress(DATA)[:-9], "ends too early", id="gzip cut off"),
        pytest.param(gzip.compress(DATA[:-1]), "other bytes", id="gzip of less"),
        pytest.param(gzip.compress(DATA) + b"more", "does not unpack", id="gzip and more"),
        pytest.param(zlib.compress(DATA), "neither", id="another format"),
        pytest.param(b"\x1f\x8b" + DATA, "does not unpack", id="no gzip at all"),
    ],
)
def test_output_that_lost_something_reports_how(output: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(output)
    assert why in find_loss(tmp_path / "output", SHA256)


def test_missing_output_is_reported(tmp_path: Path) -> None:
    assert find_loss(tmp_path / "output", SHA256) == "there is no output"


def test_output_that_is_a_pipe_or_a_folder_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path / "pipe", tmp_path):
        assert find_loss(output, SHA256) == "the output is not a regular file"


@pytest.mark.parametrize(
    ("code", "printed", "passed", "ending", "detail"),
    [
        (0, "out of memory, I thought\n", None, "finished", ""),
        (-9, "", 10**9, "out of memory", "1.0 GB"),
        (-9, "", None, "out of memory", "SIGKILL"),
        (-6, "a\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n----",
         None, "out of memory", "heap out of memory"),
        (1, "RangeError: Array buffer allocation failed\n  at x\n", None, "out of memory", "Array buffer"),
        (1, "at file:1\nthrow no\nTypeError: no\n    at x\nNode.js v22\n",
         None, "failed", "exit code 1: TypeError: no"),
        (13, "Warning: Detected unsettled top-level await at file:1\nawait pipeline(\n^\n\n",
         None, "failed", "unsettled"),
        (1, "Error: \x1b[2J\n", None, "failed", "Error: \\x1b[2J"),
        (-11, "", None, "failed", "signal 11: no output"),
    ],
)  # fmt: skip
def test_cause_of_failure_follows_from_exit_code_and_output(
    code: int, printed: str, passed: int | None, ending: str, detail: str
) -> None:
    told = judge(code, printed, passed)
    assert told[0] == ending
    assert detail in told[1]


def test_generated_data_is_the_same_everywhere() -> None:
    """By its hash, which another Python or machine must give too; over the end of a piece (4 MiB)."""
    digest = hashlib.sha256(b"".join(chunks(5_000_001, 1))).hexdigest()
    assert digest == "91a73d17e2a413812196b645079367846b050a505a3f315328b22d901c2b02ec"


def test_smaller_input_is_the_beginning_of_a_larger_one_of_the_same_seed() -> None:
    assert b"".join(chunks(70_000, 3)) == b"".join(chunks(200_000, 3))[:70_000]
    assert b"".join(chunks(70_000, 3)) != b"".join(chunks(70_000, 4))


@pytest.mark.parametrize("size", [1, 511, 512, 65_536, 65_537])
def test_generated_data_has_the_size_that_was_asked_for(size: int) -> None:
    assert sum(map(len, chunks(size, 1))) == size


def test_generated_data_compresses_as_little_as_video(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"".join(chunks(5_000_000, 1)))
    assert 0.98 < compressed_ratio(tmp_path / "data") < 1


def test_input_of_zeros_is_reported_to_compress_well(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(6_000_000))
    assert compressed_ratio(tmp_path / "data") < 0.01


CPUINFO = """\
vendor_id\t: AuthenticAMD
model\t\t: 49
model name\t: {name}
flags\t\t: fpu {flags} vme
"""


def test_processor_that_has_a_number_for_a_name_gets_its_makers() -> None:
    assert name_processor(CPUINFO.format(name="AMD EPYC 7B12", flags="")) == "AMD EPYC 7B12"
    assert name_processor(CPUINFO.format(name="2", flags="")) == "AuthenticAMD 2"
    assert name_processor("Hardware\t: BCM2835\n") == ""


def test_virtual_machine_is_reported_by_its_processor() -> None:
    assert name_hypervisor(CPUINFO.format(name="x", flags="hypervisor"), "QEMU") == "QEMU"
    assert name_hypervisor(CPUINFO.format(name="x", flags="hypervisor"), "") == "yes, of an unknown kind"
    assert name_hypervisor(CPUINFO.format(name="x", flags="hyper"), "Dell Inc.") is None


def test_system_is_reported_by_its_pretty_name() -> None:
    assert (
        name_system('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
        == "Debian GNU/Linux 13 (trixie)"
    )
    assert name_system("") == ""
