"""The mirror on disk: made whole or not at all, cleaned of what a killed fetch left, read without fetching.

Knows no network: which locations exist and what is fetched from them is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TypeVar
from weakref import finalize

import git
from git.objects.fun import tree_entries_from_data

from nodekiln.core.errors import SourceError
from nodekiln.source.git_errors import damaged
from nodekiln.source.git_runner import GitError, GitRunner
from nodekiln.source.location import Location

_AT_ONCE = 4 * 2**20
"""Bytes of content that are held at once."""
_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Header:
    """What git tells of an object before its content; `size` is in bytes."""

    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Reads with a git that never fetches (see mirror.Objects)."""

    git: GitRunner
    mirror: Path

    def headers(self, object_ids: Iterable[str]) -> dict[str, Header]:
        """Kind and size of those objects that are there and can be read that far.

        Raises SourceError where git can't read the mirror at all.
        """
        asked = _lines(object_ids)
        if not asked:
            return {}
        found = {}
        for line in self._told("--batch-check", stdin=asked):
            match line.split():
                case [object_id, kind, size]:
                    found[object_id.decode()] = Header(kind.decode(), int(size))
        return found

    def lacking(self, object_ids: Iterable[str]) -> list[str]:
        """Those that are not there, each once."""
        wanted = list(dict.fromkeys(object_ids))
        there = self.headers(wanted)
        return [object_id for object_id in wanted if object_id not in there]

    def check(self) -> None:
        """Raises SourceError where an object is there, by the index of its pack, and git can't find its kind.

        To be asked where one is missing, since git tells such as missing too; 20 ms for the objects of a tag.
        """
        for line in self._told("--batch-all-objects", "--batch-check"):
            if line.endswith(b" missing"):
                raise damaged(self.mirror, f"its object {line.split()[0].decode()} can't be read")

    def contents(self, headers: Mapping[str, Header]) -> Iterator[tuple[str, bytes | None]]:
        """The bytes of these objects, in some order; None for one that is damaged.

        Reads them in groups of 4 MB, or one that is larger.
        """
        queue = iter(headers.items())
        group: dict[str, int] = {}
        size = 0
        for object_id, header in queue:
            group[object_id] = header.size
            size += header.size
            if size >= _AT_ONCE:
                yield from self._group(group)
                group, size = {}, 0
        yield from self._group(group)

    def _told(self, *options: str, stdin: bytes = b"") -> list[bytes]:
        try:
            return self.git.run("cat-file", "--buffer", *options, stdin=stdin).splitlines()
        except GitError as error:
            raise damaged(self.mirror, error) from None

    def _group(self, sizes: dict[str, int]) -> Iterator[tuple[str, bytes | None]]:
        if not sizes:
            return
        try:
            told = self.git.run("cat-file", "--batch", "--buffer", stdin=_lines(sizes))
        except GitError:  # git ends at the first object that it finds damaged
            if len(sizes) == 1:
                yield next(iter(sizes)), None
                return
            half = len(sizes) // 2
            yield from self._group(dict(islice(sizes.items(), half)))
            yield from self._group(dict(islice(sizes.items(), half, None)))
            return
        position = 0
        for object_id, size in sizes.items():
            end = told.index(b"\n", position)
            if told[position:end].endswith(b" missing"):  # there, by its header, and can't be read
                yield object_id, None
                position = end + 1
            else:
                yield object_id, told[end + 1 : end + 1 + size]
                position = end + 1 + size + 1


def entries(folder: bytes) -> dict[str, tuple[int, str]]:
    """Mode and id by name, from a tree's content; names that are no UTF-8 with their bytes spelled out.

    src/ has 400 entries: 0.2 ms, where GitPython's parser, which goes byte by byte, takes 2.
    """
    return {
        name.decode(errors="backslashreplace"): (int(mode, 8), object_id.hex())
        for mode, name, object_id in _ENTRY.findall(folder)
    }


def _lines(object_ids: Iterable[str]) -> bytes:
    return "".join(f"{object_id}\n" for object_id in object_ids).encode()


_READING = "reading.git"
_CACHED_FOLDERS = 1000
"""A folder of Node's has some 30 entries: a thousand of them take about 5 MB."""
_UNSET = 1
"""How `git config --get` ends for what is not set."""
_NONE = "not in a git directory"
_AGAIN = "Run the command again where the repository can be reached."
Answer = TypeVar("Answer")

_LEFTOVERS = ("objects/pack/tmp_*", "*.lock", "refs/kiln/*/*.lock", "refs/seen/*/*.lock")


def make_mirror(mirror: Path) -> None:
    """Makes an empty mirror where there is none. The caller holds the lock "mirror".

    Raises SourceError where git can't.
    """
    if mirror.is_dir():
        return
    try:
        mirror.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{mirror.name}.new-"
        for left in mirror.parent.glob(f"{prefix}*"):  # those of killed runs: nobody else holds the lock
            shutil.rmtree(left, ignore_errors=True)
        new = Path(mkdtemp(prefix=prefix, dir=mirror.parent))
        try:
            _initialize(new)
            new.chmod(0o755)
            new.rename(mirror)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except (OSError, GitError) as error:
        told = " ".join(str(error).split())
        raise SourceError(f"The mirror {mirror} can't be made: {told}.") from None


def register(mirror: Path, location: Location) -> None:
    """Makes `location` a remote that promises what the mirror does not hold.

    The caller holds the lock "mirror". Raises SourceError where git can't.
    """
    name = f"remote.{location.key}"
    values = {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": location.key,
        f"{name}.promisor": "true",
        f"{name}.partialclonefilter": "blob:none",
        f"{name}.url": location.url,  # the last: a remote with a URL is complete
    }
    for key, value in values.items():
        try:
            GitRunner(mirror).run("config", key, value)
        except GitError as error:
            if _NONE in error.stderr:
                raise damaged(mirror, "it is no git repository") from None
            raise SourceError(
                f"The mirror {mirror} can't be set up: {location.hide(error.stderr)}.",
                remedy="Make it writable, or move it out of the way, and run the command again.",
            ) from None


