"""./inv verify: choose tags, plan every recipe of each from git objects, go deeper if asked, report.

Planning needs no checkout. Results go by the blobs that they were computed from, so that tags with the same
files are planned once; nothing is kept on disk.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from nodekiln.changes import planner
from nodekiln.changes.registry import Registry
from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.recipe import HEADER, Tag, mismatch
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.source.location import OFFICIAL, parse_location
from nodekiln.source.tagset import Snapshot, TagSet
from nodekiln.verify.evaluate import evaluate
from nodekiln.verify.outcome import Depth, Evaluation, Kind, Report, Row, all_kinds, find_first_failures
from nodekiln.verify.tagspec import TagSpec
from nodekiln.verify.trees import Trees
from nodekiln.verify.upstream import upstream_lines

_BATCH = 16
"""Tags whose files are read together: about 7 MB."""


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """The options of a verification; `jobs` None: as many as cores and memory allow."""

    tags: TagSpec
    kinds: tuple[Kind, ...] | None = None
    """None: every combination of the standard changes."""
    depth: Depth = Depth.PLAN
    repository: str | None = None
    jobs: int | None = None
    accept_moved_tag: bool = False


def verify(request: VerifyRequest, settings: Settings, reporter: Reporter) -> Report:
    """Return a report with a row for each chosen tag.

    Raises UsageError if no tag matches, SourceError if the repository is unreachable, PatchError for
    unreadable patches, and ToolchainError if a deeper verification lacks tools.
    """
    begun = time.monotonic()
    if request.tags.pre and request.depth is not Depth.PLAN:
        raise UsageError(
            f"--pre and --depth {request.depth} exclude each other: pre-releases are only planned.",
            remedy="Use --depth plan, or leave out --pre.",
        )
    registry = Registry.of(settings)
    kinds = all_kinds(registry) if request.kinds is None else request.kinds
    compiles = any(registry.get(name).compiles for kind in kinds for name in kind.changes)
    if request.depth is Depth.BUILD or (request.depth is Depth.COMPILE and compiles):
        from nodekiln.verify.depths import check_machine  # imports the build pipeline: 0.1 s

        check_machine(kinds, settings, reporter)
    named = request.repository or settings.repository or OFFICIAL
    location = parse_location(named, base=settings.cwd)
    tags = TagSet(settings.workspace, location, reporter)
    listed = tags.listed(pre=request.tags.pre)
    selection = request.tags.select(listed.tags)
    planning = Planning(tags, kinds, registry, reporter)
    commits = {tag: listed.tags[tag] for tag in selection.tags}
    rows = planning.run(commits, accept_moved=request.accept_moved_tag)
    if request.depth is not Depth.PLAN:
        rows = _go_deeper(request, kinds, named, settings, reporter, rows)
    missing = tuple(Row.failed(tag, None, f"{location.shown} has no tag {tag}.") for tag in selection.missing)
    return Report(
        origin=location.shown,
        depth=request.depth,
        recipes=tuple(kind.name for kind in kinds),
        rows=tuple(sorted((*rows, *missing), key=lambda row: row.tag)),
        ignored=listed.others,
        seconds=time.monotonic() - begun,
        folders={
            name: _shown(registry.folder(name), settings.cwd) for kind in kinds for name in kind.changes
        },
    )


def _shown(folder: Path, cwd: Path) -> str:
    return folder.relative_to(cwd).as_posix() if folder.is_relative_to(cwd) else str(folder)


def _go_deeper(
    request: VerifyRequest,
    chosen: tuple[Kind, ...],
    repository: str,
    settings: Settings,
    reporter: Reporter,
    rows: tuple[Row, ...],
) -> tuple[Row, ...]:
    from nodekiln.verify.depths import DeepCheck

    kinds = {kind.name: kind for kind in chosen}
    deeper = DeepCheck(
        depth=request.depth,
        repository=repository,
        jobs=request.jobs,
        accept_moved=request.accept_moved_tag,
        settings=settings,
        reporter=reporter,
    )
    return tuple(deeper.row(row, kinds) for row in rows)


@dataclass(slots=True)
class Planning:
    """Plans every kind of recipe for every tag."""

    tags: TagSet
    kinds: Sequence[Kind]
    registry: Registry
    reporter: Reporter
    _evaluations: dict[Hashable, Evaluation] = field(default_factory=dict)

    def run(self, commits: Mapping[Tag, str], *, accept_moved: bool) -> tuple[Row, ...]:
        """Return the rows of these tags, in order; raises SourceError if the repository is unreachable."""
        found = self.tags.look_up(commits, lambda tag: (*self._paths(tag), HEADER), accept_moved=accept_moved)
        errors = {tag: each for tag, each in found.items() if isinstance(each, SourceError)}
        snapshots = {tag: each for tag, each in sorted(found.items()) if isinstance(each, Snapshot)}
        blobs = [blob for snapshot in snapshots.values() for blob in snapshot.blobs.values()]
        trees = Trees(self.tags, self.tags.fetch_blobs(blobs, snapshots))
        rows = [Row.failed(tag, commits[tag], str(error)) for tag, error in errors.items()]
        rows += self._plan(snapshots, trees)
        return self._explained(sorted(rows, key=lambda row: row.tag), snapshots, trees)

    def _explained(self, rows: list[Row], snapshots: Mapping[Tag, Snapshot], trees: Trees) -> tuple[Row, ...]:
        """Return the rows; where a recipe first fails, with what upstream changed beside its hunks."""
        names = [kind.name for kind in self.kinds]
        previous = {each.tag: each.previous for each in find_first_failures(names, rows) if each.previous}
        return tuple(
            self._with_upstream(row, previous[row.tag], snapshots, trees) if row.tag in previous else row
            for row in rows
        )

    def _with_upstream(self, row: Row, previous: Tag, snapshots: Mapping[Tag, Snapshot], trees: Trees) -> Row:
        changes = {name for kind in self.kinds for name in kind.changes}
        patches = [patch for name in changes for patch in self.registry.get(name).select(row.tag.release)]
        before, after = (trees.reader(tag, snapshots[tag]) for tag in (previous, row.tag))
        findings = []
        for finding in row.findings:
            found: tuple[str, ...] = ()
            if not finding.status.is_fine:
                with suppress(SourceError):  # the other tag's file may be unreadable
                    found = upstream_lines(finding, patches, before(finding.path), after(finding.path))
            findings.append(replace(finding, upstream=found, since=previous) if found else finding)
        return replace(row, findings=tuple(findings))

    def _plan(self, snapshots: Mapping[Tag, Snapshot], trees: Trees) -> Iterator[Row]:
        with self.reporter.progress("planning") as meter:
            done, remaining = 0, iter(snapshots.items())
            while batch := list(islice(remaining, _BATCH)):
                trees.prefetch(snapshot for _, snapshot in batch)
                for tag, snapshot in batch:
                    meter.update(done, len(snapshots), str(tag))
                    yield self._row(tag, snapshot, trees)
                    done += 1

    def _row(self, tag: Tag, snapshot: Snapshot, trees: Trees) -> Row:
        try:
            error = mismatch(tag.release, self.tags.location.shown, trees.reader(tag, snapshot)(HEADER))
            if error is not None:
                return Row.failed(tag, snapshot.commit, str(error))
            evaluations = [(kind, self._evaluate(tag, kind, snapshot, trees)) for kind in self.kinds]
        except SourceError as error:
            return Row.failed(tag, snapshot.commit, str(error))
        return Row.of(tag, snapshot.commit, evaluations)

    def _evaluate(self, tag: Tag, kind: Kind, snapshot: Snapshot, trees: Trees) -> Evaluation:
        recipe = kind.recipe(tag)
        blobs = tuple(snapshot.blobs.get(path) for path in planner.paths(recipe, self.registry))
        changes = self.registry.of_recipe(recipe)
        patches = tuple(patch.name for change in changes for patch in change.select(recipe.tag))
        served = tuple(recipe.tag in change.tags for change in changes)
        key = (kind, patches, served, blobs)
        if key not in self._evaluations:
            read, memo = trees.reader(tag, snapshot), trees.memo(snapshot)
            self._evaluations[key] = evaluate(recipe, read, self.registry, memo)
        return self._evaluations[key]

    def _paths(self, tag: Tag) -> tuple[str, ...]:
        paths = (path for kind in self.kinds for path in planner.paths(kind.recipe(tag), self.registry))
        return tuple(dict.fromkeys(paths))
