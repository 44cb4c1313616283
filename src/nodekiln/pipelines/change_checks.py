"""Run the checks that changes define for a finished binary in their change.toml."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodekiln.changes.registry import Change
from nodekiln.core.errors import CheckError, KilnError
from nodekiln.core.process import capture, without_node_options

_TIMEOUT = 60
"""Seconds; an expression takes about 0.05."""
_MAX_SHOWN = 200


def check_prints(changes: Iterable[Change], binary: Path, env: Mapping[str, str]) -> None:
    """Raise CheckError if the binary does not print what one of the changes says it must."""
    clean = without_node_options(env)
    for change in changes:
        for expression, expected in change.check.prints.items():
            with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder:
                argv = [str(binary.absolute()), "-p", expression]
                try:
                    answer = capture(argv, env=clean, cwd=Path(folder), timeout=_TIMEOUT)
                except (KilnError, OSError) as error:
                    raise _failed(change, expression, f"it can't be run: {error}") from None
            printed = answer.stdout.decode(errors="backslashreplace").strip()
            if answer.returncode != 0:
                raise _failed(change, expression, f"exit code {answer.returncode}")
            if printed != expected.strip():
                raise _failed(change, expression, f"it prints {printed[:_MAX_SHOWN]!r}, not {expected!r}")


def _failed(change: Change, expression: str, why: str) -> CheckError:
    return CheckError(
        f"The binary failed the check of the change {change.name}: node -p {expression!r}: {why}.",
        remedy=f"Correct the patches or [check.prints] in {change.folder}.",
    )
