"""What the probe patches add and change compiles in tags that can't be built here for want of parts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nodekiln.changes.planner import plan
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Plan
from nodekiln.core.recipe import Recipe, Tag

pytestmark = pytest.mark.tree

STANDARD = "gnu++20"
"""Of both tags, for Node itself. The 17 in v22's common.gypi is for add-ons: tools/gyp_node.py reads
common_node.gypi after it (nodejs/node#52838), and src/util.h there needs 20."""
PATCHES = Path(__file__).parents[2] / "patches"
FOLDERS = ("src", "deps/v8/include", "deps/ncrypto", "deps/googletest/include")
DEFINES = (
    *("NODE_WANT_INTERNALS=1", "HAVE_OPENSSL=0", "HAVE_INSPECTOR=0", "NODE_ARCH=1", "NODE_PLATFORM=1"),
    *("HAVE_AMARO=0", "HAVE_SQLITE=0", "HAVE_LIEF=0", "V8_DEPRECATION_WARNINGS=1", "__POSIX__"),
)


@pytest.mark.parametrize(
    ("tag", "files"),
    [
        # node.cc wants headers of deps/ that these trees come without; so does 24's node_binding.cc.
        (
            "v22.22.2",
            ["probe_sites.cc", "probe_binding.cc", "node_external_reference.cc", "node_binding.cc"],
        ),
        ("v24.21.0", ["probe_sites.cc", "probe_binding.cc", "node_external_reference.cc"]),
    ],
)
def test_probes_compile_with_the_headers_of_the_tag(
    node_repository: Path, tmp_path: Path, tag: str, files: list[str]
) -> None:
    if shutil.which("g++") is None or not Path("/usr/include/uv.h").exists():
        pytest.skip("needs g++ and libuv's headers")
    git = ["git", "--git-dir", str(node_repository)]

    def read(path: str) -> bytes | None:
        done = subprocess.run([*git, "cat-file", "blob", f"{tag}:{path}"], capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    planned = plan(
        Recipe(
            tag=Tag.parse(tag),
            changes=("usdt",),
        ),
        read,
        Registry((PATCHES,)),
    )
    assert isinstance(planned, Plan)
    there = subprocess.run(
        [*git, "ls-tree", "-d", "--name-only", tag, "--", *FOLDERS],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    subprocess.run([*git, "archive", "-o", str(tmp_path / "tree.tar"), tag, "--", *there], check=True)
    subprocess.run(["tar", "-xf", str(tmp_path / "tree.tar"), "-C", str(tmp_path)], check=True)
    for edit in planned.edits:
        (tmp_path / edit.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / edit.path).write_bytes(edit.after)

    options = [*(f"-I{tmp_path / folder}" for folder in FOLDERS), *(f"-D{define}" for define in DEFINES)]
    for file in files:
        compiled = subprocess.run(
            ["g++", "-fsyntax-only", f"-std={STANDARD}", *options, str(tmp_path / "src" / file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert compiled.returncode == 0, compiled.stderr[:2000]
