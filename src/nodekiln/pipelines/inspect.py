"""Inspect binaries without running them: origin, recipe, probes; and list the published ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from nodekiln.binaries.manifest import read_facts
from nodekiln.binaries.store import Published, Store
from nodekiln.changes.hooks import MARKED, NO_BACKPRESSURE
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Misfit, Refusal, no_memo
from nodekiln.core.elf.file import Buffer, ElfError, open_elf, parse
from nodekiln.core.elf.notes import (
    Identity,
    Probe,
    find_marks,
    read_identity,
    read_probes,
    search_identity,
)
from nodekiln.core.errors import KilnError, SourceError, UsageError
from nodekiln.core.files import hash_file, read_regular
from nodekiln.core.recipe import is_name
from nodekiln.core.reporting import format_size
from nodekiln.core.settings import Settings
from nodekiln.grafting.builtins import Builtin, locate, locate_by_symbols
from nodekiln.grafting.graft import find_mark, is_single_executable
from nodekiln.grafting.platforms import HEAD, Platform, recognise
from nodekiln.pipelines.graft_plan import mapped


class Kind(StrEnum):
    """The origin of a file."""

    GRAFTED = "grafted by nodekiln"
    BUILT = "built by nodekiln"
    OTHER = "not made by nodekiln"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts about a file that can be read without running it."""

    path: str
    kind: Kind
    platform: str
    recipe: str | None
    single_executable: bool
    """True if a program was put into the binary, which runs in place of scripts."""
    changes: tuple[str, ...] | None
    """Names of the changes that the file says it has; None if it says nothing."""
    hashes: tuple[str, ...] | None
    """The first 16 digits of each change's SHA-256, in the same order; None if the file says nothing."""
    plan: str | None
    """The plan's digest."""
    backpressure: bool | None
    """True if writes can return false because of a full buffer, by the file's JavaScript."""
    trouble: str | None
    """Why not."""
    probes: tuple[str, ...] | None
    """USDT probes, provider:name; None for a format that has none."""
    sha256: str
    is_altered: bool | None
    """True if the manifest beside the file has another hash; None without a manifest."""
    size: int
    """Bytes."""

    def lines(self) -> tuple[str, ...]:
        """For people."""
        answer = {
            None: f"unknown: {self.trouble}",
            True: "returns false if a buffer is full",
            False: "never returns false because a buffer is full",
        }
        facts = {
            "file": self.path,
            "is": f"{self.kind}, for {self.platform}{', a single executable' * self.single_executable}"
            f"{', altered since: its manifest has another hash' * bool(self.is_altered)}",
            "recipe": self.recipe,
            "changes": None if self.changes is None else ", ".join(self._named()) or "none",
            "plan": self.plan,
            "write()": answer[self.backpressure],
            "probes": None if self.probes is None else ", ".join(self.probes) or "none",
            "sha256": self.sha256,
            "size": f"{self.size} bytes",
        }
        return tuple(f"{name:8}{value}" for name, value in facts.items() if value is not None)

    def _named(self) -> Iterator[str]:
        for name, digest in zip_longest(self.changes or (), self.hashes or (), fillvalue=""):
            yield f"{name} ({digest})" if digest else name

    def as_data(self) -> dict[str, Any]:
        """For machines: the fields."""
        return asdict(self)


