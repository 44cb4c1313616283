"""Plan everything that changes in an official binary, before the first byte is written; then write it."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.changes import planner
from nodekiln.changes.hooks import MARKED
from nodekiln.changes.registry import Change, Registry
from nodekiln.core.edit import Misfit, Plan, Refusal
from nodekiln.core.elf.file import Buffer, parse
from nodekiln.core.elf.notes import (
    Additions,
    Appended,
    Identity,
    Probe,
    Rewritten,
    add_sections,
    identity_section,
    probe_sections,
    read_identity,
)
from nodekiln.core.errors import PatchError, SourceError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.grafting.builtins import locate, module_id
from nodekiln.grafting.graft import Change as ChangedBytes
from nodekiln.grafting.graft import changes, differing, find_mark, fit, is_single_executable, make_mark, write
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.probes import gc_probes
from nodekiln.grafting.snapshot import NO_SNAPSHOT_EDIT, SnapshotEdit, plan_snapshot

_SIGNATURE = "code signature"


@dataclass(frozen=True, kw_only=True)
class GraftPlan:
    """The plan, its byte ranges in the binary, and the probes to add."""

    plan: Plan
    ranges: tuple[ChangedBytes, ...]
    texts: Mapping[str, str]
    """SHA-256 of each changed module's new text, by Node's id of the module."""
    probes: tuple[Probe, ...]
    """The probes that are added."""
    snapshot: SnapshotEdit = NO_SNAPSHOT_EDIT
    """What changes in the built-in startup snapshot."""


def plan_graft(
    binary: Path, recipe: Recipe, target: Platform, registry: Registry, *, keep_snapshot: bool = False
) -> GraftPlan:
    """Plan every byte that changes in the official binary; write nothing.

    `keep_snapshot`: refuse what needs the built-in startup snapshot switched off.

    Raises PatchError if something does not fit, SourceError for a file that is not this release.
    """
    with mapped(binary) as data:
        if is_single_executable(data):
            raise PatchError(
                f"{binary} is a single executable: it runs its own program, so a graft can't be checked.",
                remedy="Graft the official release, then make the single executable from the graft.",
            )
        elf = parse(data, str(binary)) if target.os == "linux" else None
        identity = None if elf is None else read_identity(elf)
        marked = find_mark(data, MARKED) if identity is None else None
        former = identity.recipe if identity is not None else None if marked is None else marked.name
        if former is not None:
            raise PatchError(
                f"{binary} is already a graft: {former}.",
                remedy="Start from the official release.",
            )
        if data.find(f"{recipe.tag}\0".encode()) < 0:
            raise SourceError(
                f"{binary} is not Node {recipe.tag}.", remedy="Name the release's version with --tag."
            )
        chosen = registry.of_recipe(recipe)
        adds_probes = any(change.graft.gc_probes for change in chosen)
        probes = gc_probes(elf) if adds_probes and elf is not None else ()
        edited = tuple(change for change in chosen if not change.graft.gc_probes)
        if not edited:
            return GraftPlan(plan=Plan(), ranges=(), texts={}, probes=probes)
        for change in edited:
            _check_graftable(change, recipe.tag)
        names = tuple(change.name for change in edited)
        mark = make_mark(recipe.tag, names, MARKED) if elf is None else b""
        planned, fitted = _plan_edits(data, str(binary), replace(recipe, changes=names), mark, registry)
        texts = {module_id(edit.path): (edit.base or b"", edit.after) for edit in fitted.edits}
        is_checked = all(change.rewrite is not None for change in edited)  # by the self-check, path by path
        snapshot = plan_snapshot(data, elf, texts, may_change=is_checked, keep=keep_snapshot)
        return replace(planned, probes=probes, snapshot=snapshot)


def _check_graftable(change: Change, tag: Tag) -> None:
    if change.configure.args or (change.select(tag) and not change.graft.patches):
        why = "needs configure" if change.configure.args else "has patches that are not marked as graftable"
        raise PatchError(
            f"The change {change.name} can't be grafted: it {why}.",
            remedy=f"Build it: ./inv build {tag} --change {change.name}. If the patches only edit JavaScript"
            f" in place, say so in {change.folder}/change.toml: [graft] patches = true.",
        )


def _plan_edits(
    data: Buffer, name: str, recipe: Recipe, mark: bytes, registry: Registry
) -> tuple[GraftPlan, Plan]:
    """Return the plan without probes, and its edits as they fit into the binary."""
    builtins = locate(data, name)
    before = {path: builtin.text for path, builtin in builtins.items()}
    plan = planner.plan(recipe, before.get, registry)
    if isinstance(plan, Refusal):
        raise PatchError(
            f"{name}: the change does not fit:\n  " + "\n  ".join(map(str, plan.conflicts)),
            remedy="Start from the official release, as it was downloaded.",
        )
    fitted = fit(plan, mark)
    after = before | {edit.path: edit.after for edit in fitted.edits}
    rewrites = tuple(change.name for change in registry.of_recipe(recipe) if change.rewrite is not None)
    again = planner.plan(replace(recipe, changes=rewrites), after.get, registry)
    if rewrites and (
        not isinstance(again, Refusal)
        or any(conflict.misfit is not Misfit.ALREADY_THERE for conflict in again.conflicts)
    ):
        raise PatchError(f"{name}: the changed text is not recognized as changed.")
    texts = {module_id(edit.path): hashlib.sha256(edit.after).hexdigest() for edit in fitted.edits}
    return GraftPlan(plan=plan, ranges=changes(builtins, fitted), texts=texts, probes=()), fitted


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map a file into memory; raise SourceError if it is empty."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise SourceError(f"{path} is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def apply_plan(
    release: Path, target: Path, recipe: Recipe, platform: Platform, graft_plan: GraftPlan
) -> Additions:
    """Write the changed copy of a release and return the differences besides the planned ranges."""
    rewritten = graft_plan.snapshot.rewritten
    write(release, target, [*graft_plan.ranges, *rewritten])
    if platform.os != "linux":
        return Additions(rewritten, ())
    identity = Identity(
        recipe=recipe.name, plan=graft_plan.plan.digest, route="graft", changes=recipe.changes
    )
    probes = probe_sections(graft_plan.probes) if graft_plan.probes else ()
    added = add_sections(target, (identity_section(identity), *probes))
    return replace(added, rewritten=(*rewritten, *added.rewritten))


def signed_ranges(release: Path, made: Path, graft_plan: GraftPlan) -> Additions:
    """Return what codesign changed in a copy, found by comparing the bytes."""
    planned = graft_plan.snapshot.rewritten
    starts = [(change.start, len(change.new)) for change in graft_plan.ranges]
    starts += [(change.start, len(change.new)) for change in planned]
    own = {at for start, length in starts for at in range(start, start + length)}
    with mapped(release) as before, mapped(made) as after:
        rewritten = tuple(
            Rewritten(_SIGNATURE, start, before[start:end], after[start:end])
            for start, end in differing(before, after)
            if not own.issuperset(range(start, end))
        )
        more = len(after) - len(before)
        return Additions(
            (*planned, *rewritten), (Appended(_SIGNATURE, len(before), more),) if more > 0 else ()
        )
