"""Runs a binary and compares what it does with what its recipe says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodekiln.core.errors import CheckError, KilnError
from nodekiln.core.process import capture, error_line, without_node_options

_SCRIPT = Path(__file__).with_name("selfcheck.js")
_PATIENCE = 60
"""Seconds; the check takes about 0.1."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that went into a stream and bytes that came out."""

    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What a binary answered. `to_web` and `compression` are None where that Node has no such thing."""

    version: str
    recipe: str | None
    plan: str | None
    write_answers: bool
    to_web: Transfer | None
    compression: Transfer | None
    texts: Mapping[str, str | None] = field(default_factory=dict)
    """SHA-256 of the module texts that were asked for, by Node's id of the module; None: it has none such."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the recipe says; `recipe` and `plan` are the marks in process.config, None where it has none."""

    version: str
    recipe: str | None
    plan: str | None
    backpressure: bool
    texts: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the module texts that the plan makes, by Node's id of the module."""


def examine(binary: Path, *, env: Mapping[str, str], texts: Collection[str] = ()) -> Findings:
    """Runs the check inside `binary`; raises CheckError where it doesn't run or doesn't answer.

    `texts`: ids of modules ("internal/streams/writable") whose text is asked for.
    """
    clean = without_node_options(env)
    with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder:
        script = Path(folder) / "selfcheck.js"  # away from any package.json that would change how it is read
        script.write_bytes(_SCRIPT.read_bytes())
        try:
            argv = [str(binary), str(script), *texts]
            answer = capture(argv, env=clean, cwd=Path(folder), timeout=_PATIENCE)
        except OSError as error:
            raise CheckError(f"The binary can't be run: {error.strerror}.") from None
        except KilnError as error:
            raise CheckError(f"The self-check did not end: {error.message}") from None
    if answer.returncode != 0:
        last = error_line(answer.text)
        raise CheckError(f"The binary failed its self-check with exit code {answer.returncode}: {last}")
    try:
        found = json.loads(answer.stdout)
        return Findings(
            version=str(found["version"]),
            recipe=found["recipe"],
            plan=found["plan"],
            write_answers=bool(found["write_answers"]),
            to_web=Transfer(**found["to_web"]) if found["to_web"] else None,
            compression=Transfer(**found["compression"]) if found["compression"] else None,
            texts={name: found["texts"][name] for name in texts},
        )
    except (ValueError, KeyError, TypeError):
        raise CheckError("The binary answered the self-check with something else.") from None


def compare(found: Findings, expected: Expected) -> tuple[str, ...]:
    """Everything in which the binary is not what the recipe says; empty where it is."""
    wrong = [
        f"{what} is {seen!r}, and should be {wanted!r}"
        for what, seen, wanted in (
            ("process.version", found.version, expected.version),
            ("the recipe in process.config", found.recipe, expected.recipe),
            ("the plan in process.config", found.plan, expected.plan),
            ("the answer of write() on a full stream", found.write_answers, not expected.backpressure),
        )
        if seen != wanted
    ]
    for what, transfer in (("Writable.toWeb", found.to_web), ("CompressionStream", found.compression)):
        if transfer is not None and transfer.sent != transfer.received:
            wrong.append(f"{what} lost data: {transfer.received} of {transfer.sent} bytes came out")
    wrong += [
        f"the text of its module {name} is not what was planned"
        for name, digest in expected.texts.items()
        if found.texts.get(name) != digest
    ]
    return tuple(wrong)


def check(
    binary: Path,
    expected: Expected,
    *,
    env: Mapping[str, str],
    again: str = "Build again with --from-scratch",
) -> Findings:
    """Examines and compares; raises CheckError that lists all differences and how to make it `again`."""
    found = examine(binary, env=env, texts=expected.texts.keys())
    wrong = compare(found, expected)
    if wrong:
        raise CheckError(
            "The binary does not do what its recipe says, and was not published:\n  " + "\n  ".join(wrong),
            remedy=f"{again}; if that ends the same way, this is a bug of nodekiln.",
        )
    return found
