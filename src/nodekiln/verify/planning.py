"""Depth "plan": all tags by all recipes, computed from git objects, and only what was not known before.

A question is a recipe with the patches that serve a tag; an answer goes by the blobs of the files that the
question is about. Of known commits not even the folders are opened. A tree that is another release's is no
answer for a tag, whatever would fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from nodekiln.changes import planner
from nodekiln.changes.series import FIRST, Series
from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Meter, Reporter
from nodekiln.source.releases import HEADER, mismatch
from nodekiln.source.tagset import Snapshot, TagSet
from nodekiln.verify.cache import Asked, Cache
from nodekiln.verify.evaluate import judge
from nodekiln.verify.memo import Bounded, Parts
from nodekiln.verify.outcome import Judgement, Kind, Row
from nodekiln.verify.trees import Trees

_CONTENTS = 16 * 2**20
_PARTS = 16 * 2**20
"""Bytes of files whose parts are kept; a part holds such a file before and after."""
_WINDOW = 16
"""Tags whose files are read together: about 7 MB."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A row for each tag, and how many of them were known from an earlier run."""

    rows: tuple[Row, ...]
    remembered: int


@dataclass(slots=True)
class Planning:
    """What is asked of every tag."""

    tags: TagSet
    kinds: Sequence[Kind]
    series: Series
    cache: Cache
    reporter: Reporter
    _judged: dict[tuple[Tag, Kind], Judgement] = field(default_factory=dict)

    def run(self, commits: Mapping[Tag, str], *, accept_moved: bool) -> Planned:
        """Raises SourceError where the repository can't be reached."""
        known = self.cache.by_commit()
        pinned = self.tags.pinned()
        for tag, commit in commits.items():
            for kind in self.kinds:
                found = known.get(self._asked(tag, kind, commit))
                if found is not None and pinned.get(tag) == commit:
                    self._judged[tag, kind] = found
        fresh = {
            tag: commit
            for tag, commit in commits.items()
            if any((tag, kind) not in self._judged for kind in self.kinds)
        }
        errors = self._look(fresh, accept_moved) if fresh else {}
        rows = (self._row(tag, commit, errors.get(tag)) for tag, commit in sorted(commits.items()))
        return Planned(tuple(rows), len(commits) - len(fresh))

    def _row(self, tag: Tag, commit: str, error: SourceError | None) -> Row:
        if error is not None:
            return Row.failed(tag, commit, str(error))
        return Row.of(tag, commit, [(kind, self._judged[tag, kind]) for kind in self.kinds])

    def _look(self, fresh: Mapping[Tag, str], accept_moved: bool) -> dict[Tag, SourceError]:
        """Plans what is not known; answers what could not be looked at."""
        found = self.tags.look_up(fresh, lambda tag: (*self._paths(tag), HEADER), accept_moved=accept_moved)
        errors = {tag: each for tag, each in found.items() if isinstance(each, SourceError)}
        snapshots = {tag: each for tag, each in found.items() if isinstance(each, Snapshot)}
        keys = {
            (tag, kind): self._key(tag, kind, snapshot)
            for tag, snapshot in snapshots.items()
            for kind in self.kinds
        }
        answers = self.cache.by_blobs()
        before = set(answers)
        waiting = {
            tag: snapshot
            for tag, snapshot in sorted(snapshots.items())
            if any(keys[tag, kind] not in before for kind in self.kinds)
        }
        trees = self._fetch(snapshots, waiting)
        errors |= dict(self._others(snapshots, trees))
        waiting = {tag: snapshot for tag, snapshot in waiting.items() if tag not in errors}
        errors |= dict(self._plan(waiting, trees, keys, answers))
        looked: dict[Asked, str] = {}
        for (tag, kind), key in keys.items():
            if tag not in errors:
                self._judged[tag, kind] = answers[key]
                looked[self._asked(tag, kind, fresh[tag])] = key
        self.cache.keep(looked, {key: answers[key] for key in looked.values() if key not in before})
        return errors

    def _fetch(self, snapshots: Mapping[Tag, Snapshot], waiting: Mapping[Tag, Snapshot]) -> Trees:
        """All files of those that wait for a plan; what the others call themselves."""
        blobs = [blob for snapshot in waiting.values() for blob in snapshot.blobs.values()]
        blobs += [snapshot.blobs[HEADER] for snapshot in snapshots.values() if HEADER in snapshot.blobs]
        return Trees(self.tags, self.tags.fetch_blobs(blobs, snapshots), Bounded(_CONTENTS))

    def _others(self, snapshots: Mapping[Tag, Snapshot], trees: Trees) -> Iterator[tuple[Tag, SourceError]]:
        """Those whose tree is another release's, or none of Node's."""
        headers = {
            tag: Snapshot(each.commit, {path: blob for path, blob in each.blobs.items() if path == HEADER})
            for tag, each in snapshots.items()
        }
        trees.prefetch(headers.values())
        for tag, snapshot in headers.items():
            try:
                error = mismatch(tag, self.tags.location.shown, trees.reader(tag, snapshot)(HEADER))
            except SourceError as damage:
                error = damage
            if error is not None:
                yield tag, error

    def _plan(
        self,
        waiting: Mapping[Tag, Snapshot],
        trees: Trees,
        keys: Mapping[tuple[Tag, Kind], str],
        answers: dict[str, Judgement],
    ) -> Iterator[tuple[Tag, SourceError]]:
        """Fills `answers` by key; tells which tags can't be read."""
        parts = Parts({blob: header.size for blob, header in trees.headers.items()}, Bounded(_PARTS))
        with self.reporter.progress("planning") as meter:
            for tag, snapshot in _ahead(trees, waiting, meter):
                try:
                    read, remember = trees.reader(tag, snapshot), parts.of_tree(snapshot.blobs)
                    for kind in self.kinds:
                        if keys[tag, kind] not in answers:
                            answers[keys[tag, kind]] = judge(kind.recipe(tag), read, self.series, remember)
                except SourceError as error:
                    yield tag, error

    def _paths(self, tag: Tag) -> tuple[str, ...]:
        paths = (path for kind in self.kinds for path in planner.paths(kind.recipe(tag), self.series))
        return tuple(dict.fromkeys(paths))

    def _asked(self, tag: Tag, kind: Kind, commit: str) -> Asked:
        """With the tag: a commit that is fine as one release is not so as another."""
        return f"{tag}: {self._question(tag, kind)}", commit

    def _question(self, tag: Tag, kind: Kind) -> str:
        patches = " ".join(patch.name for patch in self.series.select(tag)) if kind.probes else ""
        return f"{kind.name}, {'old' if tag < FIRST else 'new'}: {patches}"

    def _key(self, tag: Tag, kind: Kind, snapshot: Snapshot) -> str:
        paths = planner.paths(kind.recipe(tag), self.series)
        lines = (f"{path}\0{snapshot.blobs.get(path, '-')}" for path in paths)
        return hashlib.sha256("\n".join([self._question(tag, kind), *lines]).encode()).hexdigest()


def _ahead(trees: Trees, waiting: Mapping[Tag, Snapshot], meter: Meter) -> Iterator[tuple[Tag, Snapshot]]:
    """Tag by tag, their files read some tags ahead."""
    queue: Iterable[tuple[Tag, Snapshot]] = iter(waiting.items())
    done = 0
    while window := list(islice(queue, _WINDOW)):
        trees.prefetch(snapshot for _, snapshot in window)
        for tag, snapshot in window:
            meter.update(done, len(waiting), str(tag))
            yield tag, snapshot
            done += 1
