"""What ./inv probes shows: the USDT probes of any binary, from its notes. Runs nothing, needs no root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from nodekiln.binaries.store import Store
from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import Probe, read_probes
from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import is_name
from nodekiln.core.settings import Settings

HEADINGS = ("provider", "name", "arguments", "at", "semaphore")

_MACH_O = {
    bytes.fromhex(magic) for magic in ("feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe", "cafebabf")
}
_ARGUMENT = re.compile(r"(?:(-?\d+)@)?(\[[^]]*\]|\S+)")


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a probe: bytes, whether it has a sign (None where the note tells neither), its place."""

    size: int | None
    signed: bool | None
    place: str
    """A register, a memory operand or a constant, as the assembler writes it."""

    def __str__(self) -> str:
        if self.size is None:
            return self.place
        return f"{'int' if self.signed else 'uint'}{8 * self.size} {self.place}"


@dataclass(frozen=True, slots=True)
class Row:
    """A probe, at one or several places."""

    provider: str
    name: str
    arguments: tuple[Argument, ...]
    """Of the first place: others may have them in other registers."""
    addresses: tuple[int, ...]
    semaphore: int | None

    def cells(self) -> tuple[str, ...]:
        """As HEADINGS say; addresses in hexadecimal."""
        told = ", ".join(map(str, self.arguments))
        return (
            self.provider,
            self.name,
            f"{len(self.arguments)}: {told}" if told else "0",
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
    """The published binary of that name, else the file; raises UsageError where there is neither."""
    store = Store(settings.workspace)
    published = store.find(word) if is_name(word) else None
    if published is not None:
        return published.binary
    path = settings.here / word
    if path.is_file():
        return path
    if is_name(word):
        return store.get(word).binary
    raise UsageError(f"{word} is no file that is there.", remedy="./inv list shows the names of binaries.")


def probes(path: Path) -> tuple[Row, ...]:
    """The probes of an ELF program, by provider and name; none where it has none.

    Raises SourceError for another file, and UsageError for a Mach-O one, whose probes only dtrace can list.
    """
    with path.open("rb") as file:
        if file.read(4) in _MACH_O:
            raise UsageError(
                f"{path} is a program for macOS, where probes stand in another form.",
                remedy="Run it, and list the probes of the running process: sudo dtrace -l -n 'node*:::'",
            )
    with open_elf(path) as elf:
        found = sorted(read_probes(elf), key=_order)
    return tuple(_row(list(places)) for _, places in groupby(found, key=_order))


def parse_arguments(text: str) -> tuple[Argument, ...]:
    """The arguments in a note: "-4@%esi 8@-16(%rbp)" are a signed one of 4 bytes and an unsigned one of 8."""
    return tuple(
        Argument(abs(int(size)), size.startswith("-"), place) if size else Argument(None, None, place)
        for size, place in _ARGUMENT.findall(text)
    )


def _order(probe: Probe) -> tuple[str, str]:
    return probe.provider, probe.name


def _row(places: list[Probe]) -> Row:
    first = places[0]
    return Row(
        first.provider,
        first.name,
        parse_arguments(first.arguments),
        tuple(place.address for place in places),
        first.semaphore or None,
    )
