"""Read patches that others wrote (diffs, mails, quilt patches), and fit them to one tag exactly.

Pure: text in, patches out, made again from the files of the tag so that every line number is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from pathlib import PurePosixPath

from nodekiln.changes import diff, hunks
from nodekiln.changes.patchfile import Patch, parse
from nodekiln.core.edit import Edit, Plan, Read
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag

_MAIL = re.compile(rb"^From [0-9a-f]{7,64} .*\n", re.MULTILINE)
_START = re.compile(rb"^(?:diff --git |Index: .*\n=+\n|--- .*\n\+\+\+ )", re.MULTILINE)
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_SIGNATURE = re.compile(r"\n-- \n[^\n]*\n*\Z")
_NAME = re.compile(r"[^a-z0-9]+")
_STAMP = re.compile(r"\t.*")
_NULL = "/dev/null"
_MAX_NAME = 50
_PSEUDO_HEADERS = ("Author", "Origin", "Forwarded", "Last-Update", "Bug", "Applied-Upstream", "Reviewed-By")
"""Headers of quilt patches (DEP-3) that say nothing about what the patch does."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One patch as its author wrote it: subject, reason, and the text of a git diff."""

    origin: str
    subject: str
    body: str
    diff: bytes


@dataclass(frozen=True, slots=True)
class Fitted:
    """A patch file for a change: its name and content, and how its hunks fit the tag."""

    name: str
    subject: str
    content: bytes
    hunks: tuple[hunks.Outcome, ...]


def read_drafts(content: bytes, origin: str) -> tuple[Draft, ...]:
    """Return the patches in a diff or in a mailbox of them, in order; raise PatchError if there are none."""
    content = _with_unix_newlines(content)
    starts = [match.start() for match in _MAIL.finditer(content)]
    if not starts or content[: starts[0]].strip():
        return (_draft(content, origin),)
    ends = [*starts[1:], len(content)]
    mails = [content[start:end].partition(b"\n")[2] for start, end in zip(starts, ends, strict=True)]
    return tuple(_mail(mail, f"{origin}, mail {number}") for number, mail in enumerate(mails, 1))


def fit(drafts: Iterable[Draft], tag: Tag, read: Read) -> tuple[Fitted, ...]:
    """Return the patches, made again from the tag's files; each is applied to the result of those before.

    Raises PatchError that lists every hunk that does not fit, and for what an edit can't express.
    """
    fitted: list[Fitted] = []
    done: dict[str, bytes] = {}
    bases: dict[str, bytes | None] = {}

    def current(path: str) -> bytes | None:
        return done[path] if path in done else read(path)

    for number, draft in enumerate(drafts, 1):
        applied = hunks.apply([_at_root(parse_draft(draft), current)], current)
        if applied.conflicts:
            raise PatchError(
                f"{draft.origin} does not fit {tag}:\n  " + "\n  ".join(map(str, applied.conflicts)),
                remedy="Name the tag that it was made for with --tag, or correct it by hand.",
            )
        if not applied.edits:
            raise PatchError(f"{draft.origin} changes nothing in {tag}.")
        content = render(draft.subject, draft.body, applied.edits)
        fitted.append(Fitted(file_name(number, draft.subject), draft.subject, content, applied.outcomes))
        for edit in applied.edits:
            bases.setdefault(edit.path, edit.base)
            done[edit.path] = edit.after
    return tuple(fitted)


def reverse(draft: Draft) -> Draft:
    """Return the patch that undoes a patch; raise PatchError for one that can't be parsed."""
    patch = parse_draft(draft)
    lines: list[bytes] = []
    for file in patch.files:
        path = file.path.encode(errors="surrogateescape")
        lines.append(b"diff --git a/%s b/%s\n" % (path, path))
        lines += [b"deleted file mode 100644\n"] if file.added else []
        lines.append(b"--- a/%s\n+++ %s\n" % (path, b"/dev/null" if file.added else b"b/%s" % path))
        for hunk in file.hunks:
            old, new = len(hunk.after), len(hunk.before)
            start = hunk.start + 1 if old else hunk.start
            lines.append(b"@@ -%d,%d +%d,%d @@\n" % (start, old, start, new))
            # An added line stays above the removed one that it replaces, which is as good.
            for line in hunk.lines:
                kind = b" " if line.before and line.after else b"+" if line.before else b"-"
                end = b"" if line.content.endswith(b"\n") else b"\n\\ No newline at end of file\n"
                lines.append(kind + line.content + end)
    subject = f"Undo: {draft.subject}"
    return Draft(draft.origin, subject, draft.body, b"".join(lines))


