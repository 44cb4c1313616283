"""Archives that are damaged, or that use up memory or time, are refused in one way; good ones are read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable

import pytest

from nodekiln.core.archives import RefusedError, check_length, is_archive, read_members

END = bytes(1024)


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def record(key: str, value: str) -> str:
    """A line of a pax header, which begins with its own length."""
    length = len(f"{key}={value}\n") + 2
    while len(line := f"{length} {key}={value}\n") != length:
        length = len(line)
    return line


def pax(*records: str, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return member("pax", "".join(records).encode(), kind)


def asking_for_4_gib(xz: bytes) -> bytes:
    """The same with another dictionary in the header of its first block (12 bytes into the file)."""
    made = bytearray(xz)
    end = 12 + (made[12] + 1) * 4
    made[16] = 40
    made[end - 4 : end] = struct.pack("<I", zlib.crc32(made[12 : end - 4]))
    return bytes(made)


def contents(archive: bytes) -> dict[str, bytes]:
    source = io.BufferedReader(io.BytesIO(archive))
    return {info.name: b"".join(pieces) for info, pieces in read_members(source)}


FIRST, SECOND = member("a", b"first"), member("b", b"second" * 200)
GOOD = FIRST + SECOND + END
READ = {"a": b"first", "b": b"second" * 200}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_members_come_with_their_bytes(pack: Callable[[bytes], bytes]) -> None:
    assert is_archive(pack(GOOD))
    assert contents(pack(GOOD)) == READ


def test_streams_of_xz_follow_each_other_with_zeros_between() -> None:
    packed = lzma.compress(GOOD[:700]) + bytes(8) + lzma.compress(b"") + lzma.compress(GOOD[700:]) + bytes(4)
    assert contents(packed) == READ


def test_dictionary_of_xz_9_is_small_enough() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**26, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3}]
    packer = lzma.LZMACompressor(filters=filters)
    assert contents(packer.compress(GOOD) + packer.flush()) == READ


def test_tape_s_padding_is_read_over() -> None:
    assert contents(GOOD.ljust(2**20, b"\0")) == READ


def test_unread_bytes_are_skipped() -> None:
    source = io.BufferedReader(io.BytesIO(gzip.compress(GOOD)))
    assert [info.name for info, _ in read_members(source)] == ["a", "b"]


@pytest.mark.parametrize("head", [b"", b"\x7fELF" + bytes(600), bytes(600), b"\x99" * 600, b"MZ", GOOD[:60]])
def test_file_that_is_not_an_archive_is_recognized_by_its_first_bytes(head: bytes) -> None:
    assert not is_archive(head)


BIG = 2**60
HOSTILE: dict[str, tuple[bytes, str]] = {
    "cut in gzip's header": (gzip.compress(GOOD)[:9], "damaged or cut short"),
    "cut in gzip": (gzip.compress(GOOD)[:60], "damaged or cut short"),
    "cut in xz": (lzma.compress(GOOD)[:60], "damaged or cut short"),
    "cut after xz's first stream": (lzma.compress(GOOD[:700]), "damaged or cut short"),
    "cut in a member that is skipped": (FIRST + SECOND[:600], "damaged or cut short"),
    "end missing": (FIRST + SECOND, "ends before its end mark"),
    "rubbish after xz": (lzma.compress(GOOD) + b"rubbish", "damaged or cut short"),
    "dictionary of xz": (asking_for_4_gib(lzma.compress(GOOD)), "Memory usage limit exceeded"),
    "dictionary of the second stream": (
        lzma.compress(GOOD[:700]) + asking_for_4_gib(lzma.compress(GOOD[700:])),
        "Memory usage limit exceeded",
    ),
    "sparse map": (pax(record("GNU.sparse.map", "x")) + FIRST + END, "damaged"),
    "sparse size": (pax(record("GNU.sparse.size", "1e309")) + FIRST + END, "damaged"),
    "long header": (pax(record("comment", "x" * 200_000)) + FIRST + END, "too much of headers or padding"),
    "long global header": (
        pax(record("comment", "x" * 200_000), kind=tarfile.XGLTYPE) + FIRST + END,
        "too much of headers or padding",
    ),
    "long name": (
        member("name", b"x" * 200_000, tarfile.GNUTYPE_LONGNAME) + FIRST + END,
        "too much of headers",
    ),
    "headers in headers": (pax() * 400 + FIRST + END, "too much of headers|recursion"),
    "long padding": (GOOD.ljust(2_500_000, b"\0"), "too much of headers or padding"),
    "global headers": (
        b"".join(
            pax(record(f"key{number}", "x"), kind=tarfile.XGLTYPE) + header(str(number))
            for number in range(70)
        )
        + END,
        "more than 64 global pax headers",
    ),
    "negative size": (header("a", -512) + END, "damaged"),
    "folder of negative size": (header("a", -512, tarfile.DIRTYPE) + END, "a negative size"),
    "exabytes": (FIRST + header("b", BIG) + END, "ends before its end mark"),
    "exabytes with a hole": (header("a", BIG, tarfile.GNUTYPE_SPARSE) + END, "ends before its end mark"),
    "exabytes of an unknown kind": (header("a", BIG, b"Q") + END, "ends before its end mark"),
    "broken header": (FIRST + bytes(SECOND[0:1]) + b"!" + SECOND[2:] + END, "bad checksum"),
    "gzip of no tar": (gzip.compress(b"hello\n" * 200), "damaged or cut short"),
    "program": (b"\x7fELF" + bytes(600), "is a program, not a tarball"),
    "nothing": (b"", "is not a tarball"),
}


@pytest.mark.parametrize(("archive", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_damaged_or_oversized_archives_are_refused(archive: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        contents(archive)


@pytest.mark.parametrize(("archive", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_member_that_is_not_read_is_refused_too(archive: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        for _ in read_members(io.BufferedReader(io.BytesIO(archive))):
            pass


@pytest.mark.parametrize(
    "path", ["a", "x" * 255, "/".join(["x" * 254] * 4), "a/" * 99 + "b", "\N{SNOWMAN}" * 85, "caf\udce9"]
)
def test_path_that_a_disk_would_take_passes(path: str) -> None:
    check_length(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a/" * 40_000, "a path of 80,000 bytes, 1,024 being the most, 'a/a/"),
        ("/".join(["x" * 255] * 5), "a path of 1,279 bytes"),
        ("a/" * 100 + "b", "a path of 101 parts, 100 being the most"),
        ("b/" + "x" * 256, "a name of 256 bytes, 255 being the most"),
        ("\N{SNOWMAN}" * 86, "a name of 258 bytes"),
    ],
)
def test_path_without_measure_is_refused_in_a_short_text(path: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as caught:
        check_length(path)
    assert len(str(caught.value)) < 150
