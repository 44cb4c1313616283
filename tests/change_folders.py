"""Folders of changes for tests: the real rewrite, and patches of the test's own under the name usdt."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nodekiln.changes.registry import Registry
from nodekiln.verify.outcome import all_kinds

CHECKOUT = Path(__file__).resolve().parents[1]
PATCHES = CHECKOUT / "patches"
REGISTRY = Registry((PATCHES,))
KINDS = all_kinds(REGISTRY)
"""stock, usdt, no-backpressure, no-backpressure-usdt."""

_HEAD = """\
name = "usdt"
summary = "probes for a test"
why = "So."
tags = ">=19"
standard = true
existing = "usdt_provider"
configure = { probe_headers = true }
check = { gc_probes = true }
graft = { gc_probes = true }
"""


def make_patches(folder: Path, patches: Mapping[str, str]) -> Path:
    """Return `folder`, filled with the real no-backpressure and a usdt that has these patches, for 19 on."""
    shutil.copytree(PATCHES / "no-backpressure", folder / "no-backpressure", dirs_exist_ok=True)
    home = folder / "usdt"
    home.mkdir(exist_ok=True)
    rows = [f'[[patch]]\nfile = "{name}"\ntags = ">=19"\nwhy = "So."\n' for name in patches]
    (home / "change.toml").write_text("\n".join([_HEAD, *rows]))
    for name, text in patches.items():
        (home / name).write_text(text)
    return folder