def parse_draft(draft: Draft) -> Patch:
    """Return the parsed patch; raise PatchError for what an edit can't express, with the reason."""
    patch = parse(draft.origin, f"Subject: {draft.subject}\n\n-\n\n".encode() + draft.diff)
    for file in patch.files:
        if file.mode is not None:
            raise PatchError(
                f"{draft.origin} can't be used: {file.path}: it sets the mode {file.mode}, and edits change"
                " only the bytes of files.",
                remedy="Remove that file's mode from the patch.",
            )
        if not file.hunks and not file.added:
            raise PatchError(f"{draft.origin} can't be used: {file.path}: it has no lines to change.")
    if not patch.files:
        raise PatchError(f"{draft.origin} can't be used: it changes no file.")
    return patch


def possible_paths(draft: Draft) -> tuple[str, ...]:
    """Return the paths that a patch may mean: node/lib/net.js may be lib/net.js."""
    found = (
        _suffix(path, level) for path in parse_draft(draft).paths for level in range(path.count("/") + 1)
    )
    return tuple(dict.fromkeys(found))


def _at_root(patch: Patch, read: Read) -> Patch:
    """Return the patch without the first folders of its paths, if only then the tag has the files.

    Some projects make patches above the tree, so that each path begins with node/.
    """
    changed = [file.path for file in patch.files if not file.added]
    levels = range(min((path.count("/") for path in changed), default=0) + 1)

    def found(level: int) -> int:
        return sum(read(_suffix(path, level)) is not None for path in changed)

    level = max(levels, key=lambda level: (found(level), -level))
    if level == 0 or any(file.path.count("/") < level for file in patch.files):
        return patch
    files = tuple(replace(file, path=_suffix(file.path, level)) for file in patch.files)
    return replace(patch, files=files)


def _suffix(path: str, level: int) -> str:
    return path.split("/", level)[-1]


def render(subject: str, body: str, edits: Iterable[Edit]) -> bytes:
    """Return a patch file with these edits."""
    text = "".join(f"{line}\n" for line in _reason(body).splitlines())
    return f"Subject: {' '.join(subject.split())}\n\n{text}\n".encode(errors="surrogateescape") + diff.render(
        Plan.of(edits)
    )


def file_name(number: int, subject: str) -> str:
    """Return the file name that git format-patch would give a patch, in lower case."""
    words = _NAME.sub("-", subject.lower()).strip("-")[:_MAX_NAME].rstrip("-")
    return f"{number:04}-{words or 'patch'}.patch"


def _reason(body: str) -> str:
    """Return the text without lines that would be read as the start of a diff."""
    lines = [
        f" {line}" if line == "---" or line.startswith("diff --git ") else line for line in body.split("\n")
    ]
    return "\n".join(lines).strip("\n")


def _with_unix_newlines(content: bytes) -> bytes:
    """Undo the conversion of a whole file to \\r\\n; a diff of a file with \\r\\n has headers without it."""
    start = _START.search(content.replace(b"\r\n", b"\n"))
    if start is None:
        return content
    lines = content.split(b"\n")
    is_converted = all(line.endswith(b"\r") for line in lines if line)
    return content.replace(b"\r\n", b"\n") if is_converted else content


def _mail(content: bytes, origin: str) -> Draft:
    """Return the patch in one mail as git format-patch writes it, decoded."""
    try:
        message = message_from_bytes(content)
        if message.is_multipart():
            raise PatchError(
                f"{origin} can't be used: the mail has several parts.",
                remedy="Save the patch itself, or create it with git format-patch.",
            )
        if str(message.get("Content-Transfer-Encoding", "")).lower() in ("quoted-printable", "base64"):
            payload = message.get_payload(decode=True)
            body = payload if isinstance(payload, bytes) else b""
        else:
            body = content.partition(b"\n\n")[2]
        subject = _subject(message)
    except (MessageError, LookupError, ValueError) as error:
        raise PatchError(f"{origin} can't be used: {error}.") from None
    heading = f"Subject: {subject}\n".encode() if subject else b""
    return _draft(heading + body, origin)


def _subject(message: Message) -> str:
    text = " ".join(str(make_header(decode_header(str(message.get("Subject", ""))))).split())
    return re.sub(r"^\[[^]]*\]\s*", "", text)


