"""Platforms as releases name them (linux-x64), and which of them a file is for, by its first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nodekiln.core.errors import SourceError, UsageError

HEAD = 4096
"""Bytes of a file's beginning that `recognise` needs: a PE header is within the first 1024."""

_NAMES = ("linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64", "win-x64", "win-arm64")
_SYSTEMS = {"linux": "linux", "darwin": "darwin", "win32": "win"}
_PROCESSORS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}

_ELF_MACHINES = {62: "x64", 183: "arm64"}
_MACH_CPUS = {0x0100_0007: "x64", 0x0100_000C: "arm64"}
_PE_MACHINES = {0x8664: "x64", 0xAA64: "arm64"}
_ZIP = b"PK\3\4"
_MACH_64 = b"\xcf\xfa\xed\xfe"
_PE_OFFSET = 0x3C  # offset of the PE header's address in the DOS header


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and a processor."""

    os: str
    cpu: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "linux-x64"; raise UsageError for a platform that can't be grafted."""
        if text not in _NAMES:
            raise UsageError(
                f"{text!r} is no platform that can be grafted.", remedy=f"Take one of {_listed()}."
            )
        return cls(*text.split("-"))

    @classmethod
    def of_machine(cls, system: str, processor: str) -> Self | None:
        """From sys.platform and platform.machine(); None for a machine that no release is grafted for."""
        os, cpu = _SYSTEMS.get(system), _PROCESSORS.get(processor.lower())
        return None if os is None or cpu is None else cls(os, cpu)

    def __str__(self) -> str:
        return f"{self.os}-{self.cpu}"


def recognise(head: bytes, name: str) -> Platform:
    """Return the platform of a program by its first HEAD bytes; raise SourceError if it is unknown."""
    if head.startswith(b"\x7fELF"):
        return _platform("linux", _ELF_MACHINES, int.from_bytes(head[18:20], "little"), name)
    if head.startswith(_MACH_64):
        return _platform("darwin", _MACH_CPUS, int.from_bytes(head[4:8], "little"), name)
    if head.startswith(b"MZ"):
        place = int.from_bytes(head[_PE_OFFSET : _PE_OFFSET + 4], "little")
        if head[place : place + 4] == b"PE\0\0":
            return _platform("win", _PE_MACHINES, int.from_bytes(head[place + 4 : place + 6], "little"), name)
    if head.startswith(_ZIP):
        raise SourceError(
            f"{name} is a zip archive or a Python wheel.",
            remedy="Unpack it (unzip FILE -d FOLDER), and name the Node binary in it with --release.",
        )
    raise SourceError(f"{name} is not a program for Linux, macOS or Windows.", remedy=_wanted())


def _platform(os: str, known: dict[int, str], machine: int, name: str) -> Platform:
    cpu = known.get(machine)
    if cpu is None:
        raise SourceError(
            f"{name} is for a processor that no graft knows (machine {machine:#x}).", remedy=_wanted()
        )
    return Platform(os, cpu)


def _wanted() -> str:
    return f"A graft starts from a release of Node for {_listed()}."


def _listed() -> str:
    return f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
