"""Plan everything that changes in an official binary, before the first byte is written; then write it."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.changes import planner
from nodekiln.changes.hooks import MARKED
from nodekiln.changes.positions import keeps_positions
from nodekiln.changes.registry import Change, Registry
from nodekiln.core.edit import Edit, Misfit, Plan, Refusal, Span
from nodekiln.core.elf.file import Buffer, Elf, open_elf, parse
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
from nodekiln.core.elf.segment import add_segment, find_room
from nodekiln.core.errors import CheckError, PatchError, SourceError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.grafting.builtins import Builtin, locate, locate_by_symbols, module_id
from nodekiln.grafting.graft import Change as ChangedBytes
from nodekiln.grafting.graft import (
    changes,
    differing,
    find_mark,
    fit,
    fit_edit,
    is_single_executable,
    make_mark,
    write,
)
from nodekiln.grafting.libraries import FOLDER as LIBRARY_FOLDER
from nodekiln.grafting.libraries import Libraries, copy_libraries
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.probes import gc_probes
from nodekiln.grafting.relocate import NOTHING_MOVED, Relocation, relocate
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
    relocation: Relocation = NOTHING_MOVED
    """The texts that don't fit in place."""
    snapshot: SnapshotEdit = NO_SNAPSHOT_EDIT
    """What changes in the built-in startup snapshot."""
    libraries: Libraries | None = None
    """Libraries that the release has beside it."""


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
            _check_configure(change, recipe.tag)
        names = tuple(change.name for change in edited)
        mark = make_mark(recipe.tag, names, MARKED) if elf is None else b""
        planned, fitted = _plan_edits(data, elf, str(binary), replace(recipe, changes=names), mark, registry)
        texts = _before_and_after(fitted.edits)
        is_checked = all(_is_checked(change, recipe.tag) for change in edited)
        snapshot = plan_snapshot(data, elf, texts, may_change=is_checked, keep=keep_snapshot)
        return replace(planned, probes=probes, snapshot=snapshot)


def _check_configure(change: Change, tag: Tag) -> None:
    if change.configure.args:
        raise PatchError(
            f"The change {change.name} can't be grafted: it needs configure.",
            remedy=f"Build it: ./inv build {tag} --change {change.name}.",
        )


def _is_checked(change: Change, tag: Tag) -> bool:
    """Return True if the self-check tries everything that the change edits."""
    return not (change.check.backpressure or change.queries or change.select(tag))


def _check_files(changes: Iterable[Change], tag: Tag, known: Collection[str], *, symbols: bool) -> None:
    """Raise PatchError for patches of files that are not modules in the binary."""
    for change in changes:
        patched = {file.path: file.added for patch in change.select(tag) for file in patch.files}
        unknown = sorted(path for path in patched if patched[path] or path not in known)
        if unknown:
            raise PatchError(
                f"The change {change.name} can't be grafted: its patches change files that are not modules of"
                f" this binary{'' if symbols else ', or not found without symbols'}: {', '.join(unknown)}.",
                remedy=f"Build it: ./inv build {tag} --change {change.name}.",
            )


def _plan_edits(
    data: Buffer, elf: Elf | None, name: str, recipe: Recipe, mark: bytes, registry: Registry
) -> tuple[GraftPlan, Plan]:
    """Return the plan without probes, and its edits as they are made in the binary."""
    chosen = registry.of_recipe(recipe)
    paths = planner.paths(recipe, registry)
    found = {} if elf is None else locate_by_symbols(elf, paths)
    builtins = found if found.keys() >= set(paths) else {**locate(data, name), **found}
    _check_files(chosen, recipe.tag, builtins, symbols=bool(found))
    before = {path: builtin.text for path, builtin in builtins.items()}
    plan = planner.plan(recipe, before.get, registry)
    if isinstance(plan, Refusal):
        raise PatchError(
            f"{name}: the change does not fit:\n  " + "\n  ".join(map(str, plan.conflicts)),
            remedy="Start from the official release, as it was downloaded.",
        )
    in_place, relocation = _place(plan, elf, builtins, mark)
    made = Plan.of((*in_place.edits, *relocation.edits))
    after = before | {edit.path: edit.after for edit in made.edits}
    rewrites = tuple(change.name for change in chosen if change.rewrite is not None)
    again = planner.plan(replace(recipe, changes=rewrites), after.get, registry)
    if rewrites and (
        not isinstance(again, Refusal)
        or any(conflict.misfit is not Misfit.ALREADY_THERE for conflict in again.conflicts)
    ):
        raise PatchError(f"{name}: the changed text is not recognized as changed.")
    ranges, texts = changes(builtins, in_place), _digests(made.edits)
    return GraftPlan(plan=plan, ranges=ranges, texts=texts, probes=(), relocation=relocation), made


