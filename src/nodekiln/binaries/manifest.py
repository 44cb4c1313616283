"""manifest.json: everything needed to make a binary again, and what was found by running it.

The fields are those of the dataclasses here, under the same names; `schema` grows by one when a reader of an
older version would misread a newer file.
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
_MOST_TOLD = 64
"""Bytes of a range that are written out; a Mach-O signature has some 900 kB."""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change of the recipe; `sha256` is over its folder, None in manifests of schema 1."""

    name: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file that the plan changes: git's ids of it before (None: added) and after, and why."""

    path: str
    before: str | None
    after: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangedRange:
    """Bytes of the release that a graft changed: from `start` on, `old` became `new` (as text)."""

    path: str
    start: int
    length: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RewrittenRange:
    """Other bytes that a graft changed, in hexadecimal; None where they are too many to tell."""

    what: str
    start: int
    length: int
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class AppendedRange:
    """Bytes that the release does not have."""

    what: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class AddedProbe:
    """A probe that a graft added: a note that names an address, and where its arguments are found there."""

    provider: str
    name: str
    address: int
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Grafted:
    """What a graft was made from, and what it changed."""

    platform: str
    release: str
    """Where the release came from."""
    release_sha256: str
    release_size: int
    """Bytes. Where the binary has fewer, its end (the signature of a Mach-O file) was cut off."""
    release_checks: tuple[str, ...]
    changed: tuple[ChangedRange, ...]
    """Of Node's own JavaScript. Every byte that is in none of these three is the release's."""
    rewritten: tuple[RewrittenRange, ...]
    appended: tuple[AppendedRange, ...]
    probes: tuple[AddedProbe, ...]
    remarks: tuple[str, ...]
    """What whoever uses the binary should know."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One published binary. What a graft has none of (a commit, a toolchain, steps, ...) is empty."""

    name: str
    route: str
    """How it was made: "build" or "graft"."""
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
    """cc, cxx, identity, libc, python, generator, launcher, linker and its version, as they were used;
    `environment`: the other variables that configure wrote into the build files."""
    machine: dict[str, str]
    """system, release and processor of the machine that made it."""
    seconds: dict[str, float]
    """How long each step took."""
    steps: int
    """Steps that ninja or make ran."""
    sha256: str
    size: int
    """Bytes of the binary."""
    probes_seen: str | None
    """Whether a probe was seen to fire, or why that was not tried; None without probes."""
    self_check: Findings | None
    """What the binary answered; None where it could not be run here."""
    made: str
    """When it was published, UTC, ISO 8601."""
    made_by: str
    """nodekiln's version."""
    graft: Grafted | None = None
    """None for a build."""

    def to_json(self) -> str:
        """The text of manifest.json."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2) + "\n"


def rewritten_range(what: str, start: int, old: bytes, new: bytes) -> RewrittenRange:
    """A range as a manifest tells it."""
    told = len(new) <= _MOST_TOLD
    return RewrittenRange(what, start, len(new), old.hex() if told else None, new.hex() if told else None)


def planned_files(plan: Plan) -> tuple[PlannedFile, ...]:
    """The plan as a manifest tells it."""
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
        facts = json.loads(data)  # msgspec's own reader takes no names that are not UTF-8, as paths may be
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
