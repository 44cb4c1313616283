"""What can be known of a trace before anything is started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodekiln.core.errors import UsageError
from nodekiln.pipelines.inspect import Argument, parse_arguments
from nodekiln.pipelines.trace import TraceRequest
from nodekiln.tracing.tracer import (
    Language,
    UntraceableError,
    check_machine,
    check_path,
    diagnose,
    find_dtrace,
    find_script,
    follow_with_bpftrace,
    follow_with_dtrace,
    require_probes,
    script_names,
)


def machine(folder: Path, *, bpftrace: bool = True, uprobes: bool = True, counted: bool = True) -> Path:
    """A folder with a bpftrace on its PATH (bin) and what sysfs says of uprobes (uprobe)."""
    (folder / "bin").mkdir()
    if bpftrace:
        (folder / "bin" / "bpftrace").touch(mode=0o755)
    if uprobes:
        (folder / "uprobe" / "format").mkdir(parents=True)
    if uprobes and counted:
        (folder / "uprobe" / "format" / "ref_ctr_offset").touch()
    return folder / "uprobe"


def test_each_script_needs_the_same_probes_in_both_languages() -> None:
    assert {"backpressure", "gc", "http"} <= set(script_names())
    assert list(script_names()) == sorted(script_names())
    for name in script_names():
        for_bpftrace, for_dtrace = (find_script(name, language).probes for language in Language)
        assert for_bpftrace == for_dtrace
    assert find_script("gc", Language.BPFTRACE).probes == {"gc__start", "gc__done"}


def test_scripts_name_their_target_by_a_parameter_only() -> None:
    for name in script_names():
        told = find_script(name, Language.BPFTRACE).path.read_text()
        assert set(re.findall(r"usdt:[^:]+:", told)) == {"usdt:$1:"}
        told = find_script(name, Language.DTRACE).path.read_text()
        assert set(re.findall(r"^\w*\$?\w+:::", told, re.MULTILINE)) <= {"node$1:::", "dtrace:::"}


@pytest.mark.parametrize("name", ["nonesuch", "", "../gc", "gc.bt"])
def test_unknown_script_lists_available_scripts(name: str) -> None:
    with pytest.raises(UsageError, match=f"Available scripts: {', '.join(script_names())}"):
        find_script(name, Language.BPFTRACE)


def test_missing_probes_are_named_and_those_that_are_there_too() -> None:
    grafted = {"gc__start", "gc__done"}
    require_probes(find_script("gc", Language.BPFTRACE), grafted, "node")
    with pytest.raises(UsageError) as caught:
        require_probes(find_script("backpressure", Language.BPFTRACE), grafted, "/opt/node")
    assert "/opt/node does not have: stream__backpressure, stream__drain" in caught.value.message
    assert "It has: gc__done, gc__start" in caught.value.message


def test_machine_that_has_everything_is_good(tmp_path: Path) -> None:
    uprobes = machine(tmp_path)
    env = {"PATH": str(tmp_path / "bin")}
    assert check_machine(env, counted=True, uprobes=uprobes) == tmp_path / "bin" / "bpftrace"


def test_kernel_that_raises_no_semaphores_will_do_for_a_binary_without(tmp_path: Path) -> None:
    uprobes = machine(tmp_path, counted=False)
    env = {"PATH": str(tmp_path / "bin")}
    check_machine(env, counted=False, uprobes=uprobes)
    with pytest.raises(UntraceableError, match=r"Linux 4\.20"):
        check_machine(env, counted=True, uprobes=uprobes)


def test_machine_without_bpftrace_hears_which_package_has_it(tmp_path: Path) -> None:
    uprobes = machine(tmp_path, bpftrace=False)
    with pytest.raises(UntraceableError, match=r"no bpftrace[\s\S]*apt install bpftrace"):
        check_machine({"PATH": str(tmp_path / "bin")}, counted=True, uprobes=uprobes)


def test_kernel_without_uprobes_is_reported(tmp_path: Path) -> None:
    uprobes = machine(tmp_path, uprobes=False)
    with pytest.raises(UntraceableError, match="no uprobes"):
        check_machine({"PATH": str(tmp_path / "bin")}, counted=True, uprobes=uprobes)


def test_missing_dtrace_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UntraceableError, match="no dtrace"):
        find_dtrace({"PATH": str(tmp_path)})


@pytest.mark.parametrize("path", ["/a b/node", "/a*/node", "/a[b]/no'de", '/"$(id)"/node'])
def test_bpftrace_takes_odd_paths(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", ["/a:b/node", "/a/no\nde"])
def test_bpftrace_does_not_take_these(path: str) -> None:
    with pytest.raises(UntraceableError, match="a colon or a line break"):
        check_path(path)


def test_tracer_is_reported_of_a_process_by_its_number_only() -> None:
    bt, d = (find_script("gc", language) for language in Language)
    tracer = follow_with_bpftrace(Path("bpftrace"), bt, pid=17, env={"PATH": "/bin"})
    assert tracer.argv[-4:] == ("-p", "17", str(bt.path), "/proc/17/exe")
    assert tracer.env["PATH"] == "/bin"
    tracer = follow_with_dtrace(Path("dtrace"), d, pid=17, env={})
    assert tracer.argv[-3:] == ("-s", str(d.path), "17")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("ERROR: bpftrace currently only supports running as the root user.", "needs root"),
        ("ERROR: Missing CAP_BPF capability, please run bpftrace as the root user.", "needs root"),
        (
            "dtrace: failed to initialize dtrace: DTrace requires additional privileges",
            "Integrity Protection",
        ),
        ("ERROR: Kernel lockdown is enabled and set to 'confidentiality'.", "locked down"),
        ("ERROR: Loading BPF object(s) failed.", "container"),
        ("ERROR: : No such process", "gone"),
        ("ERROR: couldn't get argument 0 for /proc/7/exe:node:gc__start", "no such probe"),
        ("WARNING: first\nERROR: something new\nWARNING: last", "could not attach: ERROR: something new"),
        ("", "no output"),
    ],
)
def test_messages_of_tracers_are_explained(said: str, why: str) -> None:
    error = diagnose(said, privileged="sudo it")
    assert why in str(error)
    assert error.exit_code == 3


def test_missing_privileges_are_reported_with_the_command_to_type() -> None:
    request = TraceRequest(script="gc", binary="a b", words=("x.js", "it's", "--", "$1"), output=Path("o"))
    error = diagnose("only supports running as the root user", privileged=request.as_root)
    assert error.remedy == (
        "Type: sudo -E ./inv trace gc --binary 'a b' --output o -- x.js 'it'\"'\"'s' -- '$1'"
    )
    assert TraceRequest(script="gc", pid=7).as_root == "sudo -E ./inv trace gc --pid 7"


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"binary": "v22.20.0", "pid": 7, "words": ("x.js",)},
        {"binary": "v22.20.0"},
        {"pid": 7, "words": ("x.js",)},
    ],
)
def test_request_for_nothing_or_for_two_things_is_wrong_usage(made: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TraceRequest(script="gc", **made)  # type: ignore[arg-type]  # of mixed types on purpose


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", ()),
        ("4@%esi", (Argument(4, False, "%esi"),)),
        ("-4@%esi 8@-16(%rbp)", (Argument(4, True, "%esi"), Argument(8, False, "-16(%rbp)"))),
        ("-4@$-1 8@x+8(%rip)", (Argument(4, True, "$-1"), Argument(8, False, "x+8(%rip)"))),
        ("-8@[x0, 16] 4@w1", (Argument(8, True, "[x0, 16]"), Argument(4, False, "w1"))),
        ("%rdi", (Argument(None, None, "%rdi"),)),
    ],
)
def test_arguments_are_read_as_tracers_read_them(text: str, arguments: tuple[Argument, ...]) -> None:
    assert parse_arguments(text) == arguments
