"""The scripts of ./inv trace on real workloads with known numbers, under bpftrace.

Builds two recipes through the command line. NODEKILN_PROBE_BINARIES takes the place of the builds: a binary
with probes and one with probes and without backpressure, joined as in PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.errors import CheckError
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.trace import TraceRequest, trace
from nodekiln.tracing.proof import prove

_ENVIRONMENT = dict(os.environ)
_PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.build, pytest.mark.trace, pytest.mark.xdist_group("probes")]


@dataclass(frozen=True)
class Built:
    """Two binaries with probes; `ignoring` has no backpressure."""

    stock: Path
    ignoring: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    if shutil.which("bpftrace") is None or os.geteuid() != 0:
        pytest.skip("tracing needs bpftrace and root")
    if given := _ENVIRONMENT.get("NODEKILN_PROBE_BINARIES"):
        stock, ignoring = map(Path, given.split(os.pathsep))
        yield Built(stock, ignoring)
        return
    if "NODEKILN_REPOSITORY" not in _ENVIRONMENT:
        pytest.skip("NODEKILN_REPOSITORY names no repository with a real Node tree")
    folder = tmp_path_factory.mktemp("kiln") / "build"
    paths = []
    for words in ((), ("--no-backpressure",)):
        argv = [
            sys.executable,
            str(_PROJECT / "src" / "nodekiln" / "__main__.py"),
            "build",
            "--tag",
            "v20.19.2",
            *words,
        ]
        env = {**_ENVIRONMENT, "NODEKILN_BUILD": str(folder)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        paths.append(Path(done.stdout.strip()))
    yield Built(*paths)
    shutil.rmtree(folder)


def traced(script: str, binary: Path, folder: Path, *words: str) -> tuple[int, str]:
    """Traces `binary` with these words, in `folder`: its exit code, and what the tracer told."""
    settings = Settings.read(
        environ={**_ENVIRONMENT, "NODE_OPTIONS": "--no-such-option"},
        config=None,
        root=folder,
        cwd=folder,
        venv=None,
    )
    request = TraceRequest(script=script, binary=str(binary), words=words, output=folder / "told")
    code = trace(request, settings, Reporter())
    return code, (folder / "told").read_text()


def write(folder: Path, text: str) -> str:
    (folder / "script.js").write_text(text)
    return "script.js"


def microseconds_since(begun: float) -> float:
    return (time.monotonic() - begun) * 1e6


def rows(told: str, name: str) -> dict[str, str]:
    """The entries of a map that bpftrace printed: what stands in brackets, and the number behind it."""
    found = re.findall(rf"^@{name}\[(.*)\]: (?:count )?(-?\d+)", told, re.MULTILINE)
    return dict(found)


GC = """
let kept = [];
for (let i = 0; i < 300; i++) {
  kept.push(Array.from({ length: 3000 }, (_, n) => ({ n, text: `${i} ${n}` })));
  if (kept.length > 40) kept = kept.slice(20);
  if (i % 50 === 25) gc();
}
if (process.argv.length > 2) {
  process.on('exit', () => console.log(JSON.stringify(process.argv.slice(2)), process.env.NODE_OPTIONS));
  process.exitCode = 3;
}
"""
PRINTED = re.compile(r"^\[\d+:0x\w+\]\s+\d+ ms: (?:Scavenge|Minor Mark|Mark-Compact)")


def test_gc_reports_a_line_for_each_that_trace_gc_prints(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From the first collection on, which comes while Node starts."""
    words = ("--trace-gc", "--expose-gc", "--random-seed=7", write(tmp_path, GC))
    code, told = traced("gc", built.stock, tmp_path, *words)
    printed = [line for line in capfd.readouterr().out.splitlines() if PRINTED.match(line)]
    lines = [line for line in told.splitlines() if re.fullmatch(r"\d+,\d+", line)]
    assert code == 0
    assert len(printed) > 10
    assert len(lines) == len(printed)
    by_type = {kind: int(count) for kind, count in rows(told, "duration_us_by_type").items()}
    assert by_type["4"] >= 6
    assert sum(by_type.values()) == len(lines)
    assert set(by_type) <= {"1", "2", "4"}
    assert set(rows(told, "other_us_by_type")) <= {"8", "16"}
    assert "@duration_us:\n[" in told
    ends = [int(line.split(",")[0]) for line in lines]
    assert ends == sorted(ends)


