"""Patches by others: which are taken in, how they come out, and which are refused with the reason."""

from __future__ import annotations

import pytest

from nodekiln.changes import hunks
from nodekiln.changes.intake import Draft, file_name, fit, parse_draft, read_drafts, reverse
from nodekiln.changes.patchfile import parse
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag

TAG = Tag(20, 19, 2)
BEFORE = b"one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
AFTER = BEFORE.replace(b"four", b"FOUR")
HUNK = "@@ -2,5 +2,5 @@\n two\n three\n-four\n+FOUR\n five\n six\n"
GIT = f"diff --git a/lib/a.js b/lib/a.js\n--- a/lib/a.js\n+++ b/lib/a.js\n{HUNK}"


def read(path: str) -> bytes | None:
    return {
        "lib/a.js": BEFORE,
        "dos.js": BEFORE.replace(b"\n", b"\r\n"),
        "open.js": b"one\ntwo",
        "gap.js": b"one\n\nthree\n",
    }.get(path)


def take(text: str | bytes, origin: str = "x.patch") -> list[bytes]:
    """Return the files after each patch, as they are after a round trip through the patch files."""
    content = text if isinstance(text, bytes) else text.encode()
    fitted = fit(read_drafts(content, origin), TAG, read)
    applied = hunks.apply([parse(f"c/{patch.name}", patch.content) for patch in fitted], read)
    assert not applied.conflicts
    assert not any(outcome.offset for outcome in applied.outcomes)
    return [edit.after for edit in applied.edits]


@pytest.mark.parametrize(
    "text",
    [
        GIT,
        f"Why it is so.\n\n{GIT}",
        f"--- node.orig/lib/a.js\t2020-01-01 00:00:00 +0000\n+++ node/lib/a.js\t2020-01-02\n{HUNK}",
        f"--- lib/a.js.orig\n+++ lib/a.js\n{HUNK}",
        f"Description: four\n is loud\nForwarded: no\n\n--- a/lib/a.js\n+++ b/lib/a.js\n{HUNK}",
        f"Index: lib/a.js\n=====\n--- lib/a.js\n+++ lib/a.js\n{HUNK}",
        f"diff --git lib/a.js lib/a.js\n--- lib/a.js\n+++ lib/a.js\n{HUNK}",
        GIT.replace("a/lib", "node/lib").replace("b/lib", "node/lib"),
        GIT.replace("a/lib", "a/deps/node/lib").replace("b/lib", "b/deps/node/lib"),
        GIT.replace("@@ -2,5 +2,5 @@", "@@ -7,5 +7,5 @@"),
        GIT.replace("\n", "\r\n"),
        f"From 0123456789abcdef Mon Sep 17\nSubject: [PATCH 1/9] A\n\nWhy.\n---\n a | 2 +-\n\n{GIT}-- \n2\n",
    ],
)
def test_diff_by_any_tool_comes_out_as_git_patch_at_the_right_line(text: str) -> None:
    assert take(text) == [AFTER]


def test_mailbox_gives_one_patch_per_mail_in_order() -> None:
    second = GIT.replace("FOUR", "4").replace("-four", "-FOUR")
    mails = "".join(
        f"From 0123456789abcdef Mon Sep 17\nSubject: =?UTF-8?q?{name}_=C3=A4?=\n\nWhy.\n---\n{each}"
        for name, each in (("first", GIT), ("second", second))
    )
    drafts = read_drafts(mails.encode(), "all.mbox")
    assert [(draft.subject, draft.body) for draft in drafts] == [("first ä", "Why."), ("second ä", "Why.")]
    assert take(mails) == [BEFORE.replace(b"four", b"4")]


def test_quoted_printable_mail_is_decoded() -> None:
    head = "From 0123456789 x\nSubject: Equal\nContent-Transfer-Encoding: quoted-printable\n\nWhy.\n---\n"
    assert take(head + GIT.replace("FOUR", "=46OUR")) == [AFTER]


