"""The causes of failed configure runs and compilations: known symptoms in the log (failures.toml)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodekiln.core.errors import BuildError
from nodekiln.core.files import is_disk_full

_KILLED = "out-of-memory"
"""The entry of failures.toml."""
_COLORS = re.compile(r"\x1b\[[\d;]{0,20}[mK]")
_SHOWN_LINES = 12
_DIAGNOSED = 2 * 2**20
"""Bytes at the end of a log that are searched for known symptoms."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A known failure, recognized by any of `patterns` in a log. `source` is a public thread, or empty."""

    name: str
    patterns: tuple[re.Pattern[str], ...]
    cause: str
    remedy: str
    source: str


@cache
def known_failures() -> tuple[Failure, ...]:
    """Return all known failures, the most specific first."""
    rows = tomllib.loads(Path(__file__).with_name("failures.toml").read_text())["failure"]
    return tuple(
        Failure(
            name=row["name"],
            patterns=tuple(re.compile(pattern, re.MULTILINE) for pattern in row["patterns"]),
            cause=row["cause"],
            remedy=row["remedy"],
            source=row.get("source", ""),
        )
        for row in rows
    )


def diagnose(log_text: str) -> tuple[Failure, ...]:
    """Return every known failure in the log, the most specific first. About 0.2 s for 2 MB.

    Colors in it are ignored, as of a Python traceback under FORCE_COLOR.
    """
    log_text = _COLORS.sub("", log_text)
    return tuple(
        failure
        for failure in known_failures()
        if any(pattern.search(log_text) for pattern in failure.patterns)
    )


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Add the end of `log` and known causes to a BuildError; raise BuildError for a full disk, too."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise BuildError(
            f"The disk is full: writing {error.filename or log.parent} failed.",
            remedy="Free some disk space and run the same command again: it continues from this point.",
        ) from None
    except BuildError as error:
        text = _end_of(log)
        last = [f"  | {line}" for line in text.splitlines()[-_SHOWN_LINES:]]
        causes = [
            f"  {failure.cause}\n  {failure.remedy}" + (f" ({failure.source})" if failure.source else "")
            for failure in diagnose(text)[:2]
        ]
        raise BuildError("\n".join([error.message, *last, *causes]), remedy=f"The whole log: {log}") from None


def was_killed(log: Path) -> bool:
    """Return True if `log` shows that the system killed a compiler or linker."""
    return any(failure.name == _KILLED for failure in diagnose(_end_of(log)))


def _end_of(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _DIAGNOSED))
        return file.read().decode(errors="backslashreplace")
    return ""