def _draft(content: bytes, origin: str) -> Draft:
    """Return one patch: the text above its first diff, and the diff with git's headers."""
    found = _START.search(content)
    if found is None:
        raise PatchError(
            f"{origin} can't be used: it contains no diff.",
            remedy="Create it with git format-patch, git diff or diff -u.",
        )
    head = content[: found.start()].decode(errors="replace")
    text = content[found.start() :].decode(errors="surrogateescape")
    subject, body = _describe(head, origin)
    diff_text = "".join(_sections(_SIGNATURE.sub("\n", text), origin))
    return Draft(origin, subject, body, diff_text.encode(errors="surrogateescape"))


def _describe(head: str, origin: str) -> tuple[str, str]:
    """Return subject and reason from the text above a diff: a mail's, a quilt patch's, or any text."""
    head = head.split("\n---\n")[0].removesuffix("\n---")
    lines = [line for line in head.splitlines() if not line.startswith(("From:", "Date:", "Index:"))]
    text: list[str] = []
    subject = ""
    for line in lines:
        name, colon, value = line.partition(":")
        if not subject and colon and name in ("Subject", "Description"):
            subject = re.sub(r"^\[[^]]*\]\s*", "", value.strip())
        elif not (colon and name in _PSEUDO_HEADERS):
            text.append(line.removeprefix(" "))
    body = "\n".join("" if line == "." else line for line in text).strip()
    if not subject:
        subject, _, body = body.partition("\n")
    file = PurePosixPath(origin.partition(",")[0]).stem
    return subject.strip() or file, body.strip() or f"No reason is given in {PurePosixPath(origin).name}."


def _sections(text: str, origin: str) -> Iterator[str]:
    """Yield the diff with a "diff --git" line above each file, and with paths below a/ and b/."""
    lines = text.split("\n")
    at, has_header = 0, False
    while at < len(lines):
        line = lines[at]
        if line.startswith("diff --git "):
            has_header = True
            yield f"{_git_header(line)}\n"
            at += 1
        elif line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            old, new = _paths(line, lines[at + 1])
            name = new if old == _NULL else old
            if not has_header:
                yield f"diff --git a/{name} b/{name}\n"
                yield "new file mode 100644\n" if old == _NULL else ""
                yield "deleted file mode 100644\n" if new == _NULL else ""
            has_header = False
            yield f"--- {old if old == _NULL else f'a/{old}'}\n+++ {new if new == _NULL else f'b/{new}'}\n"
            at += 2
        elif match := _HUNK.match(line):
            end = _hunk_end(lines, at, int(match[1] or 1), int(match[2] or 1))
            yield "".join(f"{each or ' '}\n" for each in lines[at:end])  # some editors remove the space
            at = end
        else:
            if has_header or line.startswith(("GIT binary patch", "Binary files ")):
                yield f"{line}\n"
            if line.startswith("GIT binary patch"):
                raise PatchError(f"{origin} can't be used: only text in plain files can be patched.")
            at += 1


def _hunk_end(lines: list[str], at: int, old: int, new: int) -> int:
    """Return the index after a hunk's last line, by the counts in its @@ line."""
    at += 1
    while at < len(lines) and (old > 0 or new > 0 or lines[at].startswith("\\")):
        kind = lines[at][:1]
        if kind == "\\":
            at += 1
            continue
        if kind not in ("", " ", "+", "-"):
            break
        old -= kind != "+"
        new -= kind != "-"
        at += 1
    return at


def _git_header(line: str) -> str:
    """Return the "diff --git" line with a/ and b/, which `git diff --no-prefix` leaves out."""
    names = line.removeprefix("diff --git ").split(" ")
    if len(names) == 2 and names[0] == names[1] and not names[0].startswith("a/"):
        return f"diff --git a/{names[0]} b/{names[1]}"
    return line


def _paths(old_line: str, new_line: str) -> tuple[str, str]:
    """Return the paths in a tree that a pair of --- and +++ lines means, or /dev/null.

    The first folder is left out if it is a/ and b/, or if the two differ (node.orig/, node/).
    """
    old, new = (_STAMP.sub("", line[4:]).strip() for line in (old_line, new_line))
    is_stripped = (
        (old.startswith("a/") and new.startswith("b/"))
        or (old == _NULL and new.startswith("b/"))
        or (new == _NULL and old.startswith("a/"))
        or (_NULL not in (old, new) and old.partition("/")[0] != new.partition("/")[0] and "/" in new)
    )
    if is_stripped:
        old, new = (path if path == _NULL else path.partition("/")[2] for path in (old, new))
    elif _NULL not in (old, new):
        old = new  # FILE.orig beside FILE
    return old, new