def _initialize(folder: Path) -> None:
    GitRunner(folder).run("init", "--quiet", "--bare", "--template=", "--object-format=sha1")


def _make_reading(mirror: Path) -> None:
    """Makes the repository that `Objects` reads with; nobody holds a lock, so that two may do so at once."""
    folder = mirror / _READING
    if (folder / "HEAD").is_file():
        return
    try:
        with TemporaryDirectory(prefix=f"{_READING}.new-", dir=mirror, ignore_cleanup_errors=True) as made:
            new = Path(made) / _READING
            _initialize(new)
            with suppress(OSError):  # another run has made it meanwhile
                new.rename(folder)
        if not (folder / "HEAD").is_file():
            raise FileExistsError(f"{folder} is there and is no git repository")
    except (OSError, GitError) as error:
        told = " ".join(str(error).split())
        raise SourceError(
            f"The mirror {mirror} can't be read: {told}.",
            remedy=f"Make it writable, or remove {folder}, and run the command again.",
        ) from None


def is_registered(mirror: Path, location: Location) -> bool:
    """Whether the mirror is there and has `location` as a remote. Raises SourceError where git can't tell."""
    if not mirror.is_dir():
        return False
    try:
        GitRunner(mirror).run("config", "--get", f"remote.{location.key}.url")
    except GitError as error:
        if error.status != _UNSET:
            raise damaged(mirror, error) from None
        return False
    return True


def remove_leftovers(mirror: Path) -> None:
    """Removes half-made packs and locks of a git that was killed. The caller holds the lock "mirror"."""
    for pattern in _LEFTOVERS:
        for leftover in mirror.glob(pattern):
            with suppress(OSError):
                leftover.unlink()


@dataclass(frozen=True, slots=True)
class Listed:
    """A file or symbolic link of a commit; `size` is in bytes, None where the mirror lacks its content."""

    blob: str
    size: int | None


class Objects:
    """Reads objects of a mirror, from one process that stays, and never fetches.

    git on the mirror itself would fetch a missing object when asked about it, one request each, and git
    before 2.45 can't be told not to. So it is asked on a second, empty repository that borrows the mirror's
    objects and knows of no remote.
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
        """ "commit", "tree", "blob" or "tag"; None where the mirror does not hold the object.

        Raises SourceError where git can't read the mirror.
        """
        answer = self._ask(self._git.get_object_header, object_id)
        return None if answer is None else _text(answer[1])

    def read(self, commit: str, path: str) -> bytes | None:
        """The bytes of the regular file `path` of a commit; None where `find` finds none.

        Raises SourceError where the mirror lacks the commit, one of its folders or the file's content, and
        where it is damaged.
        """
        blob = self.find(commit, path)
        if blob is None:
            return None
        content = self._content(blob)
        if content is None:
            self.batch.check()
            raise SourceError(f"{path} of commit {commit[:12]} has not been fetched.", remedy=_AGAIN)
        return content

    def find(self, commit: str, path: str) -> str | None:
        """The id of the regular file `path` of a commit; None for nothing, folders, links and submodules.

        Raises SourceError where the mirror lacks the commit or one of its folders, or is damaged.
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
        """All files and symbolic links of a commit that came with its folders, once per path.

        Raises SourceError where the mirror can't be read, or has lost one of them.
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
        """The bytes of an object; git gives none, or some, of one that it then finds damaged, and ends."""
        for _ in range(2):  # a git that was killed gives some as well; a new one doesn't
            answer = self._ask(self._git.get_object_data, object_id)
            if answer is None:
                return None
            name, kind, size, content = answer
            if len(content) == size and _text(name) == _id(_text(kind), content):
                return content
            self._git.clear_cache()
        raise self._damage(object_id)

    def _ask(self, question: Callable[[str], Answer], object_id: str) -> Answer | None:
        """None where the mirror does not hold the object; raises SourceError where git gives no answer.

        GitPython has the same ValueError for both, and OSError where git has ended before.
        """
        try:
            return question(object_id)
        except (ValueError, OSError):
            if not self.batch.headers([object_id]):
                return None
        self._git.clear_cache()  # a new one is asked: this one may have been killed
        try:
            return question(object_id)
        except (ValueError, OSError):
            raise self._damage(object_id) from None

    def _damage(self, object_id: str) -> SourceError:
        """What git says of an object that it could not give."""
        self._git.clear_cache()
        try:
            self._runner.run("cat-file", "--batch", stdin=f"{object_id}\n".encode())
        except GitError as error:
            return damaged(self._mirror, error)
        return damaged(self._mirror, f"{object_id} is another object than its name says")

    def _folder(self, object_id: str) -> dict[str, tuple[int, str]]:
        known = self._folders.get(object_id)
        if known is None:
            data = self._content(object_id)
            if data is None:
                self.batch.check()
                raise SourceError(f"The mirror does not hold {object_id}.", remedy=_AGAIN)
            known = {name: (mode, binary.hex()) for binary, mode, name in tree_entries_from_data(data)}
            if len(self._folders) >= _CACHED_FOLDERS:
                self._folders.clear()
            self._folders[object_id] = known
        return known


def _id(kind: str, content: bytes) -> str:
    """git's name for an object; a mirror is made for SHA-1, whatever it is filled from."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word  # GitPython declares str and gives bytes
