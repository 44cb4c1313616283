"""Create the mirror on disk atomically, clean up after killed fetches, and read it without fetching.

No network here: remote.py decides what is fetched, and from where.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar
from weakref import finalize

import git
from git.objects.fun import tree_entries_from_data

from nodekiln.core import limits
from nodekiln.core.errors import SourceError
from nodekiln.core.files import open_regular, staging_directory, temporary_directory
from nodekiln.source.git_errors import damaged
from nodekiln.source.git_runner import GitError, GitRunner
from nodekiln.source.location import Location

_GROUP_SIZE = 4 * 2**20
"""Bytes of content kept in memory at a time."""
_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Header:
    """The kind of an object and its `size` in bytes."""

    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Read many objects at once with a git that never fetches (see `Objects`).

    One process reads thousands of objects; a process for each takes 3 ms.
    """

    git: GitRunner
    mirror: Path

    def headers(self, object_ids: Iterable[str]) -> dict[str, Header]:
        """Return kind and size of the objects whose headers can be read; leave out the others.

        Raises SourceError if git can't read the mirror at all.
        """
        names = _lines(object_ids)
        if not names:
            return {}
        found = {}
        for line in self._cat_file("--batch-check", stdin=names):
            match line.split():
                case [object_id, kind, size]:
                    found[object_id.decode()] = Header(kind.decode(), int(size))
        return found

    def lacking(self, object_ids: Iterable[str]) -> list[str]:
        """Return the ids that the mirror does not have, each once."""
        wanted = list(dict.fromkeys(object_ids))
        present = self.headers(wanted)
        return [object_id for object_id in wanted if object_id not in present]

    def check(self) -> None:
        """Raise SourceError if a pack's index lists an object that git cannot read.

        Call this when an object is missing: git reports unreadable objects as missing too. Takes 20 ms for
        the objects of a tag.
        """
        for line in self._cat_file("--batch-all-objects", "--batch-check"):
            if line.endswith(b" missing"):
                raise damaged(self.mirror, f"its object {line.split()[0].decode()} can't be read")

    def contents(self, headers: Mapping[str, Header]) -> Iterator[tuple[str, bytes | None]]:
        """Yield the bytes of these objects in any order, None for a damaged one.

        Reads in groups of 4 MB; a larger object is a group of its own.
        """
        queue = iter(headers.items())
        group: dict[str, int] = {}
        size = 0
        for object_id, header in queue:
            group[object_id] = header.size
            size += header.size
            if size >= _GROUP_SIZE:
                yield from self._group(group)
                group, size = {}, 0
        yield from self._group(group)

    def _cat_file(self, *options: str, stdin: bytes = b"") -> list[bytes]:
        try:
            return self.git.run("cat-file", "--buffer", *options, stdin=stdin).splitlines()
        except GitError as error:
            raise damaged(self.mirror, error) from None

    def _group(self, sizes: dict[str, int]) -> Iterator[tuple[str, bytes | None]]:
        if not sizes:
            return
        try:
            output = self.git.run("cat-file", "--batch", "--buffer", stdin=_lines(sizes))
        except GitError:  # git exits at the first damaged object
            if len(sizes) == 1:
                yield next(iter(sizes)), None
                return
            half = len(sizes) // 2
            yield from self._group(dict(islice(sizes.items(), half)))
            yield from self._group(dict(islice(sizes.items(), half, None)))
            return
        position = 0
        for object_id, size in sizes.items():
            end = output.index(b"\n", position)
            if output[position:end].endswith(b" missing"):  # its header is readable, its content isn't
                yield object_id, None
                position = end + 1
            else:
                yield object_id, output[end + 1 : end + 1 + size]
                position = end + 1 + size + 1


def entries(folder: bytes) -> dict[str, tuple[int, str]]:
    """Parse a tree object into mode and id by name; bytes of names that aren't UTF-8 are escaped.

    Takes 0.2 ms for the 400 entries of src/; GitPython's parser, which goes byte by byte, takes 2.
    """
    return {
        name.decode(errors="backslashreplace"): (int(mode, 8), object_id.hex())
        for mode, name, object_id in _ENTRY.findall(folder)
    }


def _lines(object_ids: Iterable[str]) -> bytes:
    return "".join(f"{object_id}\n" for object_id in object_ids).encode()


_READING = "reading.git"
_MAX_CACHED_FOLDERS = 1000
"""A folder of Node has some 30 entries: a thousand folders take about 5 MB."""
_OUR_SETTING = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|ignorecase|precomposeunicode|symlinks|logallrefupdates)"
    r"|extensions\.(partialclone|objectformat|refstorage)"
    r"|remote\.[0-9a-f]{12}\.(promisor|partialclonefilter|url|fetch)"
)
"""Keys of the mirror's configuration, as git prints them, that git and `register` write."""
_NOT_A_REPOSITORY = "not in a git directory"
_FETCH_AGAIN = "Run the command again where the repository can be reached."
Answer = TypeVar("Answer")

