"""A failed step, told with the end of its log and with the cause of a symptom that is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nodekiln.core.errors import BuildError
from nodekiln.core.files import is_disk_full
from nodekiln.toolchain.diagnosis import diagnose

_KILLED = "out-of-memory"
"""The entry of failures.toml."""
_SHOWN_LINES = 12
_DIAGNOSED = 2 * 2**20
"""Bytes of a log's end that are searched for known symptoms."""


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Adds what `log` shows to a BuildError of the block; a disk that is full ends in one too."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise BuildError(
            f"The disk is full: {error.filename or log.parent} can't be written.",
            remedy="Make room and run the same command again: it goes on where this one stopped.",
        ) from None
    except BuildError as error:
        text = _end_of(log)
        last = [f"  | {line}" for line in text.splitlines()[-_SHOWN_LINES:]]
        causes = [
            f"  {told.cause}\n  {told.remedy}" + (f" ({told.source})" if told.source else "")
            for told in diagnose(text)[:2]
        ]
        raise BuildError("\n".join([error.message, *last, *causes]), remedy=f"The whole log: {log}") from None


def tells_of_a_kill(log: Path) -> bool:
    """Whether `log` shows that the system killed a compiler or linker."""
    return any(told.name == _KILLED for told in diagnose(_end_of(log)))


def _end_of(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _DIAGNOSED))
        return file.read().decode(errors="backslashreplace")
    return ""
