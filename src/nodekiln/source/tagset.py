"""Many tags of one repository: listed without a fetch, then fetched together, no more than is looked at.

Of a tag come its commit, the folders on the way to the files that are asked for, and those files: 25 objects
of 20,000. Folders are asked for level by level, since a server sends either none or all of them; each level
is one request for all tags. A failure of one tag is reported for that tag and does not affect others.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag, release
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.git_errors import damaged, explain, moved, no_commit, quote
from nodekiln.source.git_runner import GitError
from nodekiln.source.location import Location
from nodekiln.source.mirror import Batch, Header, entries
from nodekiln.source.remote import (
    Pins,
    Remote,
    are_ids_refused,
    is_filter_refused,
    is_refused_whole,
    is_unreachable,
)

_PEELED = "^{}"
_FILTERS = _TREELESS, _BLOBLESS, _WHOLE = "--filter=tree:0", "--filter=blob:none", "--no-filter"
"""From the narrowest to the widest."""
_MAX_FAILURES = 12
"""Requests that fail one after the other: one unavailable tag in 4,096 takes as many to find."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The releases of a repository with their object ids, and the number of other tags."""

    tags: Mapping[Tag, str]
    others: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tag's commit, and the blob of each requested path that is a regular file."""

    commit: str
    blobs: Mapping[str, str]


@dataclass(slots=True)
class _Walk:
    """The walk of one tag to its files: folders to open, by path."""

    commit: str
    folders: dict[str, str]
    wanted: dict[str, list[str]]
    """Wanted names, files and folders, by folder."""
    blobs: dict[str, str] = field(default_factory=dict)