_LEFTOVERS = ("objects/pack/tmp_*", "*.lock", "refs/kiln/*/*.lock", "refs/seen/*/*.lock")


def make_mirror(mirror: Path) -> None:
    """Create an empty mirror unless it exists. The caller holds the lock "mirror".

    Raises SourceError if git fails.
    """
    if mirror.is_dir():
        return
    try:
        mirror.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{mirror.name}.new-"
        with staging_directory(mirror.parent, prefix, clear=True) as new:
            _initialize(new)
            new.rename(mirror)
    except (OSError, GitError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"Creating the mirror {mirror} failed: {reason}.") from None


def register(mirror: Path, location: Location) -> None:
    """Add `location` as a promisor remote of the mirror, which is a partial clone.

    The caller holds the lock "mirror". Raises SourceError if git fails.
    """
    name = f"remote.{location.key}"
    values = {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": location.key,
        f"{name}.promisor": "true",
        f"{name}.partialclonefilter": "blob:none",
        f"{name}.url": location.url,  # last: is_registered takes a remote with a URL as complete
    }
    for key, value in values.items():
        try:
            GitRunner(mirror).run("config", key, value)
        except GitError as error:
            if _NOT_A_REPOSITORY in error.stderr:
                raise damaged(mirror, "it is not a git repository") from None
            raise SourceError(
                f"Setting up the mirror {mirror} failed: {location.hide(error.stderr)}.",
                remedy="Make it writable, or move it out of the way, and run the command again.",
            ) from None


def _initialize(folder: Path) -> None:
    GitRunner(folder).run("init", "--quiet", "--bare", "--template=", "--object-format=sha1")


def _make_reading(mirror: Path) -> None:
    """Create the repository that `Objects` reads through, without a lock: two runs may do so at once."""
    folder = mirror / _READING
    if (folder / "HEAD").is_file():
        return
    try:
        with temporary_directory(mirror) as made:
            new = made / _READING
            _initialize(new)
            with suppress(OSError):  # another run has created it in the meantime
                new.rename(folder)
        if not (folder / "HEAD").is_file():
            raise FileExistsError(f"{folder} exists and is not a git repository")
    except (OSError, GitError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"Reading the mirror {mirror} failed: {reason}.",
            remedy=f"Make it writable, or remove {folder}, and run the command again.",
        ) from None


def is_registered(mirror: Path, location: Location) -> bool:
    """Return True if the mirror exists and has `location` as a remote.

    Raises SourceError if git fails, or if the mirror's configuration has settings that are not ours: git runs
    the programs that some of them name.
    """
    if not mirror.is_dir():
        return False
    try:
        with open_regular(mirror / "HEAD"), open_regular(mirror / "config"):
            pass  # a pipe in their place would stop git
        listed = GitRunner(mirror).run("config", "--file", str(mirror / "config"), "--list", "-z")
    except (OSError, GitError) as error:
        raise damaged(mirror, error if isinstance(error, GitError) else str(error)) from None
    keys = {entry.partition("\n")[0] for entry in listed.decode(errors="replace").split("\0") if entry}
    if foreign := sorted(key for key in keys if not _OUR_SETTING.fullmatch(key)):
        raise SourceError(
            f"The configuration of the mirror has settings that nodekiln did not make: {', '.join(foreign)}.",
            remedy=f"Remove them from {mirror / 'config'}.",
        )
    return f"remote.{location.key}.url" in keys


def remove_leftovers(mirror: Path) -> None:
    """Remove partial packs and locks of a killed git. The caller holds the lock "mirror"."""
    for pattern in _LEFTOVERS:
        for leftover in mirror.glob(pattern):
            with suppress(OSError):
                leftover.unlink()


@dataclass(frozen=True, slots=True)
class Listed:
    """A file or symbolic link of a commit; `size` is in bytes, None if its content isn't in the mirror."""

    blob: str
    size: int | None


