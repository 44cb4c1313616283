"""What a tree of Node's calls itself, against the tag that it stands under."""

from __future__ import annotations

import pytest

from nodekiln.core.recipe import Tag, mismatch, read_version

REAL = b"""\
#ifndef SRC_NODE_VERSION_H_
#define SRC_NODE_VERSION_H_

#define NODE_MAJOR_VERSION 24
#define NODE_MINOR_VERSION 21
#define NODE_PATCH_VERSION 0

#define NODE_VERSION_IS_LTS 1
#define NODE_VERSION_LTS_CODENAME "Krypton"
#define NODE_VERSION_IS_RELEASE 1
"""


@pytest.mark.parametrize(
    "header", [REAL, REAL.replace(b"\n", b"\r\n"), REAL.replace(b"#define", b"  #  define")]
)
def test_release_is_read_from_the_header(header: bytes) -> None:
    assert read_version(header) == Tag(24, 21, 0)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff\xfe",
        REAL.replace(b"PATCH", b"OTHER"),
        REAL.replace(b" 21", b" NODE_MINOR"),
        b"//" + REAL[90:],
    ],
)
def test_header_without_a_version_is_none(header: bytes) -> None:
    assert read_version(header) is None


def test_tree_under_its_own_tag_is_fine() -> None:
    assert mismatch(Tag(24, 21, 0), "/srv/node.git", REAL) is None


def test_tree_under_another_tag_names_both() -> None:
    error = mismatch(Tag(22, 22, 2), "/srv/node.git", REAL)
    assert error is not None
    assert error.message == "v22.22.2 of /srv/node.git contains the sources of v24.21.0."


@pytest.mark.parametrize("header", [None, b"int node;\n"])
def test_tree_without_a_version_is_not_a_tree_of_node(header: bytes | None) -> None:
    error = mismatch(Tag(22, 22, 2), "/srv/node.git", header)
    assert error is not None
    assert "is not a source tree of Node" in error.message
