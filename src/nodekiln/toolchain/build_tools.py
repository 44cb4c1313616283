"""ninja or make: which of them builds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.request import Request, search_path

Generator = Literal["ninja", "make"]

# Fedora and RHEL used to call it ninja-build; elsewhere than on Linux GNU make may be gmake.
_PROGRAMS: Mapping[Generator, tuple[str, ...]] = {
    "ninja": ("ninja", "ninja-build"),
    "make": ("make", "gmake"),
}


@dataclass(frozen=True, slots=True)
class Maker:
    """What builds: `generator` is the kind of build files that gyp writes, `argv` the program."""

    generator: Generator
    argv: tuple[str, ...]


def choose_maker(request: Request, env: Mapping[str, str]) -> Maker | Finding:
    """ninja where it is there and nobody said otherwise, else make; an error where none is there."""
    wanted: tuple[Generator, ...] = ("ninja", "make")
    if request.use_ninja is True or (request.use_ninja is None and "--ninja" in request.configure_args):
        wanted = ("ninja",)
    elif request.use_ninja is False:
        wanted = ("make",)
    for generator in wanted:
        for name in _PROGRAMS[generator]:
            if shutil.which(name, path=search_path(env)):
                return Maker(generator, (name,))
    install = {
        "ninja": "ninja (apt install ninja-build, dnf install ninja-build, brew install ninja)",
        "make": "make (apt install make, dnf install make, xcode-select --install)",
    }
    return Finding(
        Severity.ERROR,
        wanted[0],
        f"There is {'neither' if len(wanted) > 1 else 'no'} {' nor '.join(wanted)} on PATH.",
        "configure only writes the build files; one of them has to run them.",
        f"Install {' or '.join(install[generator] for generator in wanted)}.",
    )
