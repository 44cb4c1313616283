"""Run a binary: compare its behavior with its recipe, and run the checks that its changes define."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodekiln.changes.registry import Change
from nodekiln.core.errors import CheckError, KilnError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture, error_line, without_node_options
from nodekiln.core.reporting import escape_unprintable

_SCRIPT = Path(__file__).with_name("selfcheck.js")
_TIMEOUT = 60
"""Seconds; the check takes about 0.8."""
_WRITE = "write()"
_STOCK_LOSES = "Writable.toWeb of a full sink"
"""Every stock Node loses one chunk there (18 to 26)."""
_UNCERTAIN_IN_STOCK = ("CompressionStream", "gzip")
"""Whether zlib's threads keep up decides how far these get in a stock Node."""
_NO_NETWORK = re.compile(r"\b(?:EACCES|EPERM|EADDRNOTAVAIL|EAFNOSUPPORT|ENETUNREACH)\b")
"""Errors of sockets in a sandbox without a loopback interface: they say nothing about the binary."""
_MAX_SHOWN = 200
_MAX_OUTPUT = 1000


@dataclass(frozen=True, slots=True)
class PathResult:
    """What happened on one path by which data gets into a sink that takes none, and takes all in the end.

    `unbounded` is True if the source could write everything without waiting; `sent` and `received` are bytes.
    `error` is set instead if the path could not be tried to its end.
    """

    unbounded: bool | None = None
    sent: int = 0
    received: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """The output of the self-check; `paths` has only those that this Node has."""

    version: str
    recipe: str | None
    plan: str | None
    write_answers: bool
    """What write() returned on a full stream."""
    paths: Mapping[str, PathResult] = field(default_factory=dict)
    texts: Mapping[str, str | None] = field(default_factory=dict)
    """SHA-256 of the requested module texts, by Node's id of the module; None if it has no such module."""

    @property
    def summary(self) -> str:
        """The result in a few words."""
        returned = str(self.write_answers).lower()
        tried = [result for result in self.paths.values() if result.error is None]
        unbounded = sum(bool(result.unbounded) for result in tried)
        return (
            f"{self.version}, write() returns {returned} on a full stream,"
            f" {unbounded} of {len(tried)} paths unbounded"
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What the recipe promises; `recipe` and `plan` are the markers in process.config, None for a graft."""

    version: str
    recipe: str | None
    plan: str | None
    backpressure: bool
    texts: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the planned module texts, by Node's id of the module."""


def examine(binary: Path, *, env: Mapping[str, str], texts: Collection[str] = ()) -> Findings:
    """Run the check inside `binary`; raise CheckError if it fails or prints no result.

    `texts` are ids of modules ("internal/streams/writable") whose text is hashed.
    """
    clean = without_node_options(env)
    with temporary_directory() as folder:
        script = folder / "selfcheck.js"  # away from any package.json that would change how it is read
        script.write_bytes(_SCRIPT.read_bytes())
        try:
            argv = [str(binary), str(script), *texts]
            answer = capture(argv, env=clean, cwd=folder, timeout=_TIMEOUT)
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
            write_answers=bool(found["paths"][_WRITE]["unbounded"]),
            paths={name: PathResult(**each) for name, each in found["paths"].items() if each is not None},
            texts={name: found["texts"][name] for name in texts},
        )
    except (ValueError, KeyError, TypeError):
        raise CheckError("The self-check printed something else than its result.") from None


def compare(found: Findings, expected: Expected) -> tuple[str, ...]:
    """Return all differences between the binary and its recipe; empty if there are none."""
    wrong = [
        f"{what} is {seen!r}, and should be {wanted!r}"
        for what, seen, wanted in (
            ("process.version", found.version, expected.version),
            ("the recipe in process.config", found.recipe, expected.recipe),
            ("the plan in process.config", found.plan, expected.plan),
            ("the result of write() on a full stream", found.write_answers, not expected.backpressure),
        )
        if seen != wanted
    ]
    for name, result in found.paths.items():
        wrong += _differences(name, result, expected)
    wrong += [
        f"the text of its module {name} is not what was planned"
        for name, digest in expected.texts.items()
        if found.texts.get(name) != digest
    ]
    return tuple(wrong)


def _differences(name: str, result: PathResult, expected: Expected) -> Iterator[str]:
    if result.error is not None:
        if _NO_NETWORK.search(result.error) is None:
            yield f"{name} could not be tried: {result.error}"
        return
    if name != _WRITE and bool(result.unbounded) is expected.backpressure:
        if not expected.backpressure:
            yield f"{name} waits for 'drain', and should not"
        elif name not in _UNCERTAIN_IN_STOCK:
            yield f"{name} never waits for 'drain', and should"
    if result.received != result.sent and not (expected.backpressure and name == _STOCK_LOSES):
        yield f"{name} lost data: {result.received} of {result.sent} bytes came out"


def check(
    binary: Path,
    expected: Expected,
    *,
    env: Mapping[str, str],
    again: str = "Build again with --from-scratch",
) -> Findings:
    """Examine and compare; raise CheckError that lists all differences, with `again` as the remedy."""
    found = examine(binary, env=env, texts=expected.texts.keys())
    wrong = compare(found, expected)
    if wrong:
        raise CheckError(
            "The binary does not do what its recipe says, and was not published:\n  " + "\n  ".join(wrong),
            remedy=f"{again}; if that ends the same way, this is a bug of nodekiln.",
        )
    return found


def check_changes(changes: Iterable[Change], binary: Path, env: Mapping[str, str]) -> None:
    """Raise CheckError if the binary fails a check of one of the changes: what it prints, or a script."""
    clean = without_node_options(env)
    for change in changes:
        for expression, expected in change.check.prints.items():
            with temporary_directory() as folder:
                argv = [str(binary.absolute()), "-p", expression]
                try:
                    answer = capture(argv, env=clean, cwd=folder, timeout=_TIMEOUT)
                except (KilnError, OSError) as error:
                    raise _failed(change, expression, f"it can't be run: {error}") from None
            printed = answer.stdout.decode(errors="backslashreplace").strip()
            if answer.returncode != 0:
                raise _failed(change, expression, f"exit code {answer.returncode}")
            if printed != expected.strip():
                raise _failed(change, expression, f"it prints {printed[:_MAX_SHOWN]!r}, not {expected!r}")
        if change.check.script:
            _run_script(change, binary, clean)


def _run_script(change: Change, binary: Path, env: Mapping[str, str]) -> None:
    script = change.folder / change.check.script
    with temporary_directory() as folder:
        argv = [str(binary.absolute()), str(script.absolute())]
        try:
            answer = capture(argv, env=env, cwd=folder, timeout=_TIMEOUT)
            why = f"exit code {answer.returncode}" if answer.returncode else ""
            tail = answer.text.strip()[-_MAX_OUTPUT:]
        except (KilnError, OSError) as error:
            why, tail = f"it can't be run: {error}", ""
    if why:
        output = f"\n  {escape_unprintable(tail, keep=chr(10))}" if tail else ""
        raise CheckError(
            f"The binary failed the check of the change {change.name}: {change.check.script}: {why}.{output}",
            remedy=f"Correct the patches or {script}.",
        )


def _failed(change: Change, expression: str, why: str) -> CheckError:
    return CheckError(
        f"The binary failed the check of the change {change.name}: node -p {expression!r}: {why}.",
        remedy=f"Correct the patches or [check.prints] in {change.folder}.",
    )
