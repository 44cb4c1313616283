"""Startup snapshots as V8 writes them: read, changed within their size, or refused."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable

import pytest

from nodekiln.core.elf.notes import Rewritten
from nodekiln.core.errors import PatchError
from nodekiln.grafting.snapshot import change_copies, find_snapshot, plan_snapshot

WRITABLE = "internal/streams/writable"
BEFORE = b"'use strict';\nfunction writeOrBuffer() { return ret && !errored; }\n" * 9
AFTER = BEFORE.replace(b"ret &&", b"      ")
MAGIC = (0xC0DE0562).to_bytes(4, "little")
NOISE = random.Random(7).randbytes(3000)  # noqa: S311 (no secret)
OTHER_NOISE = random.Random(8).randbytes(len(BEFORE))  # noqa: S311


def word(number: int) -> bytes:
    return number.to_bytes(4, "little")


def string(text: bytes) -> bytes:
    return word(3) + word(len(text)) + text


def serialized(content: bytes, *, level: int | None) -> bytes:
    plain = MAGIC + word(len(content)) + content
    if level is None:
        return plain
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return word(len(plain)) + compressor.compress(plain) + compressor.flush()


def binary(
    *texts: bytes,
    modules: Iterable[str] = (WRITABLE,),
    level: int | None = 1,
    checksums: int = 1,
    shared_heap: bool = True,
) -> bytes:
    """Return a file with a snapshot of one context that contains these texts; level None: uncompressed."""
    names = [string(f"node:{module}".encode()) for module in ("internal/util", *modules)]
    startup = serialized(NOISE + b"".join([*names, *map(string, texts)]) + NOISE, level=level)
    context = serialized(b"context" * 99, level=level)
    version = b"10.2.154.15-node.12".ljust(64, b"\0")
    table_end = 8 + 4 * checksums + 64 + 4 * (3 if shared_heap else 2)
    begin = table_end + -table_end % 8
    offsets = [begin + len(startup), *[begin + len(startup)] * (2 if shared_heap else 1)]
    body = (
        b"".join([version, *map(word, offsets)]).ljust(begin - 8 - 4 * checksums, b"\0") + startup + context
    )
    header = word(1) + word(1) + word(zlib.adler32(body, 0)) * checksums
    return b"\x7fELF" + bytes(60) + b"10.2.154.15-node.12\0" + header + body + b"what follows" * 9


def apply(data: bytes, changes: Iterable[Rewritten]) -> bytes:
    after = bytearray(data)
    for change in changes:
        assert after[change.start : change.start + len(change.old)] == change.old
        assert len(change.old) == len(change.new)
        after[change.start : change.start + len(change.new)] = change.new
    return bytes(after)


@pytest.mark.parametrize("level", [None, 1, 9])
@pytest.mark.parametrize("checksums", [1, 2])
@pytest.mark.parametrize("shared_heap", [True, False])
def test_modules_of_a_snapshot_are_found_by_their_scripts(
    level: int | None, checksums: int, shared_heap: bool
) -> None:
    data = binary(modules=["events"], level=level, checksums=checksums, shared_heap=shared_heap)
    snapshot = find_snapshot(data)
    assert snapshot is not None
    assert snapshot.contains("events")
    assert not snapshot.contains("event")
    assert not snapshot.contains(WRITABLE)


@pytest.mark.parametrize(
    "data", [b"", b"-node.", b"10.2.154.15-node.12" + bytes(64), bytes(8) + b"1.2.3.4-node.1" + bytes(99)]
)
def test_file_without_a_snapshot_has_none(data: bytes) -> None:
    assert find_snapshot(data) is None
    texts = {WRITABLE: (BEFORE, AFTER)}
    assert plan_snapshot(data, None, texts, may_change=True, keep=True).rewritten == ()


@pytest.mark.parametrize("level", [None, 1])
def test_changed_copy_keeps_the_snapshot_readable_and_its_size(level: int | None) -> None:
    data = binary(BEFORE, level=level)
    edit = plan_snapshot(data, None, {WRITABLE: (BEFORE, AFTER)}, may_change=True, keep=True)
    assert (edit.modules, edit.is_off) == ((WRITABLE,), False)
    changed = find_snapshot(apply(data, edit.rewritten))
    assert changed is not None
    assert changed.end is not None  # its checksum fits
    assert AFTER in changed.content
    assert BEFORE not in changed.content


def test_module_outside_the_snapshot_needs_no_edit() -> None:
    data = binary(BEFORE)
    assert not plan_snapshot(data, None, {"net": (BEFORE, AFTER)}, may_change=False, keep=True).modules


@pytest.mark.parametrize(
    ("data", "after", "message"),
    [
        (binary(BEFORE, checksums=2), AFTER, "its checksum is of an unknown kind"),
        (binary(), AFTER, "does not contain the text"),
        (binary(BEFORE, BEFORE), AFTER, "does not contain the text"),
        (binary(BEFORE), AFTER + b" ", "does not contain the text"),
        (binary(BEFORE, level=9), OTHER_NOISE, "compressed, it has"),
    ],
)
def test_snapshot_that_can_not_be_changed_is_refused(data: bytes, after: bytes, message: str) -> None:
    snapshot = find_snapshot(data)
    assert snapshot is not None
    with pytest.raises(PatchError, match=message):
        change_copies(data, snapshot, {BEFORE: after})
    with pytest.raises(PatchError, match="only programs for Linux"):  # no ELF file to switch it off in
        plan_snapshot(data, None, {WRITABLE: (BEFORE, after)}, may_change=True, keep=False)


def test_change_that_nothing_checks_is_refused_with_the_snapshot_kept() -> None:
    with pytest.raises(PatchError, match=WRITABLE) as caught:
        plan_snapshot(binary(BEFORE), None, {WRITABLE: (BEFORE, AFTER)}, may_change=False, keep=True)
    assert "--keep-snapshot" in (caught.value.remedy or "")


def test_damaged_checksum_is_not_replaced() -> None:
    data = bytearray(binary(BEFORE))
    data[data.find(b"what follows") - 1] ^= 1
    snapshot = find_snapshot(bytes(data))
    assert snapshot is not None
    assert snapshot.end is None


def test_file_made_to_be_searched_for_ever_has_no_snapshot() -> None:
    assert find_snapshot(b"1.2.3.4-node.1" * 200_000 + binary(BEFORE)) is None
