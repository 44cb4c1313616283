"""Which commit each tag of a repository was when it was first seen, as refs of the mirror.

A tag of which a commit alone was fetched is pinned under another name than one that came with all its
folders: whoever builds has to fetch those, and whoever only looks must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodekiln.core.recipe import Tag
from nodekiln.source.git_errors import damaged
from nodekiln.source.git_runner import GitError, GitRunner
from nodekiln.source.location import Location
from nodekiln.source.releases import release

_WHOLE, _SEEN = "refs/kiln", "refs/seen"


@dataclass(frozen=True, slots=True)
class Pins:
    """Those of one repository."""

    git: GitRunner
    location: Location

    def of(self, tag: Tag) -> str | None:
        """The commit that `tag` was pinned to; None for a tag that was never seen."""
        return self._read(*(f"{space}/{self.location.key}/{tag}" for space in (_SEEN, _WHOLE))).get(tag)

    def all(self) -> dict[Tag, str]:
        """Every tag that was ever seen, and its commit."""
        return self._read(*(f"{space}/{self.location.key}/" for space in (_SEEN, _WHOLE)))

    def is_whole(self, commit: str) -> bool:
        """Whether all folders of the commit were fetched, for this repository or another."""
        return bool(self._refs(f"--points-at={commit}", _WHOLE))

    def pin(self, tag: Tag, commit: str) -> None:
        """Names a commit that came with all its folders; the caller holds the lock on the mirror."""
        self.git.run(
            "update-ref",
            "--stdin",
            stdin=f"update {self._name(_WHOLE, tag)} {commit}\ndelete {self._name(_SEEN, tag)}\n".encode(),
        )

    def note(self, tags: Mapping[Tag, str]) -> None:
        """Names commits that came alone; the caller holds the lock on the mirror."""
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
            told = self.git.run("for-each-ref", "--format=%(objectname) %(refname)", *places)
        except GitError as error:
            raise damaged(self.git.git_dir, error) from None
        return told.decode().splitlines()
