"""What the toolchain is asked about: the values that every check works from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.recipe import Tag


@dataclass(frozen=True, kw_only=True)
class Request:
    """One build to come, as far as the machine has to bear it.

    `environ` is what children get (see process.child_environment), `disk_needed` the bytes that everything
    still to do may write at most, `platform` is sys.platform. `use_ninja` None takes ninja where it is there.
    """

    tag: Tag | None
    environ: Mapping[str, str]
    build_dir: Path
    jobs: int
    disk_needed: int
    clean_env: bool
    platform: str
    configure_args: tuple[str, ...]
    use_ninja: bool | None
    probes: bool = False
    """Whether USDT/DTrace probes are to be compiled in."""
    launcher: str | None = None
    """What was asked to stand in front of the compilers; None: what is there."""
    linker: str | None = None
    """The linker that was asked for; None: that of before, else lld where it is there."""
    linker_before: str | None = None
    """The linker that this build had when it was made before, if it was."""


def search_path(env: Mapping[str, str]) -> str:
    """The PATH that a child with this environment searches."""
    return env.get("PATH", os.defpath)


def temporary_folder(env: Mapping[str, str]) -> Path:
    """Where compilers put temporary files with this environment (gcc looks at these names, in this order)."""
    named = (env.get(name) for name in ("TMPDIR", "TMP", "TEMP"))
    return Path(next(filter(None, named), "/tmp"))  # noqa: S108 (the place itself is what is asked about)
