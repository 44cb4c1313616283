"""Parses a patch file: a header that says what and why, then a git diff. Bytes are kept as they are.

unidiff parses the diff; what it would skip silently, or what an edit can't express, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from itertools import takewhile

from unidiff.constants import DEV_NULL, LINE_TYPE_ADDED, LINE_TYPE_CONTEXT, LINE_TYPE_NO_NEWLINE
from unidiff.errors import UnidiffParseError
from unidiff.patch import Hunk as ParsedHunk
from unidiff.patch import PatchedFile, PatchSet

from nodekiln.core.errors import PatchError
from nodekiln.core.reporting import escape_unprintable

_DIFF = "diff --git "
_PLAIN_MODE = "100644"
_NO_NEWLINE = "\\ No newline at end of file"
_SIGNATURE = "-- "
"""Ends a diff in a mail, as git format-patch writes it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a hunk, with its newline if the file has it; in the file before, after, or both."""

    content: bytes
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Hunk:
    """Consecutive lines. `start` is the index of the first in the file with the hunks above applied."""

    start: int
    from_top: bool
    """It begins at the first line of the file, and fits nowhere else."""
    lines: tuple[Line, ...]
    section: str = ""
    """The enclosing function, as git puts it behind the @@."""

    @property
    def before(self) -> list[bytes]:
        """The lines that it replaces, with context."""
        return [line.content for line in self.lines if line.before]

    @property
    def after(self) -> list[bytes]:
        """The lines after it is applied, with context."""
        return [line.content for line in self.lines if line.after]

    @property
    def to_bottom(self) -> bool:
        """Whether it has no context below its last change, and so fits only at the end of the file."""
        last = self.lines[-1]
        return not (last.before and last.after)

    @property
    def growth(self) -> int:
        """The number of lines that it adds, less those that it removes."""
        return sum(line.after - line.before for line in self.lines)


@dataclass(frozen=True, slots=True)
class FileDiff:
    """A patch's part for one file. The hunks of an added file have only its content."""

    path: str
    added: bool
    hunks: tuple[Hunk, ...]
    mode: str | None
    """A file mode that the patch sets ("100755"). It is not applied, as edits change only bytes."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch file. `subject` becomes the reason of its edits; `body` is the text below it."""

    name: str
    subject: str
    body: str
    files: tuple[FileDiff, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it changes or adds, each once, in the order of the patch."""
        return tuple(dict.fromkeys(file.path for file in self.files))


def parse(name: str, content: bytes) -> Patch:
    """Return a patch as git format-patch writes it; of the header, Subject and a text are enough.

    Raises PatchError for invalid patches, and for what a plan can't express: files removed, renamed or
    copied, links, binary files.
    """
    # Surrogates carry bytes that are not UTF-8 through str and back; StringIO, in which unidiff wraps a str,
    # ends lines at \n only.
    text = content.decode(errors="surrogateescape")
    head, found, rest = f"\n{text}".partition(f"\n{_DIFF}")
    if not found:
        raise _unusable(name, f"it has no line that begins with '{_DIFF}'")
    # Of bytes that are not UTF-8, email's parser makes headers that can't be printed.
    subject, body = _header(head.removeprefix("\n").encode(errors="surrogateescape").decode(errors="replace"))
    if not subject:
        raise _unusable(name, "it has no Subject: above its diff")
    diff = _DIFF + rest
    try:
        parsed = PatchSet(diff)
    except UnidiffParseError as error:
        raise _unusable(name, f"{error}".strip()) from None
    lines = diff.split("\n")
    return Patch(name, subject, body, tuple(_file(name, file, lines) for file in parsed))


def _header(text: str) -> tuple[str, str]:
    """Return the subject without git's [PATCH 1/2], and the text without git's list of files."""
    message = HeaderParser().parsestr(text)
    subject = " ".join(str(message["Subject"] or "").split())
    if subject.startswith("[PATCH"):
        subject = subject.partition("]")[2].strip()
    body = takewhile(lambda line: line != "---", str(message.get_payload()).splitlines())
    return subject, "\n".join(body).strip()


def _file(name: str, file: PatchedFile, lines: list[str]) -> FileDiff:
    shown = f"{file.source_file} -> {file.target_file}"
    if '"' in file.source_file + file.target_file:
        raise _unusable(name, f"{shown}: quoted paths are not supported")
    if file.target_file == DEV_NULL:
        raise _unusable(name, f"{shown}: files can't be removed")
    added = file.source_file == DEV_NULL
    if not added and file.source_file.removeprefix("a/") != file.target_file.removeprefix("b/"):
        raise _unusable(name, f"{shown}: files can't be renamed or copied")
    if file.is_binary_file or file.is_symlink or file.is_submodule:
        raise _unusable(name, f"{shown}: only text in plain files can be patched")
    path = file.target_file.removeprefix("b/")
    if not path.isprintable() or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise _unusable(name, f"{escape_unprintable(shown)}: the path is outside of the tree")
    mode = None if file.target_mode == (_PLAIN_MODE if added else file.source_mode) else file.target_mode
    return FileDiff(path, added, tuple(_hunks(name, file, lines)), mode)


def _hunks(name: str, file: PatchedFile, lines: list[str]) -> Iterator[Hunk]:
    for parsed in file:
        # Lines beyond the counts in the @@ line would be dropped silently, by git as well.
        number = max(line.diff_line_no or 0 for line in parsed)
        for line in lines[number:]:
            if line.startswith(("@@ ", _DIFF)) or line == _SIGNATURE:
                break
            if line not in ("", _NO_NEWLINE):
                raise _unusable(
                    name, f"{file.path}: {line[:80]!r} is beyond the line counts of the hunk above it"
                )
        start = max(0, parsed.target_start - 1)
        section = parsed.section_header.strip()
        yield Hunk(start, parsed.source_start <= 1, tuple(_lines(parsed)), section)


def _lines(parsed: ParsedHunk) -> Iterator[Line]:
    """Yield the lines; the marker of a missing newline removes it from the line above."""
    last: Line | None = None
    for line in parsed:
        if line.line_type == LINE_TYPE_NO_NEWLINE and last is not None:
            last = Line(last.content.removesuffix(b"\n"), last.before, last.after)
        elif line.diff_line_no is not None:  # else an empty line below the hunk
            if last is not None:
                yield last
            content = line.value.encode(errors="surrogateescape")
            context = line.line_type == LINE_TYPE_CONTEXT
            added = line.line_type == LINE_TYPE_ADDED
            last = Line(content, before=not added, after=context or added)
    if last is not None:
        yield last


def _unusable(name: str, why: str) -> PatchError:
    return PatchError(
        f"{name} can't be used: {why}.",
        remedy="Create it again with git format-patch, or restore it with git checkout patches.",
    )
