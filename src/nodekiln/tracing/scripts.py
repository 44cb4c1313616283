"""List the scripts of ./inv trace and the probes that each needs.

A script names its target by a number or a file of ours that the tracer puts in ($1); nothing of a user's
becomes part of a program.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodekiln.core.errors import UsageError

_FOLDER = Path(__file__).with_name("scripts")
_NAMED = re.compile(r"^(?:usdt:\$1:node:|node\$1:::)([\w-]+)", re.MULTILINE)


class Language(StrEnum):
    """The language of a script, by its file's suffix."""

    BPFTRACE = "bt"
    DTRACE = "d"


@dataclass(frozen=True, slots=True)
class Script:
    """A tracer program, and the names of the probes that it needs as Linux writes them (gc__start)."""

    name: str
    path: Path
    probes: frozenset[str]


def script_names() -> tuple[str, ...]:
    """Return the names of all scripts, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob(f"*.{Language.BPFTRACE}")))


def find_script(name: str, language: Language) -> Script:
    """Return the script of that name; raise UsageError, naming the available ones, if it is unknown."""
    if name not in script_names():
        raise UsageError(
            f"Unknown script {name!r}.",
            remedy=f"Available scripts: {', '.join(script_names())}.",
        )
    path = _FOLDER / f"{name}.{language}"
    named = _NAMED.findall(path.read_text())
    return Script(name, path, frozenset(probe.replace("-", "__") for probe in named))


def require_probes(script: Script, there: Collection[str], file: str) -> None:
    """Raise UsageError if `file`, whose probes of the provider node are `there`, lacks some of them."""
    missing = sorted(script.probes - set(there))
    if missing:
        raise UsageError(
            f"{script.name} needs probes that {file} does not have: {', '.join(missing)}.\n"
            f"  It has: {', '.join(sorted(there)) or 'none'}.",
            remedy="./inv build --tag TAG makes a binary with all of them; a grafted one has gc's only.",
        )
