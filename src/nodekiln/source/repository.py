"""Resolve tags of a repository to commits, fetch what callers ask for, and open a tag for reading.

Knows nothing of working trees and plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nodekiln.core.edit import Read
from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.git_errors import explain, moved, no_commit, no_such_tag, quote
from nodekiln.source.git_runner import GitError
from nodekiln.source.location import OFFICIAL, Location, parse_location
from nodekiln.source.mirror import Objects
from nodekiln.source.remote import Pins, Remote, are_ids_refused
from nodekiln.source.tarball import imported


@dataclass(frozen=True, slots=True)
class Revision:
    """A resolved tag: `location` is the repository, without secrets; `commit` has 40 hex digits."""

    tag: Tag
    location: str
    commit: str


class Repository:
    """One repository, read through the mirror that all repositories share."""

    def __init__(self, workspace: Workspace, location: Location, reporter: Reporter) -> None:
        self._location, self._reporter = location, reporter
        self._remote = Remote(workspace, location, reporter)
        self._pins = Pins(self._remote.git, location)

    def resolve(self, tag: Tag, *, accept_moved: bool = False) -> Revision:
        """Return the commit of `tag`, pin it, and fetch the commit with its folders.

        If the tag is already pinned, the pin is compared with the repository, and used if the repository
        can't be reached or no longer has the tag. Raises SourceError if the tag does not exist, does not
        point to a commit, has moved without `accept_moved`, or can't be resolved and isn't pinned.
        """
        self._remote.prepare()
        pinned = self._pins.of(tag)
        try:
            commit = self._ask(tag)
            if commit is None and pinned is None:
                raise no_such_tag(tag, self._remote.refs("refs/tags/v*"), self._location)
        except GitError as error:
            if pinned is None:
                raise explain(error, str(tag), self._location, self._remote.mirror, tag=tag) from None
            self._reporter.warn(
                f"{self._location.shown} is unreachable ({quote(error, self._location)}); "
                f"using {tag} as last seen, commit {pinned[:12]}."
            )
            return self._revision(tag, pinned)
        if commit is None and pinned is not None:
            self._reporter.warn(
                f"{self._location.shown} no longer has tag {tag};"
                f" using it as last seen, commit {pinned[:12]}."
            )
            return self._revision(tag, pinned)
        assert commit is not None  # noqa: S101 (one of the two is known here; this tells mypy)
        if pinned not in (None, commit) and not accept_moved:
            raise moved(tag, str(pinned), commit, self._location)
        if pinned != commit or not self._pins.is_whole(commit):
            self._pin(tag, commit)
        return self._revision(tag, commit)

    def fetch_files(self, revision: Revision, paths: Iterable[str]) -> None:
        """Fetch the missing contents of these files in one request.

        Skips paths that aren't regular files of the tag. Raises SourceError if the repository can't be
        reached or the disk is full.
        """
        found = dict.fromkeys(self._objects.find(revision.commit, path) for path in paths)
        wanted = [blob for blob in found if blob is not None]
        if self._remote.lacking(wanted):
            with self._remote.locked(str(revision.tag), revision.tag):
                self._fetch_blobs(revision.tag, self._remote.lacking(wanted))

    def fetch_all(self, revision: Revision) -> None:
        """Fetch the missing contents of all files of the tag in one request.

        Raises SourceError if the repository can't be reached or the disk is full.
        """
        self._remote.prepare()
        if self._objects.kind(revision.commit) is None:
            self._pin(revision.tag, revision.commit)
        if self._unfetched(revision):
            with self._remote.locked(str(revision.tag), revision.tag):
                blobs = self._unfetched(revision)
                self._reporter.say(
                    f"fetching {len(blobs)} files of {revision.tag} from {self._location.shown}"
                )
                self._fetch_blobs(revision.tag, blobs)

    def read(self, revision: Revision, path: str) -> bytes | None:
        """Return the bytes of a regular file, or None if the tag has no regular file at `path`.

        Never fetches: raises SourceError for a file whose content has not been fetched.
        """
        return self._objects.read(revision.commit, path)

    def _revision(self, tag: Tag, commit: str) -> Revision:
        return Revision(tag, self._location.shown, commit)

    @property
    def _objects(self) -> Objects:
        return self._remote.objects

    def _unfetched(self, revision: Revision) -> list[str]:
        listing = self._objects.listing(revision.commit)
        return list(dict.fromkeys(listed.blob for listed in listing if listed.size is None))

    def _ask(self, tag: Tag) -> str | None:
        name = f"refs/tags/{tag}"
        refs = self._remote.refs(name, f"{name}^{{}}")
        return refs.get(f"{name}^{{}}", refs.get(name))  # an annotated tag's commit, or a lightweight tag's

    def _pin(self, tag: Tag, commit: str) -> None:
        """Fetch the commit and its folders unless the mirror has them, and pin the commit."""
        with self._remote.locked(str(tag), tag):
            known = self._objects.kind(commit) is not None
            if not known or not self._pins.is_whole(commit):
                # By the tag's name, not by commit: servers without protocol 2 serve only refs.
                again = ("--refetch",) if known else ()  # it was fetched without its folders
                narrow = (*again, "--depth=1", "--filter=blob:none")
                self._remote.fetch(str(tag), *narrow, wants=[f"refs/tags/{tag}"])
            kind = self._objects.kind(commit)
            if kind is None:
                self._objects.batch.check()
                raise SourceError(
                    f"{tag} of {self._location.shown} moved away from {commit[:12]} during the fetch.",
                    remedy="Run the command again; add --accept-moved-tag if the new one is right.",
                )
            if kind != "commit":
                raise no_commit(tag, kind, self._location)
            self._pins.pin(tag, commit)

    def _fetch_blobs(self, tag: Tag, blobs: list[str]) -> None:
        """The caller holds the lock."""
        if not blobs:
            return
        try:
            self._remote.fetch(str(tag), "--filter=blob:none", wants=blobs)
        except GitError as error:
            if not are_ids_refused(error):
                raise
            whole = ("--depth=1", "--refetch", "--no-filter")
            self._remote.fetch(str(tag), *whole, wants=[f"refs/tags/{tag}"])
        lacking = self._remote.lacking(blobs)
        if lacking:
            self._objects.batch.check()
            raise SourceError(
                f"{self._location.shown} did not send {len(lacking)} of {len(blobs)} files of {tag}.",
                remedy="Name another repository with --repository.",
            )


@dataclass(frozen=True)
class Source:
    """A tag's files: `origin` is for people, `commit` is in the mirror, `read` answers without a checkout.

    `need` fetches the files of these paths in one request, `need_all` every file of the tag; neither fetches
    what is here.
    """

    origin: str
    commit: str
    read: Read
    need: Callable[[Iterable[str]], None]
    need_all: Callable[[], None]


def open_source(
    workspace: Workspace,
    tag: Tag,
    *,
    given: str | None,
    default: str | None,
    cwd: Path,
    reporter: Reporter,
    accept_moved: bool,
) -> Source:
    """The repository `given`, else the tarball imported as this tag, else `default`, else Node's own.

    An import outranks a default: nobody imports a tarball of a tag that they would rather fetch.
    """
    tarball = None if given is not None else imported(workspace, tag)
    if tarball is not None:
        read = partial(Objects(workspace.mirror.absolute()).read, tarball.commit)
        return Source(str(tarball), tarball.commit, read, need=lambda _: None, need_all=lambda: None)
    location = parse_location(given or default or OFFICIAL, base=cwd)
    repository = Repository(workspace, location, reporter)
    revision = repository.resolve(tag, accept_moved=accept_moved)
    return Source(
        revision.location,
        revision.commit,
        partial(repository.read, revision),
        partial(repository.fetch_files, revision),
        partial(repository.fetch_all, revision),
    )