def inspect(path: Path, registry: Registry) -> Facts:
    """Return the facts about a file; raise SourceError if it is not a program for a known platform."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist or is not a file.")
    with mapped(path) as data:
        platform = recognise(data[:HEAD], str(path))
        is_single = is_single_executable(data)
        grafted, probes = (
            _read_notes(data, str(path), is_single) if platform.os == "linux" else (_graft(data), None)
        )
        identity = grafted or find_marks(data) or Identity(recipe="", plan="", route="")
        kind = Kind.GRAFTED if grafted else Kind.BUILT if identity.recipe else Kind.OTHER
        try:
            backpressure, trouble = _has_backpressure(data, platform, str(path), registry), None
        except SourceError as error:
            backpressure, trouble = None, error.message
            if grafted and NO_BACKPRESSURE in identity.recipe:
                trouble = f"made by an earlier nodekiln, some paths still wait: graft it again ({trouble})"
        except KilnError as error:
            backpressure, trouble = None, error.message
        size = len(data)
    return Facts(
        path=str(path),
        kind=kind,
        platform=str(platform),
        recipe=identity.recipe or None,
        single_executable=is_single,
        changes=identity.changes,
        hashes=identity.hashes,
        plan=identity.plan or None,
        backpressure=backpressure,
        trouble=trouble,
        probes=probes,
        sha256=(sha256 := hash_file(path)),
        is_altered=_is_altered(path, sha256),
        size=size,
    )


def _is_altered(path: Path, sha256: str) -> bool | None:
    try:
        facts = read_facts(read_regular(path.resolve().parent / "manifest.json"))
    except (OSError, KilnError):
        return None
    return bool(facts["sha256"] != sha256)


def _read_notes(data: Buffer, name: str, is_single: bool) -> tuple[Identity | None, tuple[str, ...] | None]:
    """Return the identity and the probes of an ELF file; probes None if the notes are damaged.

    The tools that make single executables damage notes: what they left of ours is searched for. Raises
    ElfError for other files.
    """
    try:
        elf = parse(data, name)
        probes = tuple(dict.fromkeys(f"{probe.provider}:{probe.name}" for probe in read_probes(elf)))
    except ElfError:
        if not is_single:
            raise
        return search_identity(data, name), None
    return search_identity(data, name) if is_single else read_identity(elf), probes


def _graft(data: Buffer) -> Identity | None:
    """Return the identity in the comment of a graft without notes; it has no plan."""
    recipe = find_mark(data, MARKED)
    if recipe is None:
        return None
    return Identity(recipe=recipe.name, plan="", route="graft", changes=recipe.changes)


def _has_backpressure(data: Buffer, platform: Platform, name: str, registry: Registry) -> bool:
    """Return whether a rewrite that removes backpressure would still apply; raise KilnError if unknown."""
    rewrites = [
        change.rewrite
        for change in map(registry.get, registry.standard)
        if change.rewrite is not None and not change.check.backpressure
    ]
    paths = [path for rewrite in rewrites for path in rewrite.paths]
    builtins: Mapping[str, Builtin] = {}
    with suppress(ElfError):  # a single executable, whose tables are damaged
        builtins = locate_by_symbols(parse(data, name), paths) if platform.os == "linux" else {}
    if not builtins.keys() >= set(paths):
        builtins = {**locate(data, name), **builtins}
    texts = {path: builtin.text for path, builtin in builtins.items()}
    found = [rewrite.plan(texts.get, no_memo) for rewrite in rewrites]
    conflicts = [conflict for each in found if isinstance(each, Refusal) for conflict in each.conflicts]
    if any(conflict.misfit is not Misfit.ALREADY_THERE for conflict in conflicts):
        raise SourceError("; ".join(map(str, conflicts)))
    return not conflicts


HEADINGS = ("provider", "name", "arguments", "at", "semaphore")

_MACH_O = {
    bytes.fromhex(magic) for magic in ("feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe", "cafebabf")
}
_ARGUMENT = re.compile(r"(?:(-?\d+)@)?(\[[^]]*\]|\S+)")


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a probe: size in bytes, signedness (both None if the note has neither), location."""

    size: int | None
    signed: bool | None
    place: str
    """A register, a memory operand or a constant, as the assembler writes it."""

    def __str__(self) -> str:
        if self.size is None:
            return self.place
        return f"{'int' if self.signed else 'uint'}{8 * self.size} {self.place}"


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A probe, at one or several addresses."""

    provider: str
    name: str
    arguments: tuple[Argument, ...]
    """Of the first place: others may have them in other registers."""
    addresses: tuple[int, ...]
    semaphore: int | None

    def cells(self) -> tuple[str, ...]:
        """Return the columns of HEADINGS; addresses in hexadecimal."""
        arguments = ", ".join(map(str, self.arguments))
        return (
            self.provider,
            self.name,
            f"{len(self.arguments)}: {arguments}" if arguments else "0",
            " ".join(map(hex, self.addresses)),
            "no" if self.semaphore is None else hex(self.semaphore),
        )

    def as_data(self) -> dict[str, Any]:
        """For machines: sizes in bytes, addresses as numbers."""
        return {
            "provider": self.provider,
            "name": self.name,
            "arguments": [
                {"size": argument.size, "signed": argument.signed, "place": argument.place}
                for argument in self.arguments
            ],
            "addresses": list(self.addresses),
            "semaphore": self.semaphore,
        }


def find_binary(word: str, settings: Settings) -> Path:
    """Return the published binary of that name, or the file; raise UsageError if neither exists."""
    store = Store(settings.workspace)
    published = store.find(word) if is_name(word) else None
    if published is not None:
        return published.binary
    path = settings.cwd / word
    if path.is_file():
        return path
    if is_name(word):
        return store.get(word).binary
    raise UsageError(
        f"{word} not found: no such file or binary.", remedy="./inv list shows the names of binaries."
    )


def probes(path: Path) -> tuple[ProbeRow, ...]:
    """Return the probes of an ELF program, by provider and name.

    Raises SourceError for another file, and UsageError for a Mach-O one, whose probes only dtrace can list.
    """
    with path.open("rb") as file:
        if file.read(4) in _MACH_O:
            raise UsageError(
                f"{path} is a program for macOS, whose probes have another format.",
                remedy="Run it, and list the probes of the running process: sudo dtrace -l -n 'node*:::'",
            )
    with open_elf(path) as elf:
        found = sorted(read_probes(elf), key=_order)
    return tuple(_row(list(places)) for _, places in groupby(found, key=_order))


def parse_arguments(text: str) -> tuple[Argument, ...]:
    """Parse a note's arguments: "-4@%esi 8@-16(%rbp)" is one signed of 4 bytes and one unsigned of 8."""
    return tuple(
        Argument(abs(int(size)), size.startswith("-"), place) if size else Argument(None, None, place)
        for size, place in _ARGUMENT.findall(text)
    )


