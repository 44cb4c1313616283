"""Answers which commit a tag of a repository is, and fetches into the mirror just what was asked for.

Knows nothing of working trees, of plans, or of tarballs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

from nodekiln.errors import SourceError
from nodekiln.recipe import Tag
from nodekiln.reporting import Meter, Reporter
from nodekiln.source.failures import explain, no_such_tag, quote
from nodekiln.source.gitrun import GitError, GitRunner
from nodekiln.source.location import Location
from nodekiln.source.mirror import Objects, is_registered, make_mirror, register, remove_leftovers
from nodekiln.workspace import Workspace

_PATIENCE = 20.0
"""Seconds for ls-remote: GitHub lists two refs in under one, and 1,400 tags in three."""
_RECEIVING = re.compile(r"Receiving objects: +\d+% \((\d+)/(\d+)\)(?:, ([^,]+))?")
_IDS_REFUSED = re.compile(r"unadvertised object|not our ref")


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
        self._workspace, self._location, self._reporter = workspace, location, reporter
        self._mirror = workspace.mirror.absolute()
        self._git = GitRunner(self._mirror)

    def resolve(self, tag: Tag, *, accept_moved: bool = False) -> Revision:
        """Which commit `tag` is; the first answer is pinned, and its commit and folders are fetched.

        Later answers are compared with the pin, which stands in for a repository that can't be reached or has
        lost the tag. Raises SourceError where there is no such tag, it is no commit, it has moved and
        `accept_moved` isn't set, or the repository can't be reached and nothing is pinned.
        """
        self._prepare()
        pinned = self._pinned(tag)
        try:
            commit = self._ask(tag)
            if commit is None and pinned is None:
                raise no_such_tag(tag, self._list("refs/tags/v*"), self._location)
        except GitError as error:
            if pinned is None:
                raise explain(error, tag, self._location, self._mirror) from None
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
            raise SourceError(
                f"{tag} of {self._location.shown} was commit {str(pinned)[:12]} and is now {commit[:12]}.",
                remedy="Release tags don't move. If the new commit is the right one, add --accept-moved-tag.",
            )
        if pinned != commit:
            self._pin(tag, commit)
        return self._revision(tag, commit)

    def fetch_files(self, revision: Revision, paths: Iterable[str]) -> None:
        """Fetches the contents of these files that the mirror lacks, in one request.

        Paths that are no regular file of the tag are passed over. Raises SourceError where the repository
        can't be reached or the disk is full.
        """
        found = dict.fromkeys(self._objects.find(revision.commit, path) for path in paths)
        wanted = [blob for blob in found if blob is not None]
        if self._lacking(wanted):
            with self._locked(revision.tag):
                self._fetch_blobs(revision.tag, self._lacking(wanted))

    def fetch_all(self, revision: Revision) -> None:
        """Fetches the contents of all files of the tag that the mirror lacks, in one request.

        Raises SourceError where the repository can't be reached or the disk is full.
        """
        self._prepare()
        if self._objects.kind(revision.commit) is None:
            self._pin(revision.tag, revision.commit)
        if self._unfetched(revision):
            with self._locked(revision.tag):
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

    @cached_property
    def _objects(self) -> Objects:
        self._prepare()
        return Objects(self._mirror)

    def _revision(self, tag: Tag, commit: str) -> Revision:
        return Revision(tag, self._location.shown, commit)

    def _ref(self, tag: Tag) -> str:
        return f"refs/kiln/{self._location.key}/{tag}"

    def _pinned(self, tag: Tag) -> str | None:
        try:
            told = self._git.run("for-each-ref", "--format=%(objectname)", "--", self._ref(tag))
        except GitError as error:
            raise SourceError(
                f"The mirror {self._mirror} can't be read: {quote(error, self._location)}.",
                remedy="Move it out of the way and run the command again, which fetches what it needs.",
            ) from None
        return told.decode().strip() or None

    def _lacking(self, blobs: Iterable[str]) -> list[str]:
        return [blob for blob in blobs if self._objects.kind(blob) is None]

    def _unfetched(self, revision: Revision) -> list[str]:
        listing = self._objects.listing(revision.commit)
        return list(dict.fromkeys(listed.blob for listed in listing if listed.size is None))

    # What asks the repository

    def _list(self, *patterns: str) -> dict[str, str]:
        told = self._git.run("ls-remote", "--", self._location.key, *patterns, timeout=_PATIENCE)
        lines = (line.partition("\t") for line in told.decode(errors="replace").splitlines())
        return {name: commit for commit, _, name in lines}

    def _ask(self, tag: Tag) -> str | None:
        name = f"refs/tags/{tag}"
        refs = self._list(name, f"{name}^{{}}")
        return refs.get(f"{name}^{{}}", refs.get(name))  # an annotated tag's commit, or a lightweight tag's

    def _pin(self, tag: Tag, commit: str) -> None:
        """Fetches commit and folders where the mirror lacks them, and names the commit."""
        with self._locked(tag):
            if self._objects.kind(commit) is None:
                # By the tag's name, not by its commit: servers without protocol 2 give only what has a name.
                self._fetch(tag, "--depth=1", "--filter=blob:none", self._location.key, f"refs/tags/{tag}")
            kind = self._objects.kind(commit)
            if kind is None:
                raise SourceError(
                    f"{tag} of {self._location.shown} is not {commit[:12]} any more.",
                    remedy="Run the command again; add --accept-moved-tag if the new one is right.",
                )
            if kind != "commit":
                raise SourceError(
                    f"{tag} of {self._location.shown} names a {kind}, not a commit.",
                    remedy="Name another repository with --repository.",
                )
            self._git.run("update-ref", "--", self._ref(tag), commit)

    def _fetch_blobs(self, tag: Tag, blobs: list[str]) -> None:
        """The caller holds the lock."""
        if not blobs:
            return
        ids = "".join(f"{blob}\n" for blob in blobs).encode()
        try:
            self._fetch(tag, "--filter=blob:none", "--stdin", self._location.key, stdin=ids)
        except GitError as error:
            if not _IDS_REFUSED.search(error.stderr):
                raise
            whole = ("--depth=1", "--refetch", "--no-filter")
            self._fetch(tag, *whole, self._location.key, f"refs/tags/{tag}")
        lacking = self._lacking(blobs)
        if lacking:
            raise SourceError(
                f"{self._location.shown} does not give {len(lacking)} of {len(blobs)} files of {tag}.",
                remedy="Name another repository with --repository.",
            )

    def _fetch(self, tag: Tag, *arguments: str, stdin: bytes = b"") -> None:
        # Negotiation finds out what need not be sent, from commits: of a commit that is here, its files may
        # well not be. git's own fetches of missing objects leave it out too.
        settings = ("-c", "fetch.negotiationAlgorithm=noop")
        options = ("--progress", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no")
        remove_leftovers(self._mirror)
        try:
            with self._reporter.progress(f"{tag}, objects") as meter:
                show = partial(_show, meter)
                self._git.follow(*settings, "fetch", *options, *arguments, on_line=show, stdin=stdin)
        except BaseException:
            remove_leftovers(self._mirror)
            raise

    def _prepare(self) -> None:
        if not is_registered(self._mirror, self._location):
            with self._workspace.lock("mirror", f"setting up {self._location.shown}", self._reporter.say):
                make_mirror(self._mirror)
                remove_leftovers(self._mirror)
                register(self._mirror, self._location)

    @contextmanager
    def _locked(self, tag: Tag) -> Iterator[None]:
        """Holds the lock on the mirror; what git fails with comes out as SourceError."""
        with self._workspace.lock("mirror", f"fetch of {tag}", self._reporter.say):
            try:
                yield
            except GitError as error:
                raise explain(error, tag, self._location, self._mirror) from None


def _show(meter: Meter, line: str) -> None:
    match = _RECEIVING.search(line)
    if match:
        meter.update(int(match[1]), int(match[2]), match[3] or "")
