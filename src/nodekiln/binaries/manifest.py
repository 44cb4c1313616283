"""manifest.json: everything needed to make a binary again, and the results of running it.

Its fields are those of the dataclasses below. `schema` increases when an older reader would misread a newer
file.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from nodekiln.binaries.selfcheck import Findings
from nodekiln.core.edit import Plan
from nodekiln.core.errors import KilnError

SCHEMA = 2
_SCHEMA_1 = (("backpressure", False, "no-backpressure"), ("probes", True, "usdt"))
"""Schema 1 had a boolean for each of the two changes: field, value that selects the change, change."""
_MAX_BYTES = 64
"""Longest range whose bytes are included; a Mach-O signature has about 900 kB."""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change of the recipe; `sha256` is over its folder, None in manifests of schema 1."""

    name: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file that the plan changes: git's ids before (None: added) and after, and the reasons."""

    path: str
    before: str | None
    after: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangedRange:
    """A range of the release that a graft changed: at `start`, `old` became `new` (as text)."""

    path: str
    start: int
    length: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RewrittenRange:
    """Other bytes that a graft changed, in hexadecimal; None if the range is too long to include."""

    what: str
    start: int
    length: int
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class AppendedRange:
    """Bytes that a graft appended to the release."""

    what: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class AddedProbe:
    """A probe that a graft added: a note with an address and the location of the arguments there."""

    provider: str
    name: str
    address: int
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Grafted:
    """The origin of a graft, and everything that it changed."""

    platform: str
    release: str
    """URL or path of the release."""
    release_sha256: str
    release_size: int
    """Bytes. If the binary has fewer, its end (the signature of a Mach-O file) was removed."""
    release_checks: tuple[str, ...]
    changed: tuple[ChangedRange, ...]
    """Ranges of Node's JavaScript. Bytes outside `changed`, `rewritten` and `appended` are the release's."""
    rewritten: tuple[RewrittenRange, ...]
    appended: tuple[AppendedRange, ...]
    probes: tuple[AddedProbe, ...]
    remarks: tuple[str, ...]
    """Notes for users of the binary."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One published binary. Fields that do not apply to a graft (commit, toolchain, steps, ...) are empty."""

    name: str
    route: str
    """ "build" or "graft"."""
    tag: str
    changes: tuple[AppliedChange, ...]
    repository: str
    commit: str
    plan: str
    """The plan's digest."""
    planned: tuple[PlannedFile, ...]
    configure_args: tuple[str, ...]
    config: dict[str, Any]
    """The variables of config.gypi, as configure wrote them."""
    toolchain: dict[str, str]
    """cc, cxx, identity, libc, python, generator, launcher, linker and its version, as used; `environment`:
    the other variables that configure wrote into the build files."""
    machine: dict[str, str]
    """System, release and processor of the machine that made it."""
    seconds: dict[str, float]
    """Duration of each step."""
    steps: int
    """Number of steps that ninja or make ran."""
    sha256: str
    size: int
    """Size of the binary in bytes."""
    probes_seen: str | None
    """The result of tracing a probe, or why that was not tried; None without probes."""
    self_check: Findings | None
    """The results of the self-check; None if the binary can't run on the machine that made it."""
    made: str
    """Time of publication, UTC, ISO 8601."""
    made_by: str
    """Version of nodekiln."""
    graft: Grafted | None = None
    """None for a build."""

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2) + "\n"


def rewritten_range(what: str, start: int, old: bytes, new: bytes) -> RewrittenRange:
    """Return the manifest's entry for a range."""
    is_short = len(new) <= _MAX_BYTES
    return RewrittenRange(
        what, start, len(new), old.hex() if is_short else None, new.hex() if is_short else None
    )


def planned_files(plan: Plan) -> tuple[PlannedFile, ...]:
    """Return the manifest's entries for a plan."""
    return tuple(PlannedFile(edit.path, edit.base_id, edit.after_id, edit.reasons) for edit in plan.edits)


@dataclass(frozen=True, slots=True)
class _Head:
    schema: int


@dataclass(frozen=True, slots=True)
class _Booleans:
    backpressure: bool
    probes: bool


def read_facts(data: bytes) -> dict[str, Any]:
    """Return a manifest as plain data with the fields of `Manifest`; fields added later may be missing.

    A manifest of schema 1 is converted. Raises KilnError if it is damaged or of a newer schema.
    """
    try:
        facts = json.loads(data)  # msgspec.json refuses strings that are not UTF-8, as paths may be
        schema = msgspec.convert(facts, _Head).schema
        if schema > SCHEMA:
            raise KilnError(f"manifest.json was written by a newer nodekiln (schema {schema}).")
        if schema < 2:
            facts = _from_schema_1(facts)
        msgspec.convert(facts, Manifest)
    except msgspec.ValidationError as error:
        raise KilnError(f"manifest.json is damaged: {error}.") from None
    except (ValueError, RecursionError):
        raise KilnError("manifest.json is damaged.") from None
    return dict(facts)


def _from_schema_1(facts: dict[str, Any]) -> dict[str, Any]:
    old = msgspec.convert(facts, _Booleans)
    changes = [
        {"name": name, "sha256": None}
        for field, selected, name in _SCHEMA_1
        if getattr(old, field) is selected
    ]
    return {**facts, "schema": SCHEMA, "changes": changes}