def test_program_gets_its_arguments_unchanged_and_its_exit_code_is_reported(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["two words", "", '"', "$1", "str($1)", "-c", "*"]
    (tmp_path / "told").write_text("of a former trace\n" * 1000)
    code, told = traced("gc", built.stock, tmp_path, "--expose-gc", write(tmp_path, GC), *words)
    out, err = capfd.readouterr()
    assert code == 3
    assert out == '["two words","","\\"","$1","str($1)","-c","*"] undefined\n'
    assert "ended with exit code 3" in err
    assert "@duration_us" in told
    assert "former" not in told


def test_path_with_patterns_and_quotes_is_traced(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "a *[b] \"c' $1 {}"
    folder.mkdir()
    binary = Path(shutil.copy(built.stock, folder / "no de"))
    _, told = traced("gc", binary, tmp_path, "--expose-gc", "-e", "for (let i = 0; i < 5; i++) gc()")
    assert int(rows(told, "duration_us_by_type")["4"]) >= 5


HTTP = """
const http = require('http');
const net = require('net');
const server = http.createServer((request, response) => setTimeout(() => response.end('thanks'), 2));
const ask = (options) => new Promise((resolve, reject) => http.request(
  { host: '127.0.0.1', port: server.address().port, ...options },
  (response) => response.resume().on('end', resolve)).on('error', reject).end());
server.listen(0, '127.0.0.1', async () => {
  const agent = new http.Agent({ keepAlive: true });
  for (let i = 0; i < 7; i++) await ask({ path: '/seven', agent });
  await Promise.all(Array.from({ length: 11 }, () => ask({ path: '/eleven', method: 'POST' })));
  for (let i = 0; i < 3; i++) await ask({ path: '/seven', method: 'PUT' });
  agent.destroy();
  for (let i = 0; i < 5; i++) {  // a request that is left alone, on a file descriptor that is used again
    await new Promise((resolve) => {
      const socket = net.connect(server.address().port, '127.0.0.1', () => {
        socket.write('GET /left HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n');
        server.once('request', () => socket.destroy());
      }).on('close', resolve);
    });
    await ask({ path: '/after' });
  }
  const unix = http.createServer((request, response) => response.end());
  await new Promise((resolve) => unix.listen('unix', resolve));
  for (let i = 0; i < 13; i++) await ask({ socketPath: 'unix', path: '/unix' });
  unix.close();
  const pipelined = [1, 2, 3].map((n) => `GET /pipelined/${n} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n`).join('');
  const socket = net.connect(server.address().port, '127.0.0.1', () => socket.write(pipelined));
  let answers = 0;
  socket.on('data', (data) => {
    answers += data.toString().split('thanks').length - 1;
    if (answers === 3) { socket.end(); server.close(); }
  });
});
"""


def test_http_counts_requests_by_method_and_url_on_both_sides(built: Built, tmp_path: Path) -> None:
    begun = time.monotonic()
    _, told = traced("http", built.stock, tmp_path, write(tmp_path, HTTP))
    elapsed = microseconds_since(begun)
    asked = {"GET, /seven": "7", "POST, /eleven": "11", "PUT, /seven": "3", "GET, /after": "5"}
    assert rows(told, "client_us") == asked
    pipelined = {f"GET, /pipelined/{n}": "1" for n in (1, 2, 3)}
    served = rows(told, "server_us")
    served.pop("GET, /left", None)  # whether the response to nobody is finished is Node's affair
    assert served == {**asked, **pipelined}
    averages = [int(us) for us in re.findall(r"^@(?:server|client)_us\[.*average (\d+)", told, re.MULTILINE)]
    assert min(averages) > 1_000
    one_by_one = re.findall(r"^@client_us\[\w+, /(?:seven|after)\].*total (\d+)", told, re.MULTILINE)
    assert len(one_by_one) == 3
    assert sum(map(int, one_by_one)) < elapsed
    assert "@server_latency_us[GET, /seven]:\n[" in told
    assert "@server_untimed: 13\n" in told
    assert "@client_untimed: 13\n" in told


STREAMS = """
const { Writable } = require('stream');
const slow = new Writable({ highWaterMark: 10, write(chunk, encoding, done) { setTimeout(done, 5); } });
const fast = new Writable({ write(chunk, encoding, done) { done(); } });
(async () => {
  for (let i = 0; i < 13; i++) {
    fast.write('four');
    if (!slow.write('four')) await new Promise((resolve) => slow.once('drain', resolve));
  }
})();
"""


def test_backpressure_reports_who_pushed_back_and_how_long(built: Built, tmp_path: Path) -> None:
    """Every third of 13 chunks of 4 bytes fills a stream that takes 10."""
    begun = time.monotonic()
    _, told = traced("backpressure", built.stock, tmp_path, write(tmp_path, STREAMS))
    elapsed = microseconds_since(begun)
    ((stream, times),) = rows(told, "pushed_back_by_stream_fd_highwatermark").items()
    assert (stream.split(", ")[1:], times) == (["-1", "10"], "4")
    assert list(rows(told, "most_buffered_by_stream").values()) == ["12"]
    assert list(rows(told, "until_drain_us_by_stream").values()) == ["4"]
    ((average, total),) = re.findall(
        r"^@until_drain_us_by_stream.*average (\d+), total (\d+)", told, re.MULTILINE
    )
    assert int(average) > 4_000  # the last of its chunks takes 5 ms, and timers count in whole ones
    assert int(total) < elapsed
    for empty in ("ignored_writes_by_stream", "ignored_bytes_by_stream", "not_drained_by_stream"):
        assert rows(told, empty) == {}


def test_backpressure_counts_what_was_ignored(built: Built, tmp_path: Path) -> None:
    """The third chunk fills it, and ten more of 4 bytes are written before it drains."""
    _, told = traced("backpressure", built.ignoring, tmp_path, write(tmp_path, STREAMS))
    assert list(rows(told, "pushed_back_by_stream_fd_highwatermark").values()) == ["11"]
    assert list(rows(told, "ignored_writes_by_stream").values()) == ["10"]
    assert list(rows(told, "ignored_bytes_by_stream").values()) == ["40"]
    assert list(rows(told, "most_buffered_by_stream").values()) == ["52"]
    assert list(rows(told, "until_drain_us_by_stream").values()) == ["1"]


def test_stream_that_never_drains_is_reported(built: Built, tmp_path: Path) -> None:
    script = (
        "new (require('stream').Writable)({ highWaterMark: 1, write() {} }).write('more');"
        "process.stdout.write('');"
    )
    _, told = traced("backpressure", built.stock, tmp_path, "-e", script)
    assert list(rows(told, "not_drained_by_stream").values()) == ["1"]


ON_DEMAND = (
    "process.stdin.on('data', (data) => { for (const _ of data.toString()) gc(); console.log('done'); })"
)
ATTACH = """
import os, sys
from pathlib import Path
from nodekiln.cli.command import run_command
from nodekiln.core.reporting import Reporter
from nodekiln.pipelines.trace import TraceRequest, trace
from nodekiln.core.settings import Settings
here = Path.cwd()
settings = Settings.read(environ=os.environ, config=None, root=here, cwd=here, venv=None)
words = sys.argv[1:]
if words[0] == '--pid':
    request = TraceRequest(script='gc', pid=int(words[1]))
else:
    request = TraceRequest(script='gc', binary=words[0], words=tuple(words[1:]))
sys.exit(run_command(lambda: trace(request, settings, Reporter())))
"""


def start(argv: list[str], folder: Path) -> subprocess.Popen[str]:
    """Somewhere with no terminal, so that signals come from us alone."""
    return subprocess.Popen(
        argv,
        cwd=folder,
        env={**_ENVIRONMENT, "PYTHONPATH": str(_PROJECT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("place", ["here", "deleted", "other mount namespace"])
def test_running_process_is_traced_until_ctrl_c_and_runs_on(built: Built, tmp_path: Path, place: str) -> None:
    binary = tmp_path / "node" if place == "deleted" else built.stock
    if place == "deleted":
        shutil.copy2(built.stock, binary)
    prefix = ["unshare", "--mount", "--propagation", "unchanged"] if place == "other mount namespace" else []
    busy = "setInterval(gc, 20)"  # another process of the same file, which must not be counted
    with (
        start([str(binary), "--expose-gc", "-e", busy], tmp_path) as other,
        start([*prefix, str(binary), "--expose-gc", "-e", ON_DEMAND], tmp_path) as node,
    ):
        assert node.stdin is not None
        assert node.stdout is not None
        try:
            node.stdin.write("12345")  # before the tracer: not counted
            node.stdin.flush()
            assert node.stdout.readline() == "done\n"
            if place == "deleted":
                binary.unlink()
            with start([sys.executable, "-c", ATTACH, "--pid", str(node.pid)], tmp_path) as tracing:
                assert tracing.stderr is not None
                assert "Ctrl-C ends it" in tracing.stderr.readline()
                node.stdin.write("1234567")
                node.stdin.flush()
                assert node.stdout.readline() == "done\n"
                tracing.send_signal(signal.SIGINT)
                told, _ = tracing.communicate(timeout=60)
            assert tracing.returncode == 0
            assert int(rows(told, "duration_us_by_type")["4"]) == 7
            node.stdin.write("1")
            node.stdin.flush()
            assert node.stdout.readline() == "done\n"
        finally:
            node.kill()
            other.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_passed_to_the_program_and_counts_are_printed(
    built: Built, tmp_path: Path, number: signal.Signals
) -> None:
    script = f"""
      process.on('{number.name}', () => process.exit(5));
      gc();
      console.log('up');
      setInterval(() => {{}}, 1000);
    """
    words = [str(built.stock), "--expose-gc", "-e", script]
    with start([sys.executable, "-c", ATTACH, *words], tmp_path) as tracing:
        assert tracing.stdout is not None
        lines = iter(tracing.stdout.readline, "")
        assert any(line == "up\n" for line in lines)
        tracing.send_signal(number)
        told, err = tracing.communicate(timeout=60)
    assert tracing.returncode == 5, err
    assert "@duration_us_by_type[4]" in told


def test_binary_proves_that_its_probes_fire(built: Built) -> None:
    proof = prove(built.stock, _ENVIRONMENT)
    assert proof == "node:gc__start and node:gc__done fired under bpftrace"


def test_probes_that_are_listed_and_never_fire_fail_the_proof(built: Built, tmp_path: Path) -> None:
    """As in nodejs/node#43651; here the notes name places that a program without a server never comes to."""
    with open_elf(built.stock) as elf:
        probes = {probe.name: probe for probe in read_probes(elf)}
    content = built.stock.read_bytes()
    for name, elsewhere in (
        ("gc__start", probes["http__server__request"]),
        ("gc__done", probes["http__server__response"]),
    ):
        rest = struct.pack("<QQ", probes[name].base, probes[name].semaphore) + f"node\0{name}\0".encode()
        note = struct.pack("<Q", probes[name].address) + rest
        assert content.count(note) == 1
        content = content.replace(note, struct.pack("<Q", elsewhere.address) + rest)
    quiet = tmp_path / "node"
    quiet.write_bytes(content)
    quiet.chmod(0o755)
    with pytest.raises(CheckError, match="none fired"):
        prove(quiet, _ENVIRONMENT)
