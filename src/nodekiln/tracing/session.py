"""Run a tracer: start it, wait until it is attached, read its output, and end it in every case."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from nodekiln.core.privileges import as_root
from nodekiln.core.process import end_group
from nodekiln.core.reporting import escape_unprintable
from nodekiln.tracing.tracer import Tracer, UntraceableError, diagnose

_ENDING = 10.0
"""Seconds that a tracer gets to print its results after the signal to end."""

_GLANCE = 0.5
"""Seconds between two looks whether it is over."""

Take = Callable[[str], None]


class Attached:
    """A running tracer."""

    def __init__(self, tracer: Tracer, take: Take) -> None:
        self._tracer, self._take = tracer, take
        self._settled = threading.Event()
        self._ready = False
        self._trouble: OSError | None = None
        self._said: list[str] = []
        with as_root() as identity:
            self._process = subprocess.Popen(
                tracer.argv,
                env=dict(tracer.env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is the program's; the tracer has to outlive it
                **identity,
            )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, take), daemon=True)
            for stream, take in (
                (self._process.stdout, self._take_line),
                (self._process.stderr, self._said.append),
            )
        ]
        for reader in self._readers:
            reader.start()

    @property
    def said(self) -> str:
        """Its stderr so far: everything once it has ended."""
        return "\n".join(self._said)

    def wait_until_ready(self, patience: float, privileged: str) -> None:
        """Until every probe is in place; raises UntraceableError where it gave up, or was too slow."""
        until = time.monotonic() + patience
        while not self._settled.wait(0.1):
            if self._process.poll() is not None:
                break
            if time.monotonic() > until:
                raise UntraceableError(
                    f"{self._tracer.argv[0]} was not attached within {patience:.0f} seconds.",
                    remedy="Look what it does: add -v to the command, without -q:\n  "
                    + " ".join(self._tracer.argv),
                )
        if not self._ready:
            self._process.wait()
            self._join()
            if not self._ready:
                raise diagnose(self.said, privileged=privileged)

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Until it ends by itself, as bpftrace does when the process it looks at ends, or all `is_over`."""
        while self._process.poll() is None and not is_over():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GLANCE)

    def tell_to_end(self) -> None:
        """Ask it to print its results and to end."""
        with as_root(), suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def finish(self) -> None:
        """End it after the traced process; everything it prints has been read then.

        Raises the OSError of a take that failed, and UntraceableError where the tracer failed.
        """
        try:
            self._process.wait(self._tracer.lingers)
        except subprocess.TimeoutExpired:
            self.tell_to_end()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING)
        if self._process.poll() is None:
            raise UntraceableError(
                f"{self._tracer.argv[0]} did not end, and was killed; its counts are lost."
            )
        self._join()
        if self._trouble is not None:
            raise self._trouble
        if self._process.returncode != 0:
            raise diagnose(self.said, privileged=" ".join(self._tracer.argv))

    def end(self) -> None:
        """Kills what is left of it."""
        if self._process.poll() is None:
            with as_root():
                end_group(self._process, ())
        self._join()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join()

    def _read(self, stream: IO[bytes], take: Take) -> None:
        with stream:
            for raw in stream:
                line = escape_unprintable(raw.removesuffix(b"\n"), keep="\t")  # may be the program's bytes
                if line == self._tracer.attached:
                    self._ready = True
                    self._settled.set()
                else:
                    take(line)

    def _take_line(self, line: str) -> None:
        """End tracing when lines can no longer be delivered; discard what is printed until then."""
        if self._trouble is None:
            try:
                self._take(line)
            except OSError as error:
                self._trouble = error
                self.tell_to_end()


@contextmanager
def attach(tracer: Tracer, take: Take, *, privileged: str, patience: float = 60) -> Iterator[Attached]:
    """Start a tracer and yield once it is attached; each printed line goes to `take`, in a thread.

    It is finished on the way out, or killed where an error goes through. Raises what `wait_until_ready` and
    `finish` raise.
    """
    attached = Attached(tracer, take)
    try:
        attached.wait_until_ready(patience, privileged)
        yield attached
        attached.finish()
    finally:
        attached.end()


@contextmanager
def signals_go_to(receive: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Hands requests to end (Ctrl-C, SIGTERM, SIGHUP) on instead of ending; ignored ones stay so."""
    former = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            former[number] = signal.signal(number, lambda got, _: receive(signal.Signals(got)))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
