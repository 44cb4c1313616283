"""Requirements of a tag: from its files, otherwise from the table."""

from __future__ import annotations

import pytest

from nodekiln.core.edit import Read
from nodekiln.core.recipe import Tag
from nodekiln.toolchain.requirements import any_python, parse_version, read_requirements

CONFIGURE = b"""#!/bin/sh
_=[ 'exec' '/bin/sh' '-c' '''
command -v python3.13 >/dev/null && exec python3.13 "$0" "$@"
command -v python3.12 >/dev/null && exec python3.12 "$0" "$@"
command -v python3 >/dev/null && exec python3 "$0" "$@"
exec python "$0" "$@"
''' "$0" "$@"
]
del _
acceptable_pythons = ((3, 13), (3, 12))
"""
CONFIGURE_PY = b"""import sys
from packaging.version import Version
  elif clang_version < (19, 1, 0) if is_clang else gcc_version < (13, 2, 0):
    warn(f'C++ compiler (CXX={CXX}, {version_str}) too old, need g++ 13.2.0 or clang++ 19.1.0')
"""
COMMON = b"""
          '-std:c++20',
        'cflags_cc': [ '-fno-rtti', '-std=gnu++23' ],
          '-qxclang=-std=c++14',
"""


def reader(**files: bytes) -> Read:
    named = {path.replace("__", "."): content for path, content in files.items()}
    return lambda path: named.get(path)


def test_files_of_the_tag_override_the_table() -> None:
    needs = read_requirements(
        Tag(20, 0, 0), reader(configure=CONFIGURE, configure__py=CONFIGURE_PY, common__gypi=COMMON)
    )
    assert needs.gxx == (13, 2, 0)
    assert needs.clang == (19, 1, 0)
    assert needs.standard == "gnu++23"
    assert needs.pythons == ((3, 13), (3, 12))
    assert needs.python_names == ("python3.13", "python3.12", "python3", "python")


def test_table_is_used_for_a_tag_without_requirements() -> None:
    needs = read_requirements(Tag(24, 2, 0), reader())
    assert (needs.gxx, needs.clang, needs.standard) == ((12, 2), (8, 0), "gnu++20")
    assert (needs.pythons[0], needs.pythons[-1]) == ((3, 13), (3, 9))
    assert needs.python_names == any_python()


@pytest.mark.parametrize(
    ("tag", "newest"),
    [
        ("18.12.0", 10),
        ("18.19.0", 11),
        ("18.20.4", 12),
        ("20.10.0", 11),
        ("20.15.1", 12),
        ("20.16.0", 13),
        ("22.2.0", 12),
        ("22.3.0", 13),
        ("22.22.0", 13),
        ("22.22.1", 14),
        ("24.13.0", 13),
        ("24.13.1", 14),
    ],
)
def test_table_has_the_newest_python_of_a_release(tag: str, newest: int) -> None:
    assert read_requirements(Tag.parse(tag), reader()).pythons[0] == (3, newest)


def test_unknown_major_has_no_requirements() -> None:
    needs = read_requirements(Tag(99, 0, 0), reader())
    assert (needs.gxx, needs.clang, needs.standard, needs.pythons, needs.rust) == ((), (), "", (), ())


@pytest.mark.parametrize(
    ("tag", "version", "fails"),
    [
        ("22.2.0", "12.1.0", True),
        ("22.5.1", "12.2.0", True),
        ("22.5.1", "12.3.0", False),
        ("22.6.0", "12.2.0", False),
        ("22.1.0", "12.2.0", False),
        ("19.9.0", "14.1.0", True),
        ("18.20.4", "13.3.0", False),
        ("20.0.0", "14.1.0", False),
    ],
)
def test_known_bad_compilers_of_a_tag(tag: str, version: str, fails: bool) -> None:
    bad = read_requirements(Tag.parse(tag), reader()).known_bad
    assert any(each.covers(parse_version(version)) for each in bad) is fails


GYP = {"tools/gyp/pylib/gyp/__init__.py": b"import sys\n"}


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ({"configure.py": CONFIGURE_PY} | GYP, ()),
        ({"configure.py": CONFIGURE_PY}, ("gyp", "packaging")),
        ({"configure.py": b"import sys\n"}, ("gyp",)),
        ({"configure.py": b"from distutils.version import StrictVersion\n"} | GYP, ("distutils",)),
        (
            {"configure.py": b"", "tools/gyp/pylib/gyp/input.py": b"from distutils.version import X\n"} | GYP,
            ("distutils",),
        ),
        ({"configure.py": b"try:\n  from distutils.spawn import x\n"} | GYP, ()),
    ],
)
def test_missing_modules_of_a_tree(files: dict[str, bytes], modules: tuple[str, ...]) -> None:
    assert read_requirements(Tag(20, 0, 0), files.get).modules_missing == modules


def test_rust_is_required_from_26_on() -> None:
    assert read_requirements(Tag(25, 0, 0), reader()).rust == ()
    assert read_requirements(Tag(26, 0, 0), reader()).rust == (1, 82)