def plan_texts(binary: Path, texts: Mapping[str, bytes]) -> GraftPlan:
    """Plan to give modules of an official Linux binary these texts, by path; the other modules stay.

    Raises PatchError for a module that the binary does not have, or whose text can't be moved.
    """
    with mapped(binary) as data:
        elf = parse(data, str(binary))
        builtins = locate_by_symbols(elf, texts)
        unknown = sorted(texts.keys() - builtins.keys())
        if unknown:
            raise PatchError(f"{binary}: not among its modules, or not found: {', '.join(unknown)}.")
        edits = [
            Edit(path, base, (Span(0, len(base), text, "another text"),))
            for path, text in sorted(texts.items())
            if (base := builtins[path].text) != text
        ]
        relocation = relocate(elf, builtins, edits) if edits else NOTHING_MOVED
        snapshot = plan_snapshot(data, elf, _before_and_after(relocation.edits), may_change=False, keep=False)
        return GraftPlan(
            plan=Plan.of(relocation.edits),
            ranges=(),
            texts=_digests(relocation.edits),
            probes=(),
            relocation=relocation,
            snapshot=snapshot,
        )


def _before_and_after(edits: Iterable[Edit]) -> Mapping[str, tuple[bytes, bytes]]:
    return {module_id(edit.path): (edit.base or b"", edit.after) for edit in edits}


def _digests(edits: Iterable[Edit]) -> Mapping[str, str]:
    return {module_id(edit.path): hashlib.sha256(edit.after).hexdigest() for edit in edits}


def _place(
    plan: Plan, elf: Elf | None, builtins: Mapping[str, Builtin], mark: bytes
) -> tuple[Plan, Relocation]:
    """Split a plan into edits that are made in place, and those whose text is relocated."""
    if elf is None or all(builtin.site is None for builtin in builtins.values()):
        return fit(plan, mark), NOTHING_MOVED
    in_place, moved = [], []
    for edit in plan.edits:
        fitted = None if builtins[edit.path].wide else fit_edit(edit)
        if fitted is not None and keeps_positions(fitted):
            in_place.append(fitted)
        else:
            moved.append(edit)
    return Plan(tuple(in_place)), relocate(elf, builtins, moved) if moved else NOTHING_MOVED


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map a file into memory; raise SourceError if it is empty."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise SourceError(f"{path} is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def apply_plan(
    release: Path,
    target: Path,
    recipe: Recipe,
    platform: Platform,
    graft_plan: GraftPlan,
    hashes: tuple[str, ...] = (),
) -> Additions:
    """Write the changed copy of a release and return the differences besides the planned ranges."""
    rewritten = (*graft_plan.relocation.rewritten, *graft_plan.snapshot.rewritten)
    if graft_plan.libraries is not None:
        rewritten = (*rewritten, graft_plan.libraries.search_path)
        copy_libraries(graft_plan.libraries, target.parent / LIBRARY_FOLDER)
    write(release, target, [*graft_plan.ranges, *rewritten])
    if platform.os != "linux":
        return Additions(rewritten, ())
    identity = Identity(
        recipe=recipe.name,
        plan=graft_plan.plan.digest,
        route="graft",
        changes=recipe.changes,
        hashes=hashes,
    )
    probes = probe_sections(graft_plan.probes) if graft_plan.probes else ()
    segment = Additions((), ())
    if content := graft_plan.relocation.content:
        with open_elf(target) as elf:
            segment = add_segment(target, elf, find_room(elf), content)
    added = add_sections(target, (identity_section(identity), *probes))
    return Additions((*rewritten, *segment.rewritten, *added.rewritten), (*segment.appended, *added.appended))


def check_relocation(binary: Path, relocation: Relocation) -> None:
    """Raise CheckError if the code of a finished graft names other texts than those that moved.

    For binaries that can't be run here: the others list their texts themselves.
    """
    if not relocation.edits:
        return
    with open_elf(binary) as elf:
        found = locate_by_symbols(elf, [edit.path for edit in relocation.edits])
    for edit in relocation.edits:
        # Up to 20.0 a text has a symbol of its own, so that one that moved isn't found by it.
        if edit.path in found and found[edit.path].text != edit.after:
            raise CheckError(f"{binary}: {edit.path}: its code does not name the text that was planned.")


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
