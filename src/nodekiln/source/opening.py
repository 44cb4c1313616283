"""One answer to "where does this tag come from": a repository or an imported tarball, read the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nodekiln.core.edit import Read
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.location import OFFICIAL, parse_location
from nodekiln.source.mirror import Objects
from nodekiln.source.repository import Repository
from nodekiln.source.tarball import imported


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
