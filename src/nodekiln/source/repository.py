"""Answers which commit a tag of a repository is, and fetches into the mirror just what was asked for.

Knows nothing of working trees, of plans, or of tarballs.
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
from nodekiln.source.pins import Pins
from nodekiln.source.remote import Remote, are_ids_refused
from nodekiln.source.tarball import imported


@dataclass(frozen=True, slots=True)
class Revision:
    """What a tag is: `location` is where that was asked, as it may be shown; `commit` has 40 hex digits."""

    tag: Tag
    location: str
    commit: str


@dataclass(frozen=True, slots=True)
class CheckoutSize:
    """What a checkout takes: files and symbolic links, and the bytes in them."""

    files: int
    size: int


class Repository:
    """One repository, seen through the mirror that it shares with all others."""

    def __init__(self, workspace: Workspace, location: Location, reporter: Reporter) -> None:
        self._location, self._reporter = location, reporter
        self._remote = Remote(workspace, location, reporter)
        self._pins = Pins(self._remote.git, location)

    def resolve(self, tag: Tag, *, accept_moved: bool = False) -> Revision:
        """Which commit `tag` is; the first answer is pinned, and its commit and folders are fetched.

        Later answers are compared with the pin, which stands in for a repository that can't be reached or has
        lost the tag. Raises SourceError where there is no such tag, it is no commit, it has moved and
        `accept_moved` isn't set, or the repository can't be reached and nothing is pinned.
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
                f"{self._location.shown} can't be reached ({quote(error, self._location)}); "
                f"{tag} is taken as it was before, {pinned[:12]}."
            )
            return self._revision(tag, pinned)
        if commit is None and pinned is not None:
            self._reporter.warn(
                f"{self._location.shown} has no tag {tag} any more; it is taken as it was, {pinned[:12]}."
            )
            return self._revision(tag, pinned)
        assert commit is not None  # noqa: S101 (one of the two is known here; this tells mypy)
        if pinned not in (None, commit) and not accept_moved:
            raise moved(tag, str(pinned), commit, self._location)
        if pinned != commit or not self._pins.is_whole(commit):
            self._pin(tag, commit)
        return self._revision(tag, commit)

    def fetch_files(self, revision: Revision, paths: Iterable[str]) -> None:
        """Fetches the contents of these files that the mirror lacks, in one request.

        Paths that are no regular file of the tag are passed over. Raises SourceError where the repository
        can't be reached or the disk is full.
        """
        found = dict.fromkeys(self._objects.find(revision.commit, path) for path in paths)
        wanted = [blob for blob in found if blob is not None]
        if self._remote.lacking(wanted):
            with self._remote.locked(str(revision.tag), revision.tag):
                self._fetch_blobs(revision.tag, self._remote.lacking(wanted))

    def fetch_all(self, revision: Revision) -> None:
        """Fetches the contents of all files of the tag that the mirror lacks, in one request.

        Raises SourceError where the repository can't be reached or the disk is full.
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
        """The bytes of a regular file; None where the tag has a link, a folder or nothing at `path`.

        Never fetches: raises SourceError for a file whose content was not fetched before.
        """
        return self._objects.read(revision.commit, path)

    def sizes(self, revision: Revision) -> CheckoutSize:
        """What a checkout takes. Raises SourceError where not all files have been fetched."""
        sizes = [listed.size for listed in self._objects.listing(revision.commit)]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            raise SourceError(
                f"{len(sizes) - len(known)} of {len(sizes)} files of {revision.tag} have not been fetched."
            )
        return CheckoutSize(len(known), sum(known))

    def _revision(self, tag: Tag, commit: str) -> Revision:
        return Revision(tag, self._location.shown, commit)

    @property
    def _objects(self) -> Objects:
        return self._remote.objects

    def _unfetched(self, revision: Revision) -> list[str]:
        listing = self._objects.listing(revision.commit)
        return list(dict.fromkeys(listed.blob for listed in listing if listed.size is None))

    # What asks the repository

    def _ask(self, tag: Tag) -> str | None:
        name = f"refs/tags/{tag}"
        refs = self._remote.refs(name, f"{name}^{{}}")
        return refs.get(f"{name}^{{}}", refs.get(name))  # an annotated tag's commit, or a lightweight tag's

    def _pin(self, tag: Tag, commit: str) -> None:
        """Fetches commit and folders where the mirror lacks them, and names the commit."""
        with self._remote.locked(str(tag), tag):
            known = self._objects.kind(commit) is not None
            if not known or not self._pins.is_whole(commit):
                # By the tag's name, not by its commit: servers without protocol 2 give only what has a name.
                again = ("--refetch",) if known else ()  # it came without its folders
                narrow = (*again, "--depth=1", "--filter=blob:none")
                self._remote.fetch(str(tag), *narrow, wants=[f"refs/tags/{tag}"])
            kind = self._objects.kind(commit)
            if kind is None:
                self._objects.batch.check()
                raise SourceError(
                    f"{tag} of {self._location.shown} is not {commit[:12]} any more.",
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
                f"{self._location.shown} does not give {len(lacking)} of {len(blobs)} files of {tag}.",
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
    here: Path,
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
    location = parse_location(given or default or OFFICIAL, base=here)
    repository = Repository(workspace, location, reporter)
    revision = repository.resolve(tag, accept_moved=accept_moved)
    return Source(
        revision.location,
        revision.commit,
        partial(repository.read, revision),
        partial(repository.fetch_files, revision),
        partial(repository.fetch_all, revision),
    )
