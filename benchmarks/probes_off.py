"""What the probes cost while nobody traces: a stock binary against one with probes, of the same tag.

    python benchmarks/probes_off.py STOCK PROBES [OTHER_STOCK]

CPU time per operation, and the ratio to STOCK with its 95% interval. OTHER_STOCK is STOCK linked in another
layout: its ratio says how far from 1 a binary gets that does nothing else. Takes some four minutes.
"""

from __future__ import annotations

import math
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

_SEED = 20192
_SWEEPS = 24
"""Batches of every binary in a round. They take some 10 ms each, in random order, so that what else the
machine does meets all binaries alike."""
_RESAMPLES = 4000

_SERVER = """
const { writeSync } = require('fs');
const server = require('http').createServer((request, response) => {
  if (request.url === '/') return response.end('hello world');
  const { user, system } = process.cpuUsage();
  response.end(String(user + system).padStart(11));
});
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1', () => writeSync(1, `${server.address().port}\\n`));
"""
"""Both answers are of one length. CPU time goes over the connection that is there, in microseconds."""

_WRITER = """
const { readSync, writeSync } = require('fs');
const { Writable } = require('stream');
const count = Number(process.argv[1]);
const line = Buffer.alloc(1);
%s
(async () => {
  while (readSync(0, line) > 0) {
    const before = process.cpuUsage();
    await batch();
    const { user, system } = process.cpuUsage(before);
    writeSync(1, `${user + system}\\n`);
  }
})();
"""
"""Talks without streams: the sink's is the only Writable whose writes V8 learns from."""

_AT_ONCE = """
const chunk = Buffer.alloc(1);
const sink = new Writable({ write(chunk, encoding, done) { done(); } });
async function batch() {
  for (let i = 0; i < count; i++) sink.write(chunk);
  await new Promise(setImmediate);
}
"""

_LATER = """
const chunk = Buffer.alloc(1024);
const sink = new Writable({
  highWaterMark: 16 * 1024,
  write(chunk, encoding, done) { process.nextTick(done); },
});
let left, finished;
function fill() {
  while (left > 0) {
    left--;
    if (!sink.write(chunk)) return;
  }
  finished();
}
sink.on('drain', fill);
function batch() {
  left = count;
  return new Promise((resolve) => { finished = resolve; fill(); });
}
"""
"""Every sixteenth write() answers false and waits for 'drain'."""

Batch = Callable[[], float]
"""Runs one batch; returns nanoseconds of CPU time per operation, all threads of the process together."""


@dataclass(frozen=True)
class Work:
    """`start` runs a binary until the stack closes; `warm_up` batches go by before any is counted.

    Each of the `rounds` starts every binary anew: addresses and compiled code differ from process to process.
    """

    name: str
    start: Callable[[ExitStack, Path], Batch]
    warm_up: int
    rounds: int


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(stack: ExitStack, *argv: str | Path) -> Callable[[bytes], bytes]:
    """Starts a program; what is returned sends it bytes and waits for the line it answers."""
    process = stack.enter_context(
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
    )
    stack.callback(process.kill)

    def ask(request: bytes) -> bytes:
        assert process.stdin is not None  # noqa: S101 - both pipes were asked for above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(request)
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            sys.exit(f"{argv[0]} ended.")
        return answer

    return ask


def writer(program: str, count: int) -> Callable[[ExitStack, Path], Batch]:
    def start(stack: ExitStack, node: Path) -> Batch:
        ask = run(stack, node, "-e", _WRITER % program, str(count))
        return lambda: int(ask(b"\n")) * 1000 / count

    return start


def server(count: int) -> Callable[[ExitStack, Path], Batch]:
    """One connection, one request after the other, so that each wakes the server once."""

    def start(stack: ExitStack, node: Path) -> Batch:
        port = int(run(stack, node, "-e", _SERVER)(b""))
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))

        def get(path: str) -> bytes:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while len(answer.partition(b"\r\n\r\n")[2]) < len("hello world"):
                received = connection.recv(4096)
                if not received:
                    sys.exit(f"{node} closed the connection.")
                answer += received
            return answer.partition(b"\r\n\r\n")[2]

        def batch() -> float:
            before = int(get("/cpu"))
            for _ in range(count):
                get("/")
            return (int(get("/cpu")) - before) * 1000 / (count + 1)

        return batch

    return start


def one_round(work: Work, nodes: Sequence[Path], chance: random.Random) -> list[float]:
    """Nanoseconds per operation of each binary, the mean of its batches."""
    times: list[list[float]] = [[] for _ in nodes]
    with ExitStack() as stack:
        order = chance.sample(range(len(nodes)), len(nodes))
        started = {which: work.start(stack, nodes[which]) for which in order}
        for number in range(work.warm_up + _SWEEPS):
            for which in chance.sample(range(len(nodes)), len(nodes)):
                found = started[which]()
                if number >= work.warm_up:
                    times[which].append(found)
    return [statistics.fmean(found) for found in times]


def interval(values: Sequence[float], chance: random.Random) -> tuple[float, float]:
    """95% interval of the median, by percentiles of the bootstrap."""
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    edge = math.floor(_RESAMPLES * 0.025)
    return medians[edge], medians[-edge - 1]


def compare(work: Work, nodes: Sequence[Path], chance: random.Random) -> str:
    """One row of the table: median time of each binary, median of the paired ratios to the first."""
    rounds = [one_round(work, nodes, chance) for _ in range(work.rounds)]
    row = f"{work.name:22}"
    for found in zip(*rounds, strict=True):
        row += f"{statistics.median(found):9.1f} ns"
    for which in range(1, len(nodes)):
        ratios = [times[which] / times[0] for times in rounds]
        low, high = interval(ratios, chance)
        row += f"   {statistics.median(ratios):.4f} ({low:.4f} to {high:.4f})"
    return row


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def pin() -> str:
    """Keeps this process, the client, and all it starts on one core: the same caches for every binary."""
    if sys.platform != "linux":
        return "not pinned"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"pinned to core {core}"


WORKS = (
    Work("write(), done at once", writer(_AT_ONCE, 400_000), warm_up=8, rounds=40),
    Work("write(), done later", writer(_LATER, 64_000), warm_up=8, rounds=40),
    Work("HTTP request", server(400), warm_up=25, rounds=90),
)


def main(nodes: Sequence[Path]) -> None:
    chance = random.Random(_SEED)  # noqa: S311 - orders and resamples, no secrets
    say(f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, {pin()}")
    say(f"load {os.getloadavg()[0]:.1f}, {_SWEEPS} batches a round, seed {_SEED}")
    for node in nodes:
        say(f"  {node}: {node.stat().st_size} bytes")
    names = ["stock", "probes", "other stock"][: len(nodes)]
    head = f"{'CPU time per':22}" + "".join(f"{name:>12}" for name in names)
    say(head + "".join(f"   {name + ' / stock':25}" for name in names[1:]).rstrip())
    for work in WORKS:
        say(compare(work, nodes, chance))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main([Path(word).absolute() for word in sys.argv[1:]])
