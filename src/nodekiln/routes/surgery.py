"""What is done to an official binary, decided as a whole before the first byte is written."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.edit import Misfit, Plan, Read, Refusal
from nodekiln.elf import Buffer, add_sections, parse
from nodekiln.elfnotes import Identity, Probe, identity_section, probe_sections, read_identity
from nodekiln.errors import PatchError, SourceError
from nodekiln.grafting.builtins import locate, module_id
from nodekiln.grafting.graft import Change, changes, fit, write
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.probes import gc_probes
from nodekiln.patching import planner
from nodekiln.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Surgery:
    """The plan, its byte ranges in the binary, and the probes that are added to it."""

    plan: Plan
    ranges: tuple[Change, ...]
    texts: Mapping[str, str]
    """SHA-256 of each changed module's text in the binary, by Node's id of the module."""
    probes: tuple[Probe, ...]


def plan_surgery(binary: Path, recipe: Recipe, target: Platform) -> Surgery:
    """Looks through the official binary and decides every byte that changes; writes nothing.

    Raises PatchError where anything is not as expected, SourceError for a file that is no such release.
    """
    with mapped(binary) as data:
        elf = parse(data, str(binary)) if target.os == "linux" else None
        identity = None if elf is None else read_identity(elf)
        if identity is not None:
            raise PatchError(
                f"{binary} was grafted already: it is {identity.recipe}.",
                remedy="Start from the release itself.",
            )
        if data.find(f"{recipe.tag}\0".encode()) < 0:
            raise SourceError(
                f"{binary} is not Node {recipe.tag}.", remedy="--tag names the release's version."
            )
        probes = gc_probes(elf) if recipe.probes and elf is not None else ()
        if recipe.backpressure:
            return Surgery(plan=Plan(), ranges=(), texts={}, probes=probes)
        return _plan_rewrite(data, str(binary), recipe, probes)


def _plan_rewrite(data: Buffer, name: str, recipe: Recipe, probes: tuple[Probe, ...]) -> Surgery:
    builtins = locate(data, name)
    before = {path: builtin.text for path, builtin in builtins.items()}
    plan = _plan(recipe, before.get)
    if isinstance(plan, Refusal):
        raise PatchError(
            f"{name}: the change does not fit:\n  " + "\n  ".join(map(str, plan.conflicts)),
            remedy="Start from the release itself, as it was downloaded.",
        )
    fitted = fit(plan)
    after = before | {edit.path: edit.after for edit in fitted.edits}
    again = _plan(recipe, after.get)
    if not isinstance(again, Refusal) or any(
        conflict.misfit is not Misfit.ALREADY_THERE for conflict in again.conflicts
    ):
        raise PatchError(f"{name}: the text after the change would not read as intended.")
    texts = {module_id(edit.path): hashlib.sha256(edit.after).hexdigest() for edit in fitted.edits}
    return Surgery(plan=plan, ranges=changes(builtins, fitted), texts=texts, probes=probes)


def _plan(recipe: Recipe, read: Read) -> Plan | Refusal:
    """By the planner of builds, but without the probes of a build."""
    return planner.plan(replace(recipe, probes=False), read)


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes; raises SourceError where it is empty."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise SourceError(f"{path} is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def operate(release: Path, target: Path, recipe: Recipe, platform: Platform, surgery: Surgery) -> None:
    """Writes the changed copy of a release; the ELF notes are added to the copy."""
    write(release, target, surgery.ranges)
    if platform.os == "linux":
        identity = Identity(recipe=recipe.name, plan=surgery.plan.digest, route="graft")
        probes = probe_sections(surgery.probes) if surgery.probes else ()
        add_sections(target, (identity_section(identity), *probes))