class TagSet:
    """The tags of one repository."""

    def __init__(self, workspace: Workspace, location: Location, reporter: Reporter) -> None:
        self.location = location
        self._reporter = reporter
        self._remote = Remote(workspace, location, reporter)
        self._pins = Pins(self._remote.git, location)
        self._failure: GitError | None = None

    def listed(self, *, pre: bool = False) -> Listed:
        """Return the repository's release tags, and pre-releases if `pre` is set.

        Raises SourceError if the repository is unreachable.
        """
        self._remote.prepare()
        try:
            refs = self._remote.refs("refs/tags/*")
        except GitError as error:
            raise explain(error, "the list of tags", self.location, self._remote.mirror) from None
        names = [name for name in refs if not name.endswith(_PEELED)]
        found = {name: release(name, pre=pre) for name in names}
        tags = {tag: refs.get(name + _PEELED, refs[name]) for name, tag in found.items() if tag is not None}
        return Listed(tags, len(names) - len(tags))

    def pinned(self) -> dict[Tag, str]:
        """Every tag that was ever seen, and the commit that it was."""
        return self._pins.all()

    def look_up(
        self,
        tags: Mapping[Tag, str],
        paths: Callable[[Tag], Iterable[str]],
        *,
        accept_moved: bool = False,
    ) -> dict[Tag, Snapshot | SourceError]:
        """Find the files `paths(tag)` of each tag, fetching missing commits and folders.

        A tag's first commit is pinned. The answer is an error for a tag that moved since, that is no commit,
        or that can't be fetched or read. Raises SourceError if the mirror is damaged.
        """
        pinned = self._pins.all()
        answers: dict[Tag, Snapshot | SourceError] = {
            tag: moved(tag, pinned[tag], commit, self.location)
            for tag, commit in tags.items()
            if not accept_moved and pinned.get(tag, commit) != commit
        }
        current = {tag: commit for tag, commit in tags.items() if tag not in answers}
        self._fetch_commits(current)
        walks: dict[Tag, _Walk] = {}
        roots = self._roots(current)
        for tag, root in roots.items():
            if isinstance(root, SourceError):
                answers[tag] = root
            else:
                walks[tag] = _Walk(current[tag], {"": root}, _by_folder(paths(tag)))
        fresh = {tag: each.commit for tag, each in walks.items() if pinned.get(tag) != each.commit}
        if fresh:
            with self._remote.locked("pins"):
                self._pins.note(fresh)
        while any(walk.folders for walk in walks.values()):
            for tag, error in self._step(walks).items():
                answers[tag] = error
                del walks[tag]
        self._check()
        answers |= {tag: Snapshot(walk.commit, walk.blobs) for tag, walk in walks.items()}
        return {tag: answers[tag] for tag in tags}

    def fetch_blobs(self, blobs: Iterable[str], tags: Iterable[Tag]) -> dict[str, Header]:
        """Fetch the missing blobs in one request; return the headers of all that are then present.

        `tags` have these files: a server that gives no file by its id is asked for all of them. Raises
        SourceError where the mirror is damaged.
        """
        wanted = list(dict.fromkeys(blobs))
        lacking = self._batch.lacking(wanted)
        if lacking:
            with self._remote.locked(f"{len(lacking)} files"):
                lacking = self._remote.lacking(lacking)
                self._fetch_ids(f"{len(lacking)} files", lacking, _BLOBLESS, tags)
            self._check()
        return self._batch.headers(wanted)

    def contents(self, headers: Mapping[str, Header]) -> Iterator[tuple[str, bytes | None]]:
        """Yield the bytes of these blobs in any order, None for a damaged one."""
        return self._batch.contents(headers)

    def unreadable(self, what: str, name: str) -> SourceError:
        """Why `what`, the object `name`, has no content that could be looked at."""
        if not self._batch.lacking([name]):
            return damaged(self._remote.mirror, f"{what} can't be read")
        return SourceError(
            f"{what} is missing or damaged{self._why}.", remedy="Run git fsck in that repository."
        )

    def _check(self) -> None:
        """Raise SourceError if an object that could not be fetched is in the mirror, damaged."""
        if self._failure is not None:
            self._batch.check()

    @cached_property
    def _batch(self) -> Batch:
        return self._remote.objects.batch

    def _fetch_commits(self, tags: Mapping[Tag, str]) -> None:
        lacking = set(self._batch.lacking(tags.values()))
        names = [f"refs/tags/{tag}" for tag, commit in tags.items() if commit in lacking]
        if names:
            what = f"{len(names)} tags"
            with self._remote.locked(what):
                # By name: servers without protocol 2 give only what has one.
                self._in_parts(what, names, "--depth=1", narrow=_TREELESS)

    def _roots(self, tags: Mapping[Tag, str]) -> dict[Tag, str | SourceError]:
        """Return the top folder of each tag, or the error."""
        headers = self._batch.headers(dict.fromkeys(tags.values()))
        commits = {name: header for name, header in headers.items() if header.kind == "commit"}
        contents = dict(self._batch.contents(commits))
        return {
            tag: self._root(tag, name, headers.get(name), contents.get(name)) for tag, name in tags.items()
        }

    def _root(self, tag: Tag, name: str, header: Header | None, content: bytes | None) -> str | SourceError:
        if header is None:
            return SourceError(
                f"{tag} of {self.location.shown} is unavailable: it names {name[:12]}, which the repository"
                f" does not give{self._why}.",
                remedy="Run the command again, or name another repository with --repository.",
            )
        if header.kind != "commit":
            return no_commit(tag, header.kind, self.location)
        if content is None or not content.startswith(b"tree "):
            return self._unreadable(tag, "", name)
        return content[5:45].decode(errors="replace")

    def _step(self, walks: Mapping[Tag, _Walk]) -> dict[Tag, SourceError]:
        """Descend one level in all trees; return the errors of tags whose folders can't be opened."""
        ids = dict.fromkeys(name for walk in walks.values() for name in walk.folders.values())
        lacking = self._batch.lacking(ids)
        if lacking:
            what = f"{len(lacking)} folders"
            with self._remote.locked(what):
                tags = (
                    tag for tag, walk in walks.items() if not set(walk.folders.values()).isdisjoint(lacking)
                )
                self._fetch_ids(what, lacking, _TREELESS, tags)
        places: dict[str, list[tuple[Tag, str]]] = {}
        for tag, walk in walks.items():
            for folder, name in walk.folders.items():
                places.setdefault(name, []).append((tag, folder))
            walk.folders = {}
        headers = {name: header for name, header in self._batch.headers(ids).items() if header.kind == "tree"}
        # One at a time: the src/ of 800 tags would take 100 MB as dictionaries.
        for name, content in self._batch.contents(headers):
            if content is not None:
                listing = entries(content)
                for tag, folder in places.pop(name):
                    _descend(walks[tag], folder, listing)
        return {
            tag: self._unreadable(tag, folder, name) for name, lost in places.items() for tag, folder in lost
        }

    def _unreadable(self, tag: Tag, folder: str, name: str) -> SourceError:
        what = f"its folder {folder}" if folder else "its commit or top folder"
        return self.unreadable(f"{tag} of {self.location.shown}: {what} ({name[:12]})", name)

    def _fetch_ids(self, what: str, ids: list[str], narrow: str, tags: Iterable[Tag]) -> None:
        """Fetch objects by id; the caller holds the lock.

        Objects that the repository doesn't send stay missing.
        """
        error = self._in_parts(what, ids, narrow=narrow)
        if error is not None and are_ids_refused(error):
            self._reporter.say(f"{self.location.shown} gives no single files: whole trees are fetched")
            names = [f"refs/tags/{tag}" for tag in tags]
            self._in_parts(what, names, "--depth=1", "--refetch", narrow=_WHOLE)

    def _in_parts(self, what: str, wants: list[str], *options: str, narrow: str) -> GitError | None:
        """With the filter `narrow`, or the next one that the server takes; the last error if in vain."""
        for each in _FILTERS[_FILTERS.index(narrow) :]:
            error = self._in_halves(what, wants, *options, each)
            if error is None or not is_filter_refused(error):
                return error
        return error

    def _in_halves(self, what: str, wants: list[str], *options: str) -> GitError | None:
        """Fetch everything in one request; if that fails, each half, so that one bad object affects only
        itself.

        Answers with the last error if no request went well, or too many in a row did not.
        """
        waiting, in_a_row, went_well = [wants], 0, False
        while waiting:
            part = waiting.pop()
            try:
                self._remote.fetch(what, *options, wants=part)
                in_a_row, went_well = 0, True
            except GitError as error:
                self._failure = error
                in_a_row += 1
                if in_a_row > _MAX_FAILURES or is_refused_whole(error) or is_unreachable(error):
                    return error
                if len(part) > 1:
                    half = len(part) // 2
                    waiting += [part[half:], part[:half]]
        return None if went_well else self._failure

    @property
    def _why(self) -> str:
        """The message of git's last failed fetch."""
        return "" if self._failure is None else f" ({quote(self._failure, self.location)})"


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that lead to these paths, by folder ("" is the top)."""
    wanted: dict[str, dict[str, None]] = {}
    for path in paths:
        steps = path.split("/")
        for depth, step in enumerate(steps):
            wanted.setdefault("/".join(steps[:depth]), {})[step] = None
    return {folder: [*names] for folder, names in wanted.items()}


def _descend(walk: _Walk, folder: str, listing: Mapping[str, tuple[int, str]]) -> None:
    for name in walk.wanted.get(folder, ()):
        mode, object_id = listing.get(name, (0, ""))
        path = f"{folder}/{name}" if folder else name
        if stat.S_ISDIR(mode) and path in walk.wanted:
            walk.folders[path] = object_id
        elif stat.S_ISREG(mode) and path not in walk.wanted:
            walk.blobs[path] = object_id
