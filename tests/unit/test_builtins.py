"""Finding the texts of Node's modules in a binary's bytes."""

from __future__ import annotations

import pytest

from nodekiln.core.errors import PatchError
from nodekiln.grafting.builtins import locate, module_id

WRITABLE = "lib/internal/streams/writable.js"
OLD_WRITABLE = "lib/_stream_writable.js"
ADAPTERS = "lib/internal/webstreams/adapters.js"

WRITABLE_TEXT = b"// Copyright\n'use strict';\n\nfunction writeOrBuffer(a) {\n  return ret;\n}\n"
ADAPTERS_TEXT = b"'use strict';\n\nfunction newWritableStreamFromStreamWritable(s) {\n}\n"
OTHER_TEXT = b"'use strict';\n\nmodule.exports = {};\n"


def ids(*paths: str) -> bytes:
    return b"".join(b"\0" + module_id(path).encode() for path in paths) + b"\0"


def binary(*texts: bytes, known: bytes) -> bytes:
    """Texts as a linker lays them out, behind other bytes."""
    return b"\x7fELF\x00\x01\x02" + known + b"\0" * 5 + b"".join(text + b"\0\0\0" for text in texts) + b"\xff"


BOTH = binary(OTHER_TEXT, WRITABLE_TEXT, OTHER_TEXT, ADAPTERS_TEXT, known=ids(WRITABLE, ADAPTERS))


def test_texts_are_found_whole_with_their_places() -> None:
    found = locate(BOTH, "node")
    assert {path: builtin.text for path, builtin in found.items()} == {
        WRITABLE: WRITABLE_TEXT,
        ADAPTERS: ADAPTERS_TEXT,
    }
    for builtin in found.values():
        assert BOTH[builtin.start : builtin.start + len(builtin.text)] == builtin.text


def test_shim_of_newer_releases_does_not_hide_the_text() -> None:
    data = binary(WRITABLE_TEXT, ADAPTERS_TEXT, known=ids(OLD_WRITABLE, WRITABLE, ADAPTERS))
    assert set(locate(data, "node")) == {WRITABLE, ADAPTERS}


def test_before_web_streams_and_before_the_move_there_is_one_text_at_its_old_path() -> None:
    found = locate(binary(WRITABLE_TEXT, known=ids(OLD_WRITABLE)), "node")
    assert {path: builtin.text for path, builtin in found.items()} == {OLD_WRITABLE: WRITABLE_TEXT}


def test_lines_may_end_as_on_windows() -> None:
    text = WRITABLE_TEXT.replace(b"\n", b"\r\n")
    assert locate(binary(text, known=ids(WRITABLE)), "node.exe")[WRITABLE].text == text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (binary(WRITABLE_TEXT, WRITABLE_TEXT, known=ids(WRITABLE)), "more than once"),
        (binary(WRITABLE_TEXT.decode().encode("utf-16-le"), known=ids(WRITABLE)), "two bytes per character"),
        (binary(WRITABLE_TEXT, known=ids(WRITABLE, ADAPTERS)), f"{ADAPTERS}: its text was not found"),
        (binary(WRITABLE_TEXT, known=b"\0"), "but none of the modules"),
        (binary(OTHER_TEXT + WRITABLE_TEXT, known=ids(WRITABLE)), "not one whole module"),
        (binary(WRITABLE_TEXT + "// é\n".encode(), known=ids(WRITABLE)), "not plain ASCII"),
        (ids(WRITABLE) + WRITABLE_TEXT, "the end of its text was not found"),
        (ids(WRITABLE) + b"\xff" * 2**20 + WRITABLE_TEXT + b"\0", "the end of its text was not found"),
        (b"\x7fELF" + b"\0" * 200 + b"UPX!" + b"\xaa" * 5000, "packed by UPX"),
        (b"\x7fELF" + b"\0" * 9000, "not a Node binary"),
        (b"", "not a Node binary"),
    ],
)
def test_ambiguous_texts_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(PatchError, match=r"^node") as caught:
        locate(data, "node")
    assert told in caught.value.message


def test_copy_in_a_snapshot_is_distinguished_from_the_text_by_its_length() -> None:
    copy = b"\3\0\0\0" + len(WRITABLE_TEXT).to_bytes(4, "little") + WRITABLE_TEXT
    for data in (BOTH + copy + b"\7", BOTH[:4] + copy + b"\0\7" + BOTH[4:]):
        found = locate(data, "node")[WRITABLE]
        assert data[found.start - 4 : found.start] != len(WRITABLE_TEXT).to_bytes(4, "little")
        assert found.text == WRITABLE_TEXT


def test_two_texts_of_which_one_has_another_length_before_it_are_refused() -> None:
    copy = (len(WRITABLE_TEXT) + 1).to_bytes(4, "little") + WRITABLE_TEXT
    with pytest.raises(PatchError, match="more than once"):
        locate(BOTH + copy + b"\0", "node")
