"""./inv verify: which tags, by which recipes, how deep; then a report. The steps, in order."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nodekiln.changes import series
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.source.location import OFFICIAL, parse_location
from nodekiln.source.tagset import TagSet
from nodekiln.verify import rules
from nodekiln.verify.cache import Cache
from nodekiln.verify.outcome import KINDS, Depth, Kind, Report, Row
from nodekiln.verify.planning import Planning
from nodekiln.verify.tagspec import TagSpec

_FILE = "verified.sqlite"


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """What a user asked; `jobs` None: as many as cores and memory allow."""

    tags: TagSpec
    kinds: tuple[Kind, ...] = KINDS
    depth: Depth = Depth.PLAN
    repository: str | None = None
    jobs: int | None = None
    accept_moved_tag: bool = False


def verify(request: VerifyRequest, settings: Settings, reporter: Reporter) -> Report:
    """A row for each tag that is meant.

    Raises UsageError for words that mean no tag, SourceError where the repository can't be reached,
    PatchError for patches that can't be read, and ToolchainError where a deeper look needs what isn't here.
    """
    begun = time.monotonic()
    compiles = any(kind.probes for kind in request.kinds)  # only patches touch C++
    if request.depth is Depth.BUILD or (request.depth is Depth.COMPILE and compiles):
        from nodekiln.verify.depths import check_machine  # the whole route of a build: 0.1 s to import

        check_machine(request.kinds, settings, reporter)
    named = request.repository or settings.repository or OFFICIAL
    location = parse_location(named, base=settings.here)
    patches = settings.patches / "usdt"
    loaded = series.load(patches)
    tags = TagSet(settings.workspace, location, reporter)
    listed = tags.listed()
    selection = request.tags.select(listed.tags)
    cache = Cache(settings.workspace.root / _FILE, rules.digest(patches))
    planning = Planning(tags, request.kinds, loaded, cache, reporter)
    planned = planning.run(
        {tag: listed.tags[tag] for tag in selection.tags}, accept_moved=request.accept_moved_tag
    )
    rows = planned.rows
    if request.depth is not Depth.PLAN:
        rows = _deeper(request, named, settings, reporter, rows)
    missing = tuple(Row.failed(tag, None, f"{location.shown} has no tag {tag}.") for tag in selection.missing)
    return Report(
        origin=location.shown,
        depth=request.depth,
        recipes=tuple(kind.name for kind in request.kinds),
        rows=tuple(sorted((*rows, *missing), key=lambda row: row.tag)),
        ignored=listed.others,
        remembered=planned.remembered,
        seconds=time.monotonic() - begun,
    )


def _deeper(
    request: VerifyRequest, repository: str, settings: Settings, reporter: Reporter, rows: tuple[Row, ...]
) -> tuple[Row, ...]:
    from nodekiln.verify.depths import Deeper

    kinds = {kind.name: kind for kind in request.kinds}
    deeper = Deeper(
        depth=request.depth,
        repository=repository,
        jobs=request.jobs,
        accept_moved=request.accept_moved_tag,
        settings=settings,
        reporter=reporter,
    )
    return tuple(deeper.row(row, kinds) for row in rows)
