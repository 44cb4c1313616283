"""A program held back, and a tracer beside it: here a stand-in that speaks as tracers do, and any program."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from nodekiln.core.elf.notes import Probe, add_sections, probe_sections
from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.inspect import find_binary, probes
from nodekiln.pipelines.trace import TraceRequest, trace
from nodekiln.tracing.child import hold
from nodekiln.tracing.proof import prove
from nodekiln.tracing.session import attach, signals_go_to
from nodekiln.tracing.tracer import Tracer, UntraceableError

_ENVIRONMENT = dict(os.environ)

linux = pytest.mark.skipif(sys.platform != "linux", reason="ptrace is as Linux has it")

WRITES = "import os, sys; open(sys.argv[1], 'w').write(repr((sys.argv[2:], os.environ.get('NODE_OPTIONS'))))"


def stand_in(script: str, lingers: float = 0) -> Tracer:
    return Tracer(
        argv=(sys.executable, "-u", "-c", script), env=_ENVIRONMENT, attached="in place", lingers=lingers
    )


def settings(folder: Path) -> Settings:
    return Settings.read(environ=_ENVIRONMENT, config=None, root=folder, cwd=folder, venv=None)


def with_probes(folder: Path, *names: str) -> Path:
    """A real program with notes of such probes, at two places each."""
    path = folder / "program"
    shutil.copy(shutil.which("true") or "", path)
    made = [
        Probe(provider="node", name=name, address=at, arguments="4@%edi -8@%rsi", semaphore=0x40)
        for name in names
        for at in (0x1000, 0x2000)
    ]
    add_sections(path, probe_sections(made))
    return path


def test_held_program_has_done_nothing_until_it_is_let_go(tmp_path: Path) -> None:
    words = ["two words", "", "$1", "--"]
    argv = [sys.executable, "-c", WRITES, str(tmp_path / "out"), *words]
    with hold(argv, env={**_ENVIRONMENT, "NODE_OPTIONS": "--trace-gc"}, cwd=tmp_path) as held:
        time.sleep(0.2)
        assert not (tmp_path / "out").exists()
        held.let_go()
        assert held.process.wait(30) == 0
    assert (tmp_path / "out").read_text() == repr((words, None))


@linux
def test_program_stopped_at_exec_exists_and_has_not_run(tmp_path: Path) -> None:
    program = shutil.which("touch")
    assert program is not None
    with hold([program, "made"], env=_ENVIRONMENT, cwd=tmp_path) as held:
        held.stop_at_exec()
        running = Path(f"/proc/{held.process.pid}/exe").resolve()
        assert running == Path(program).resolve()
        assert not (tmp_path / "made").exists()
        held.let_go()
        assert held.process.wait(30) == 0
    assert (tmp_path / "made").exists()


@linux
def test_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"\x7fELF, and nothing else")
    (tmp_path / "none").chmod(0o755)
    with (
        hold([str(tmp_path / "none")], env=_ENVIRONMENT, cwd=tmp_path) as held,
        pytest.raises(UsageError, match="can't be run"),
    ):
        held.stop_at_exec()


@pytest.mark.parametrize("stopped", [False, pytest.param(True, marks=linux)])
def test_program_that_is_never_let_go_never_runs(tmp_path: Path, stopped: bool) -> None:
    argv = [sys.executable, "-c", WRITES, str(tmp_path / "out")]
    with hold(argv, env=_ENVIRONMENT, cwd=tmp_path) as held:
        if stopped:
            held.stop_at_exec()
    assert held.process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


def test_lines_are_read_until_the_tracer_is_stopped() -> None:
    script = """
import signal, sys, time
def end(*_): print('counted'); sys.exit()
signal.signal(signal.SIGINT, end)
sys.stdout.write('in place\\nfirst\\n')
sys.stdout.flush()
while True: time.sleep(1)
"""
    lines: list[str] = []
    with attach(stand_in(script), lines.append, privileged=""):
        pass
    assert lines == ["first", "counted"]


def test_line_with_terminal_sequences_is_escaped() -> None:
    lines: list[str] = []
    script = r"import sys; sys.stdout.buffer.write(b'in place\n/\x1b[2J\t\r##[error]\xff\n')"
    with attach(stand_in(script, lingers=10), lines.append, privileged=""):
        pass
    assert lines == [r"/\x1b[2J" + "\t" + r"\r#\x23[error]\xff"]


def test_tracer_that_ends_by_itself_is_left_in_peace() -> None:
    script = "import time; print('in place'); time.sleep(0.3); print('counted')"
    lines: list[str] = []
    with attach(stand_in(script, lingers=30), lines.append, privileged=""):
        pass
    assert lines == ["counted"]


def test_waiting_tracer_is_stopped_at_the_end() -> None:
    script = """