def test_line_endings_of_a_file_are_kept() -> None:
    text = GIT.replace("lib/a.js", "dos.js").encode()
    head, _, body = text.partition(b"@@ -2")
    lines = body.replace(b"\n", b"\r\n").replace(b"@@\r\n", b"@@\n")
    assert take(head + b"@@ -2" + lines) == [AFTER.replace(b"\n", b"\r\n")]


def test_missing_newline_at_end_is_kept() -> None:
    text = "--- a/open.js\n+++ b/open.js\n@@ -1,2 +1,2 @@\n-one\n+ONE\n two\n\\ No newline at end of file\n"
    assert take(text) == [b"ONE\ntwo"]


def test_new_file_beside_a_changed_one_is_put_below_the_same_folder() -> None:
    added = "diff --git node/new.js node/new.js\nnew file mode 100644\n--- /dev/null\n+++ node/new.js\n"
    text = GIT.replace("a/lib", "node/lib").replace("b/lib", "node/lib") + f"{added}@@ -0,0 +1,1 @@\n+1;\n"
    [fitted] = fit(read_drafts(text.encode(), "x.patch"), TAG, read)
    assert parse("c/x", fitted.content).paths == ("lib/a.js", "new.js")


def test_empty_context_line_without_its_space_is_taken() -> None:
    text = "--- a/gap.js\n+++ b/gap.js\n@@ -1,3 +1,3 @@\n-one\n+ONE\n\n three\n"
    assert take(text) == [b"ONE\n\nthree\n"]


def test_new_file_is_added() -> None:
    assert take("--- /dev/null\n+++ b/new.js\n@@ -0,0 +1,1 @@\n+1;\n") == [b"1;\n"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing\n", "no diff"),
        ("", "no diff"),
        ("diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n", "renamed"),
        ("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", "mode"),
        ("diff --git a/x b/x\nnew file mode 100755\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+1\n", "mode"),
        ("diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+1\n", "plain"),
        ("diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n", "text in plain"),
        ("diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZPo\n", "text in plain"),
        (f"--- a/lib/a.js\n+++ /dev/null\n{HUNK}", "removed"),
        (GIT.replace("lib/a.js", "lib/missing.js"), "lib/missing.js"),
        (GIT.replace("three", "drei"), "lib/a.js"),
        (f"From 0123456789 x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n{GIT}--b--\n", "parts"),
        (GIT.replace("+FOUR", "+four"), "changes nothing"),
        (GIT.replace("lib/a.js", "../lib/a.js"), "outside"),
        (GIT.replace("a/lib/a.js", "a//lib/a.js").replace("b/lib/a.js", "b//lib/a.js"), "outside"),
    ],
)
def test_unusable_diff_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PatchError, match=reason):
        fit(read_drafts(text.encode(), "x.patch"), TAG, read)


def test_reversed_patch_undoes_the_patch() -> None:
    [undone] = map(reverse, read_drafts(GIT.encode(), "x.patch"))
    [edit] = hunks.apply([parse_draft(undone)], {"lib/a.js": AFTER}.get).edits
    assert edit.after == BEFORE


def test_reversed_patch_keeps_a_missing_newline() -> None:
    text = "--- a/open.js\n+++ b/open.js\n@@ -1,2 +1,2 @@\n one\n-two\n\\ No newline at end of file\n+2\n"
    [undone] = map(reverse, read_drafts(text.encode(), "x.patch"))
    [edit] = hunks.apply([parse_draft(undone)], {"open.js": b"one\n2\n"}.get).edits
    assert edit.after == b"one\ntwo"


@pytest.mark.parametrize(
    ("subject", "name"),
    [("src: Fix it!", "0001-src-fix-it.patch"), ("", "0001-patch.patch"), ("../../etc", "0001-etc.patch")],
)
def test_file_name_has_only_plain_letters(subject: str, name: str) -> None:
    assert file_name(1, subject) == name


def test_text_that_looks_like_a_diff_stays_text() -> None:
    draft = Draft("x.patch", "Subject", "---\ndiff --git a/x b/x\nend", GIT.encode())
    [fitted] = fit([draft], TAG, read)
    assert parse("c/x", fitted.content).paths == ("lib/a.js",)
