"""Reads a patch file: a header that says what and why, then a git diff. Bytes come out as they went in.

unidiff parses the diff; what it would skip in silence, or what an edit can't say, is refused here.
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

_DIFF = "diff --git "
_PLAIN_MODE = "100644"
_NO_NEWLINE = "\\ No newline at end of file"
_SIGNATURE = "-- "
"""Ends a diff in a mail, as git format-patch writes it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a hunk, with its newline unless the file lacks it; in the file before, after, or both."""

    content: bytes
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that follow one another. `start` is where the first stands, from 0, in the file as the hunks
    above leave it; git goes by that number too."""

    start: int
    from_top: bool
    """It begins where the file begins, and fits nowhere else."""
    lines: tuple[Line, ...]
    section: str = ""
    """The function that it stands in, as git puts it behind the @@."""

    @property
    def before(self) -> list[bytes]:
        """What it looks for."""
        return [line.content for line in self.lines if line.before]

    @property
    def after(self) -> list[bytes]:
        """What it leaves there."""
        return [line.content for line in self.lines if line.after]

    @property
    def to_bottom(self) -> bool:
        """It has no context below its last change: it ends where the file ends, and fits nowhere else."""
        last = self.lines[-1]
        return not (last.before and last.after)

    @property
    def growth(self) -> int:
        """Lines that the file has more afterwards."""
        return sum(line.after - line.before for line in self.lines)


@dataclass(frozen=True, slots=True)
class FileDiff:
    """What a patch does to one file; all hunks of a file that it adds hold nothing but the content."""

    path: str
    added: bool
    hunks: tuple[Hunk, ...]
    mode: str | None
    """A file mode that the patch sets ("100755"). Edits are about bytes: it is not applied."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch file. `subject` becomes the reason of its edits; `body` tells the rest."""

    name: str
    subject: str
    body: str
    files: tuple[FileDiff, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it changes or adds, each once, in its order."""
        return tuple(dict.fromkeys(file.path for file in self.files))


def parse(name: str, content: bytes) -> Patch:
    """Reads a patch as git format-patch writes it, or with no more header than Subject and a text.

    Raises PatchError for what is no such patch, and for what a plan can't hold: files removed, renamed or
    copied, links, binary files.
    """
    # Surrogates carry bytes that are no UTF-8 through str and back; StringIO, in which unidiff wraps a str,
    # ends lines at \n only.
    text = content.decode(errors="surrogateescape")
    head, found, rest = f"\n{text}".partition(f"\n{_DIFF}")
    if not found:
        raise _unusable(name, f"it has no line that begins with '{_DIFF}'")
    subject, body = _header(head.removeprefix("\n"))
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
    """Subject, without git's [PATCH 1/2], and text, without git's list of files."""
    message = HeaderParser().parsestr(text)
    subject = " ".join(str(message["Subject"] or "").split())
    if subject.startswith("[PATCH"):
        subject = subject.partition("]")[2].strip()
    body = takewhile(lambda line: line != "---", str(message.get_payload()).splitlines())
    return subject, "\n".join(body).strip()


def _file(name: str, file: PatchedFile, lines: list[str]) -> FileDiff:
    told = f"{file.source_file} -> {file.target_file}"
    if '"' in file.source_file + file.target_file:
        raise _unusable(name, f"{told}: paths in quotes are not read")
    if file.target_file == DEV_NULL:
        raise _unusable(name, f"{told}: a plan removes no file")
    added = file.source_file == DEV_NULL
    if not added and file.source_file.removeprefix("a/") != file.target_file.removeprefix("b/"):
        raise _unusable(name, f"{told}: a plan renames and copies no file")
    if file.is_binary_file or file.is_symlink or file.is_submodule:
        raise _unusable(name, f"{told}: only text in plain files can be patched")
    path = file.target_file.removeprefix("b/")
    mode = None if file.target_mode == (_PLAIN_MODE if added else file.source_mode) else file.target_mode
    return FileDiff(path, added, tuple(_hunks(name, file, lines)), mode)


def _hunks(name: str, file: PatchedFile, lines: list[str]) -> Iterator[Hunk]:
    for parsed in file:
        # Lines beyond the counts in the @@ line would be dropped without a word, by git as well.
        number = max(line.diff_line_no or 0 for line in parsed)
        for line in lines[number:]:
            if line.startswith(("@@ ", _DIFF)) or line == _SIGNATURE:
                break
            if line not in ("", _NO_NEWLINE):
                raise _unusable(name, f"{file.path}: {line[:80]!r} stands below a hunk that is over by then")
        start = max(0, parsed.target_start - 1)
        section = parsed.section_header.strip()
        yield Hunk(start, parsed.source_start <= 1, tuple(_lines(parsed)), section)


def _lines(parsed: ParsedHunk) -> Iterator[Line]:
    """Its lines; the mark that a newline is missing takes it from the line above."""
    held: Line | None = None
    for line in parsed:
        if line.line_type == LINE_TYPE_NO_NEWLINE and held is not None:
            held = Line(held.content.removesuffix(b"\n"), held.before, held.after)
        elif line.diff_line_no is not None:  # else an empty line below the hunk
            if held is not None:
                yield held
            content = line.value.encode(errors="surrogateescape")
            context = line.line_type == LINE_TYPE_CONTEXT
            added = line.line_type == LINE_TYPE_ADDED
            held = Line(content, before=not added, after=context or added)
    if held is not None:
        yield held


def _unusable(name: str, why: str) -> PatchError:
    return PatchError(
        f"{name} can't be used: {why}.",
        remedy="Make it anew with git format-patch, or bring the checkout's patches/ back with git.",
    )
