"""What a file is: grafted, built here, a release as it was, or something else. Runs nothing of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from nodekiln.changes.hooks import MARKED
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Misfit, Refusal, no_memo
from nodekiln.core.elf.file import Buffer, parse
from nodekiln.core.elf.notes import Identity, find_marks, read_identity, read_probes
from nodekiln.core.errors import KilnError, SourceError, UsageError
from nodekiln.core.files import hash_file
from nodekiln.grafting.builtins import locate
from nodekiln.grafting.marker import find_mark
from nodekiln.grafting.platforms import HEAD, recognise
from nodekiln.pipelines.graft_plan import mapped


class Kind(StrEnum):
    """Where a file comes from."""

    GRAFTED = "grafted by nodekiln"
    BUILT = "built by nodekiln"
    OTHER = "not made by nodekiln"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What can be told of a file without running it."""

    path: str
    kind: Kind
    platform: str
    recipe: str | None
    changes: tuple[str, ...] | None
    """Names of the changes that the file says it has; None if it says nothing."""
    plan: str | None
    """The plan's digest."""
    backpressure: bool | None
    """Whether write() can answer false, by the JavaScript in the file; None where that can't be told."""
    trouble: str | None
    """Why not."""
    probes: tuple[str, ...] | None
    """USDT probes, provider:name; None for a format that has none."""
    sha256: str
    size: int
    """Bytes."""

    def lines(self) -> tuple[str, ...]:
        """For people."""
        answer = {
            None: f"unknown: {self.trouble}",
            True: "answers true or false",
            False: "always answers true",
        }
        told = {
            "file": self.path,
            "is": f"{self.kind}, for {self.platform}",
            "recipe": self.recipe,
            "changes": None if self.changes is None else ", ".join(self.changes) or "none",
            "plan": self.plan,
            "write()": answer[self.backpressure],
            "probes": None if self.probes is None else ", ".join(self.probes) or "none",
            "sha256": self.sha256,
            "size": f"{self.size} bytes",
        }
        return tuple(f"{name:8}{value}" for name, value in told.items() if value is not None)

    def as_data(self) -> dict[str, Any]:
        """For machines: the fields."""
        return asdict(self)


def inspect(path: Path, registry: Registry) -> Facts:
    """Looks into a file; raises SourceError for one that is no program for a platform with releases."""
    if not path.is_file():
        raise UsageError(f"{path} is no file that is there.")
    with mapped(path) as data:
        platform = recognise(data[:HEAD], str(path))
        elf = parse(data, str(path)) if platform.os == "linux" else None
        probes = (
            None if elf is None else tuple(f"{probe.provider}:{probe.name}" for probe in read_probes(elf))
        )
        grafted = _graft(data) if elf is None else read_identity(elf)
        identity = grafted or find_marks(data) or Identity(recipe="", plan="", route="")
        kind = Kind.GRAFTED if grafted else Kind.BUILT if identity.recipe else Kind.OTHER
        try:
            backpressure, trouble = _has_backpressure(data, str(path), registry), None
        except KilnError as error:
            backpressure, trouble = None, error.message
        size = len(data)
    return Facts(
        path=str(path),
        kind=kind,
        platform=str(platform),
        recipe=identity.recipe or None,
        changes=identity.changes,
        plan=identity.plan or None,
        backpressure=backpressure,
        trouble=trouble,
        probes=probes,
        sha256=hash_file(path),
        size=size,
    )


def _graft(data: Buffer) -> Identity | None:
    """Return the identity in the comment of a graft without notes; it has no plan."""
    recipe = find_mark(data, MARKED)
    if recipe is None:
        return None
    return Identity(recipe=recipe.name, plan="", route="graft", changes=recipe.changes)


def _has_backpressure(data: Buffer, name: str, registry: Registry) -> bool:
    """Return whether a rewrite that removes backpressure would still apply; raise KilnError if unknown."""
    builtins = locate(data, name)
    found = [
        change.rewrite.plan(lambda path: builtins[path].text if path in builtins else None, no_memo)
        for change in map(registry.get, registry.standard)
        if change.rewrite is not None and not change.check.backpressure
    ]
    conflicts = [conflict for each in found if isinstance(each, Refusal) for conflict in each.conflicts]
    if any(conflict.misfit is not Misfit.ALREADY_THERE for conflict in conflicts):
        raise SourceError("; ".join(map(str, conflicts)))
    return not conflicts