def _order(probe: Probe) -> tuple[str, str]:
    return probe.provider, probe.name


def _row(places: list[Probe]) -> ProbeRow:
    first = places[0]
    return ProbeRow(
        first.provider,
        first.name,
        parse_arguments(first.arguments),
        tuple(place.address for place in places),
        first.semaphore or None,
    )


@dataclass(frozen=True, slots=True)
class ListedBinary:
    """One binary in the list."""

    published: Published

    def cells(self) -> tuple[str, ...]:
        """Return name, size, time, backpressure (by the self-check), and source."""
        facts, size = self.published.facts, format_size(self.published.size)
        if facts is None:
            return (self.published.name, size, "", "", self.published.trouble or "")
        checked = facts["self_check"]
        backpressure = "not checked" if checked is None else "off" if checked["write_answers"] else "on"
        made = facts["made"].replace("T", " ")[:16]
        return (
            self.published.name,
            size,
            made,
            backpressure,
            f"{facts['repository']} {facts['commit'][:12]}",
        )

    def as_data(self) -> dict[str, Any]:
        """For machines: name, path, size in bytes, the manifest (null where it can't be read: `trouble`)."""
        return {
            "name": self.published.name,
            "path": str(self.published.binary),
            "size": self.published.size,
            "trouble": self.published.trouble,
            "manifest": self.published.facts,
        }


def list_binaries(store: Store) -> tuple[ListedBinary, ...]:
    """Return all binaries, sorted by name."""
    return tuple(map(ListedBinary, store.list()))