class Objects:
    """Read objects of the mirror through one long-lived process, without ever fetching.

    git run on the mirror itself would fetch each missing object with a request of its own, and git before
    2.45 has no option against that. So it runs on a second, empty repository that borrows the mirror's
    objects and has no remote.
    """

    def __init__(self, mirror: Path) -> None:
        _make_reading(mirror)
        own = {"GIT_DIR": str(mirror / _READING), "GIT_OBJECT_DIRECTORY": str(mirror / "objects")}
        self._runner = GitRunner(mirror / _READING, {"GIT_OBJECT_DIRECTORY": own["GIT_OBJECT_DIRECTORY"]})
        self.batch = Batch(self._runner, mirror)
        self._mirror = mirror
        self._git = git.Git(str(mirror))
        self._git.update_environment(**own)
        finalize(self, self._git.clear_cache)  # ends the process, in a cycle of references too
        self._folders: dict[str, dict[str, tuple[int, str]]] = {}

    def kind(self, object_id: str) -> str | None:
        """Return "commit", "tree", "blob" or "tag", or None if the mirror does not have the object.

        Raises SourceError if git can't read the mirror.
        """
        answer = self._ask(self._git.get_object_header, object_id)
        return None if answer is None else _text(answer[1])

    def read(self, commit: str, path: str) -> bytes | None:
        """Return the bytes of the regular file `path` of a commit, or None if `find` returns None.

        Raises SourceError if the mirror is damaged or lacks the commit, one of its folders or the content.
        """
        blob = self.find(commit, path)
        if blob is None:
            return None
        header = self._ask(self._git.get_object_header, blob)
        if header is not None and header[2] > limits.SOURCE_FILE:
            raise SourceError(
                f"{path} of commit {commit[:12]} has {header[2]} bytes; the limit is {limits.SOURCE_FILE}."
            )
        content = self._content(blob)
        if content is None:
            self.batch.check()
            raise SourceError(f"{path} of commit {commit[:12]} has not been fetched.", remedy=_FETCH_AGAIN)
        return content

    def find(self, commit: str, path: str) -> str | None:
        """Return the id of the regular file `path` of a commit, or None (missing, folder, link, submodule).

        Raises SourceError if the mirror is damaged or lacks the commit or one of its folders.
        """
        *folders, name = path.split("/")
        folder = self._folder(f"{commit}^{{tree}}")
        for step in folders:
            mode, object_id = folder.get(step, (0, ""))
            if not stat.S_ISDIR(mode):
                return None
            folder = self._folder(object_id)
        mode, object_id = folder.get(name, (0, ""))
        return object_id if stat.S_ISREG(mode) else None

    def listing(self, commit: str) -> Iterator[Listed]:
        """Yield all files and symbolic links of a commit whose folders have been fetched.

        Raises SourceError if the mirror can't be read or lacks one of the folders.
        """
        try:
            lines = self._runner.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit).split(b"\0")
        except GitError as error:
            raise damaged(self._mirror, error) from None
        for line in filter(None, lines):
            _, kind, blob, size = line.partition(b"\t")[0].split()
            if kind == b"blob":
                yield Listed(blob.decode(), int(size) if size.isdigit() else None)

    def _content(self, object_id: str) -> bytes | None:
        """Return the bytes of an object. For a damaged one git prints some of them, or none, and exits."""
        for _ in range(2):  # a killed git does the same, so ask a new one before calling it damage
            answer = self._ask(self._git.get_object_data, object_id)
            if answer is None:
                return None
            name, kind, size, content = answer
            if len(content) == size and _text(name) == _id(_text(kind), content):
                return content
            self._git.clear_cache()
        raise self._damage(object_id)

    def _ask(self, question: Callable[[str], Answer], object_id: str) -> Answer | None:
        """Return None if the mirror does not have the object; raise SourceError if git can't answer.

        GitPython raises the same ValueError for both, and OSError if git has exited before.
        """
        try:
            return question(object_id)
        except (ValueError, OSError):
            if not self.batch.headers([object_id]):
                return None
        self._git.clear_cache()  # ask a new git: this one may have been killed
        try:
            return question(object_id)
        except (ValueError, OSError):
            raise self._damage(object_id) from None

    def _damage(self, object_id: str) -> SourceError:
        """Return the error with git's message about an unreadable object."""
        self._git.clear_cache()
        try:
            self._runner.run("cat-file", "--batch", stdin=f"{object_id}\n".encode())
        except GitError as error:
            return damaged(self._mirror, error)
        return damaged(self._mirror, f"the content of {object_id} does not match its id")

    def _folder(self, object_id: str) -> dict[str, tuple[int, str]]:
        known = self._folders.get(object_id)
        if known is None:
            data = self._content(object_id)
            if data is None:
                self.batch.check()
                raise SourceError(f"The mirror does not have {object_id}.", remedy=_FETCH_AGAIN)
            known = {name: (mode, binary.hex()) for binary, mode, name in tree_entries_from_data(data)}
            if len(self._folders) >= _MAX_CACHED_FOLDERS:
                self._folders.clear()
            self._folders[object_id] = known
        return known


def _id(kind: str, content: bytes) -> str:
    """Return git's SHA-1 id of an object; the mirror always uses SHA-1."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word  # GitPython declares str and gives bytes
