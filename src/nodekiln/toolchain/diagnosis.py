"""Why configure or a compilation failed: symptoms in the log, with cause and remedy.

Pure: takes the end of a log as text. What is known stands in failures.toml.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SHOWN = 200
"""Characters of a log line that an explanation quotes: a compiler's command line has thousands."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A known failure: any of `patterns` in a log means it. `source` is a public thread, or empty."""

    name: str
    patterns: tuple[re.Pattern[str], ...]
    cause: str
    remedy: str
    source: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cause, what to type next, where it is discussed (or empty), and the line of the log that tells."""

    name: str
    cause: str
    remedy: str
    source: str
    line: str


@cache
def known_failures() -> tuple[Failure, ...]:
    """All failures that can be explained, the most specific first."""
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


def diagnose(log_text: str) -> tuple[Explanation, ...]:
    """Every known cause that the log shows, each once, the most specific first; none where nothing is known.

    Time grows with the length of the text: about 0.2 s for 2 MB.
    """
    explanations = []
    for failure in known_failures():
        for pattern in failure.patterns:
            if (match := pattern.search(log_text)) is not None:
                line = _line_around(log_text, match.start())
                explanations.append(
                    Explanation(failure.name, failure.cause, failure.remedy, failure.source, line)
                )
                break
    return tuple(explanations)


def _line_around(text: str, position: int) -> str:
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[begin : end if end >= 0 else len(text)]
    # Of a long line the part with the symptom.
    offset = max(0, position - begin - _SHOWN // 4) if len(line) > _SHOWN else 0
    return line[offset : offset + _SHOWN].strip()
