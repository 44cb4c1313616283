"""ELF notes that say something of a binary: where its USDT probes are, and which binary of ours it is.

Knows the content of notes; file.py knows their location in a file.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodekiln.core.elf.file import NOTE, Buffer, Elf, ElfError
from nodekiln.core.elf.sections import BYTES, NewSection

PROBES = ".note.stapsdt"
"""The section in which tracers find USDT probes."""
IDENTITY = ".note.nodekiln"
"""The section that identifies a grafted file."""

_BASE = ".stapsdt.base"

_NOTE = struct.Struct("<III")
_PROBE = struct.Struct("<QQQ")
_PROBE_NOTE = 3
_IDENTITY_NOTE = 0x6B696C6E
_IDENTITY_SCHEMA = 1
_MAX_IDENTITY = 4096
_MAX_COUNT = 10_000
"""Notes before a file is taken for a hostile one; a Node with every probe we know of has eleven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A USDT probe as in a stapsdt note. Semaphore 0: none; base 0: `address` is absolute."""

    provider: str
    name: str
    address: int
    arguments: str
    """Size and place of each, as in "4@%esi 8@%rdi"; a minus before the size says signed."""
    base: int = 0
    semaphore: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of a binary made by nodekiln: the recipe's name, the plan's digest, the route."""

    recipe: str
    plan: str
    route: str
    changes: tuple[str, ...] | None = None
    """Names of its changes; None if the file does not say."""


def probe_sections(probes: Iterable[Probe]) -> tuple[NewSection, ...]:
    """Return the sections that describe these probes to tracers, with a base address of 0.

    Layout: sourceware.org/systemtap/wiki/UserSpaceProbeImplementation. gdb looks at no probe of a file that
    has no section .stapsdt.base; others take its address, 0 here, for what a note's base is compared with.
    """
    notes = b"".join(
        _note(
            b"stapsdt",
            _PROBE_NOTE,
            _PROBE.pack(probe.address, probe.base, probe.semaphore)
            + b"".join(text.encode() + b"\0" for text in (probe.provider, probe.name, probe.arguments)),
        )
        for probe in probes
    )
    return NewSection(PROBES, notes, NOTE), NewSection(_BASE, b"\0", BYTES)


def read_probes(elf: Elf) -> tuple[Probe, ...]:
    """Return the USDT probes in a program's notes; raise ElfError for unreadable notes."""
    probes = []
    for kind, description in _notes(elf, PROBES, b"stapsdt"):
        texts = description[_PROBE.size :].decode(errors="backslashreplace").split("\0")
        if kind != _PROBE_NOTE or len(description) < _PROBE.size or len(texts) < 4:
            raise ElfError(elf.file, "has a probe note that can't be read")
        address, base, semaphore = _PROBE.unpack_from(description)
        provider, name, arguments, *_ = texts
        if not (provider + name + arguments).isprintable():  # a terminal would take it for commands
            raise ElfError(elf.file, "has a probe note that can't be read")
        probes.append(
            Probe(
                provider=provider,
                name=name,
                address=address,
                arguments=arguments,
                base=base,
                semaphore=semaphore,
            )
        )
    return tuple(probes)


def identity_section(identity: Identity) -> NewSection:
    """Return the note that identifies a binary, as JSON, so that `strings` shows it too."""
    identity_data = {
        "schema": _IDENTITY_SCHEMA,
        "recipe": identity.recipe,
        "plan": identity.plan,
        "route": identity.route,
        "changes": identity.changes,
    }
    return NewSection(IDENTITY, _note(b"nodekiln", _IDENTITY_NOTE, json.dumps(identity_data).encode()), NOTE)


def read_identity(elf: Elf) -> Identity | None:
    """Return the identity in the file's note, or None if it has none.

    Raises ElfError for a note that can't be read: damaged, or of a newer schema. The texts are printable.
    """
    notes = [text for kind, text in _notes(elf, IDENTITY, b"nodekiln") if kind == _IDENTITY_NOTE]
    if not notes:
        return None
    try:
        facts = json.loads(notes[0][:_MAX_IDENTITY])
        schema = int(facts["schema"])
        texts = [facts[name] for name in ("recipe", "plan", "route")]
        changes = facts.get("changes")  # missing in grafts of earlier versions
        if len(notes) > 1 or not all(
            isinstance(text, str) and text.isprintable() for text in (*texts, *(changes or ()))
        ):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ElfError(elf.file, "has a note of nodekiln that is damaged") from None
    if schema > _IDENTITY_SCHEMA:
        raise ElfError(elf.file, f"has a note of a newer nodekiln (schema {schema})")
    recipe, plan, route = texts
    return Identity(
        recipe=recipe, plan=plan, route=route, changes=None if changes is None else tuple(changes)
    )


def find_marks(data: Buffer) -> Identity | None:
    """Return the identity in the config.gypi text of a built binary of any format, or None.

    Two different recipes or plans in one file say nothing either. Reads on until the end (0.05 s for 120 MB).
    """
    found: dict[bytes, bytes] = {}
    for mark in re.finditer(rb'"nodekiln_(recipe|plan|changes)": "([\w.,-]{0,400})"', data):
        if found.setdefault(mark[1], mark[2]) != mark[2]:
            return None
    if not (found.get(b"recipe") and found.get(b"plan")):
        return None
    changes = found.get(b"changes")  # missing in builds of earlier versions
    return Identity(
        recipe=found[b"recipe"].decode(),
        plan=found[b"plan"].decode(),
        route="build",
        changes=None if changes is None else tuple(filter(None, changes.decode().split(","))),
    )


def _note(owner: bytes, kind: int, description: bytes) -> bytes:
    parts = (owner + b"\0", description)
    return _NOTE.pack(len(parts[0]), len(description), kind) + b"".join(
        part + b"\0" * (-len(part) % 4) for part in parts
    )


def _notes(elf: Elf, name: str, owner: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and description of this owner's notes in all sections of that name."""
    count = 0
    for section in elf.sections:
        data = elf.content(section) if section.name == name and section.kind == NOTE else b""
        position = 0
        while position < len(data):
            count += 1
            if count > _MAX_COUNT or position + _NOTE.size > len(data):
                raise ElfError(elf.file, f"has notes in {name} that can't be read")
            named, size, kind = _NOTE.unpack_from(data, position)
            begin = position + _NOTE.size
            text = begin + named + -named % 4
            position = text + size + -size % 4
            if text + size > len(data):
                raise ElfError(elf.file, f"has notes in {name} that can't be read")
            if data[begin : begin + named] == owner + b"\0":
                yield kind, data[text : text + size]
