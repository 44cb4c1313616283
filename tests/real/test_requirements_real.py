"""The requirements that are read from real trees are those that these tags are known for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nodekiln.core.edit import Read
from nodekiln.core.recipe import Tag
from nodekiln.toolchain.requirements import read_requirements

pytestmark = pytest.mark.tree


def nothing(path: str) -> bytes | None:
    return None


def reader(repository: Path, tag: str) -> Read:
    def read(path: str) -> bytes | None:
        done = subprocess.run(
            ["git", "-C", str(repository), "cat-file", "blob", f"{tag}:{path}"],
            env=os.environ,
            capture_output=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else None

    return read


@pytest.mark.parametrize(
    ("tag", "gxx", "standard", "oldest", "newest"),
    [
        ("v18.20.4", (8, 3, 0), "gnu++17", 6, 12),
        ("v20.19.2", (10, 1, 0), "gnu++17", 6, 13),
        ("v22.22.2", (10, 1, 0), "gnu++17", 8, 14),
        ("v24.21.0", (12, 2, 0), "gnu++20", 9, 14),
    ],
)
def test_requirements_are_read_from_the_files_of_a_tag(
    tag: str, gxx: tuple[int, ...], standard: str, oldest: int, newest: int, node_repository: Path
) -> None:
    needs = read_requirements(Tag.parse(tag), reader(node_repository, tag))
    assert (needs.gxx, needs.clang, needs.standard) == (gxx, (8, 0, 0), standard)
    assert needs.pythons == tuple((3, minor) for minor in range(newest, oldest - 1, -1))
    assert needs.python_names == (
        *(f"python3.{minor}" for minor in range(newest, oldest - 1, -1)),
        "python3",
        "python",
    )


@pytest.mark.parametrize("tag", ["v18.20.4", "v20.19.2", "v22.22.2", "v24.21.0"])
def test_table_agrees_with_the_tag(tag: str, node_repository: Path) -> None:
    said = read_requirements(Tag.parse(tag), reader(node_repository, tag))
    table = read_requirements(Tag.parse(tag), nothing)
    assert table.pythons == said.pythons
    assert (table.gxx, table.clang) == (said.gxx[:2], said.clang[:2])
    assert table.standard == said.standard


def test_last_tag_that_imports_distutils(node_repository: Path) -> None:
    needs = [
        "distutils" in read_requirements(Tag.parse(tag), reader(node_repository, tag)).modules_missing
        for tag in ("v18.20.4", "v20.19.2")
    ]
    assert needs == [True, False]
