"""Signs a changed Mach-O file again: macOS kills a program whose signature doesn't fit its bytes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nodekiln.core.errors import CheckError, ToolchainError
from nodekiln.core.process import capture


def find_codesign(env: Mapping[str, str]) -> str:
    """The path of codesign; raises ToolchainError where there is none (anywhere but on macOS)."""
    found = shutil.which("codesign", path=env.get("PATH", ""))
    if found is None:
        raise ToolchainError(
            "A changed program for macOS has to be signed again, and codesign is not here.",
            remedy="Make this graft on a Mac with the command line tools (xcode-select --install).",
        )
    return found


def sign(codesign: str, binary: Path, *, env: Mapping[str, str]) -> None:
    """Replaces the signature by one of nobody ("ad hoc"), which is enough for the machine that made it.

    Raises CheckError with what codesign said. The release's entitlements go with its hardened runtime,
    which alone asks for them.
    """
    for words in (["--force", "--sign", "-"], ["--verify", "--strict"]):
        done = capture([codesign, *words, str(binary)], env=env)
        if done.returncode != 0:
            raise CheckError(f"codesign {' '.join(words)} failed: {done.text.strip()}")
