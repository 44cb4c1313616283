"""Record which commit each tag of a repository pointed to when first seen, as refs of the mirror.

Commits fetched with all their folders (for builds) and commits fetched alone (for verify) are pinned under
different refs, so that verify never triggers the fetch of all folders.
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
