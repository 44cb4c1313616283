"""Headers for add-ons, by the installers of real tags: the way they are called has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodekiln.building.configure import install_headers

pytestmark = pytest.mark.tree

_CONFIG = {
    "node_byteorder": "little",
    "node_shared": "false",
    "node_shared_libuv": "false",
    "node_shared_openssl": "true",
    "node_shared_zlib": "true",
    "node_target_type": "executable",
    "node_use_bundled_v8": "true",
    "openssl_is_fips": "false",
    "node_install_npm": "false",
    "node_install_corepack": "false",
    "node_use_dtrace": "false",
    "node_prefix": "/usr/local",
}


@pytest.mark.parametrize("tag", ["v18.20.4", "v20.19.2", "v24.21.0"])
def test_headers_of_a_tag_are_installed_for_node_gyp(node_repository: Path, tmp_path: Path, tag: str) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.mkdir()
    paths = ["common.gypi", "src", "tools", "deps/v8/include", "deps/uv", "deps/zlib"]
    there = subprocess.run(
        ["git", "--git-dir", str(node_repository), "ls-tree", "--name-only", tag, "--", *paths],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    archive = tmp_path / "tree.tar"
    subprocess.run(
        ["git", "--git-dir", str(node_repository), "archive", "-o", str(archive), tag, "--", *there],
        check=True,
    )
    subprocess.run(["tar", "-xf", str(archive), "-C", str(source)], check=True)
    (source / "config.gypi").write_text(
        f"# Do not edit.\n{ {'target_defaults': {}, 'variables': _CONFIG}!r}\n"
    )
    destination.mkdir()

    install_headers(source, destination, python=sys.executable, env=dict(os.environ))

    include = destination / "include" / "node"
    version = (include / "node_version.h").read_text()
    assert f"#define NODE_MAJOR_VERSION {tag[1:3]}" in version
    assert {path.name for path in include.iterdir()} >= {
        "node.h",
        "v8.h",
        "node_api.h",
        "common.gypi",
        "config.gypi",
    }
