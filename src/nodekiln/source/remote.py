"""Query one repository and fetch from it into the mirror; callers decide which tags and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from nodekiln.core.recipe import Tag, release
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.git_errors import damaged, explain
from nodekiln.source.git_runner import GitError, GitRunner
from nodekiln.source.location import Location
from nodekiln.source.mirror import Objects, is_registered, make_mirror, register, remove_leftovers

_WHOLE, _SEEN = "refs/kiln", "refs/seen"


@dataclass(frozen=True, slots=True)
class Pins:
    """The pinned tags of one repository."""

    git: GitRunner
    location: Location

    def of(self, tag: Tag) -> str | None:
        """Return the commit that `tag` is pinned to, or None."""
        return self._read(*(f"{space}/{self.location.key}/{tag}" for space in (_SEEN, _WHOLE))).get(tag)

    def all(self) -> dict[Tag, str]:
        """Return every pinned tag with its commit."""
        return self._read(*(f"{space}/{self.location.key}/" for space in (_SEEN, _WHOLE)))

    def is_whole(self, commit: str) -> bool:
        """Return True if all folders of the commit were fetched, for this repository or another."""
        return bool(self._refs(f"--points-at={commit}", _WHOLE))

    def pin(self, tag: Tag, commit: str) -> None:
        """Pin a commit fetched with all its folders; the caller holds the lock on the mirror."""
        self.git.run(
            "update-ref",
            "--stdin",
            stdin=f"update {self._name(_WHOLE, tag)} {commit}\ndelete {self._name(_SEEN, tag)}\n".encode(),
        )

    def note(self, tags: Mapping[Tag, str]) -> None:
        """Pin commits fetched alone; the caller holds the lock on the mirror."""
        lines = (
            f"update {self._name(_SEEN, tag)} {commit}\ndelete {self._name(_WHOLE, tag)}\n"
            for tag, commit in tags.items()
        )
        self.git.run("update-ref", "--stdin", stdin="".join(lines).encode())

    def _name(self, space: str, tag: Tag) -> str:
        return f"{space}/{self.location.key}/{tag}"

    def _read(self, *places: str) -> dict[Tag, str]:
        pins = {}
        for line in self._refs(*places):
            commit, _, name = line.partition(" ")
            tag = release(name.rpartition("/")[2], pre=True)
            if tag is not None:
                pins[tag] = commit
        return pins

    def _refs(self, *places: str) -> list[str]:
        try:
            output = self.git.run("for-each-ref", "--format=%(objectname) %(refname)", *places)
        except GitError as error:
            raise damaged(self.git.git_dir, error) from None
        return output.decode().splitlines()


_TIMEOUT = 20.0
"""Seconds for ls-remote: GitHub lists two refs in under one, and 1,400 tags in three."""
_FILTER_REFUSED = re.compile(r"filter '[^']*' not supported|tree filter allows max depth")
_UNREACHABLE = re.compile(
    r"Could not resolve host|Failed to connect|Connection (?:refused|timed out)|Operation too slow"
)
_IDS_REFUSED = re.compile(r"unadvertised object|not our ref")


class Remote:
    """One repository and the mirror that all repositories share."""

    def __init__(self, workspace: Workspace, location: Location, reporter: Reporter) -> None:
        self.location, self.mirror = location, workspace.mirror.absolute()
        self.git = GitRunner(self.mirror, location.environment)
        self._workspace, self._reporter = workspace, reporter

    @cached_property
    def objects(self) -> Objects:
        """The mirror's objects."""
        self.prepare()
        return Objects(self.mirror)

    def prepare(self) -> None:
        """Register this repository in the mirror, creating it if needed; raise SourceError if git fails."""
        if not is_registered(self.mirror, self.location):
            with self._workspace.lock("mirror", f"setting up {self.location.shown}", self._reporter.say):
                make_mirror(self.mirror)
                remove_leftovers(self.mirror)
                register(self.mirror, self.location)

    def refs(self, *patterns: str) -> dict[str, str]:
        """Return the repository's matching refs and their object ids, without a fetch; raise GitError."""
        output = self.git.run("ls-remote", "--", self.location.key, *patterns, timeout=_TIMEOUT)
        lines = (line.partition("\t") for line in output.decode(errors="replace").splitlines())
        return {name: object_id for object_id, _, name in lines}

    def lacking(self, object_ids: Iterable[str]) -> list[str]:
        """Return the ids that the mirror does not have, each once."""
        return self.objects.batch.lacking(object_ids)

    def fetch(self, title: str, *options: str, wants: Iterable[str]) -> None:
        """Fetch `wants` (ids or refs) in one request; the caller holds the lock.

        Raises GitError if git fails.
        """
        # Negotiation assumes that a commit in the mirror comes with its files, which isn't true of a partial
        # mirror. git's own fetches of missing objects turn it off too.
        settings = ("-c", "fetch.negotiationAlgorithm=noop")
        always = ("--progress", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--stdin")
        lines = "".join(f"{want}\n" for want in wants).encode()
        remove_leftovers(self.mirror)
        try:
            with self._reporter.progress(f"{title}, objects") as meter:
                words = (*settings, "fetch", *always, *options, self.location.key)
                self.git.fetch(*words, on_objects=meter.update, stdin=lines)
        except BaseException:
            remove_leftovers(self.mirror)
            raise

    @contextmanager
    def locked(self, what: str, tag: Tag | None = None) -> Iterator[None]:
        """Hold the lock on the mirror; convert a GitError in the block into a SourceError about `what`."""
        with self._workspace.lock("mirror", f"fetch of {what}", self._reporter.say):
            try:
                yield
            except GitError as error:
                self.objects.batch.check()  # a damaged mirror must not be reported as the repository's fault
                raise explain(error, what, self.location, self.mirror, tag=tag) from None


def are_ids_refused(error: GitError) -> bool:
    """Return True if the server serves only refs (no protocol 2, no uploadpack.allowAnySHA1InWant)."""
    return _IDS_REFUSED.search(error.stderr) is not None


def is_filter_refused(error: GitError) -> bool:
    """Return True if the server does not support the filter (uploadpackfilter.tree.allow)."""
    return _FILTER_REFUSED.search(error.stderr) is not None


def is_refused_whole(error: GitError) -> bool:
    """Return True if the server refuses this kind of request, whichever objects it names."""
    return is_filter_refused(error) or "unadvertised object" in error.stderr


def is_unreachable(error: GitError) -> bool:
    """Return True if the server could not be reached, which may have taken minutes to find out."""
    return _UNREACHABLE.search(error.stderr) is not None