import signal, sys, time
def end(*_): print('counted'); sys.exit()
signal.signal(signal.SIGINT, end)
print('in place')
while True: time.sleep(1)
"""
    lines: list[str] = []
    looks = iter([False, True])
    with attach(stand_in(script), lines.append, privileged="") as tracer:
        tracer.wait(lambda: next(looks))
    assert lines == ["counted"]


def test_tracer_that_gives_up_reports_why() -> None:
    script = "import sys; sys.exit('ERROR: bpftrace currently only supports running as the root user.')"
    with (
        pytest.raises(UntraceableError, match="needs root") as caught,
        attach(stand_in(script), print, privileged="sudo it"),
    ):
        pytest.fail("it was not attached")
    assert caught.value.remedy == "Type: sudo it"


def test_tracer_that_never_attaches_is_ended() -> None:
    script = "import time; time.sleep(3600)"
    with (
        pytest.raises(UntraceableError, match="not attached within"),
        attach(stand_in(script), print, privileged="", patience=0.5),
    ):
        pytest.fail("it was not attached")
    assert [child.pid for child in psutil.Process().children() if script in child.cmdline()] == []


def test_tracer_that_fails_later_reports_why_too() -> None:
    script = "import sys; print('in place'); sys.exit('ERROR: out of memory')"
    with (
        pytest.raises(UntraceableError, match="out of memory"),
        attach(stand_in(script, lingers=30), print, privileged=""),
    ):
        pass


def test_nobody_who_takes_the_lines_ends_the_tracing() -> None:
    def take(line: str) -> None:
        raise BrokenPipeError(line)

    script = "print('in place'); print('x' * 1000000)\nwhile True: print('more')"
    with pytest.raises(BrokenPipeError), attach(stand_in(script, lingers=30), take, privileged="") as tracer:
        tracer.wait(lambda: False)


def test_signals_are_passed_on_and_handlers_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    got: list[signal.Signals] = []
    with signals_go_to(got.append):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert got == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before


def test_probes_of_any_program_are_listed_by_name_with_all_places(tmp_path: Path) -> None:
    rows = probes(with_probes(tmp_path, "gc__start", "gc__done"))
    assert [row.cells() for row in rows] == [
        ("node", name, "2: uint32 %edi, int64 %rsi", "0x1000 0x2000", "0x40")
        for name in ("gc__done", "gc__start")
    ]
    assert rows[0].as_data() == {
        "provider": "node",
        "name": "gc__done",
        "arguments": [
            {"size": 4, "signed": False, "place": "%edi"},
            {"size": 8, "signed": True, "place": "%rsi"},
        ],
        "addresses": [0x1000, 0x2000],
        "semaphore": 0x40,
    }


def test_program_without_probes_has_none() -> None:
    assert probes(Path(shutil.which("true") or "")) == ()


def test_program_for_macos_is_for_dtrace_to_list(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.write_bytes(bytes.fromhex("cffaedfe0c000001") + bytes(100))
    with pytest.raises(UsageError, match="sudo dtrace -l"):
        probes(path)


def test_binary_is_found_by_its_name_before_a_file(tmp_path: Path) -> None:
    published = tmp_path / "build" / "binaries" / "v20.19.2" / "node"
    published.parent.mkdir(parents=True)
    published.touch()
    (tmp_path / "v20.19.2").touch()
    (tmp_path / "other").touch()
    assert find_binary("v20.19.2", settings(tmp_path)) == published
    assert find_binary("./v20.19.2", settings(tmp_path)) == tmp_path / "v20.19.2"
    assert find_binary("other", settings(tmp_path)) == tmp_path / "other"


@pytest.mark.parametrize(("word", "told"), [("v1.2.3", "not found"), ("no/such", "no such file")])
def test_trace_without_a_script_is_wrong_usage(tmp_path: Path, word: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_binary(word, settings(tmp_path))


@linux
def test_trace_that_cannot_begin_leaves_no_file_and_one_that_was_there_alone(tmp_path: Path) -> None:
    program = with_probes(tmp_path, "gc__start", "gc__done")
    (tmp_path / "former").write_text("what was told before\n")
    for name in ("out", "former"):
        request = TraceRequest(script="http", binary=str(program), words=("x.js",), output=tmp_path / name)
        with pytest.raises(UsageError, match="http needs probes"):
            trace(request, settings(tmp_path), Reporter())
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "former").read_text() == "what was told before\n"


@linux
def test_process_that_has_ended_is_reported(tmp_path: Path) -> None:
    beyond = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    for pid in (beyond, 2**70):
        with pytest.raises(UsageError, match=f"no process {pid}"):
            trace(TraceRequest(script="gc", pid=pid), settings(tmp_path), Reporter())


@linux
def test_proof_that_cannot_be_tried_reports_why_and_fails_nothing(tmp_path: Path) -> None:
    program = with_probes(tmp_path, "gc__start", "gc__done")
    proof = prove(program, {"PATH": str(tmp_path)})
    assert proof == "unproven: There is no bpftrace on the PATH."
    text = tmp_path / "text"
    text.write_text("no program")
    assert prove(text, _ENVIRONMENT).startswith("unproven: ")


@linux
def test_wrong_file_raises_only_typed_errors(tmp_path: Path) -> None:
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", bytes(4096)):
        path = tmp_path / "file"
        path.write_bytes(content)
        path.chmod(0o755)
        request = TraceRequest(script="gc", binary=str(path), words=("x.js",))
        with pytest.raises(KilnError):
            trace(request, settings(tmp_path), Reporter())
        with pytest.raises(KilnError):
            probes(path)
