"""Runs a tag's ./configure, when it has to be run, and marks its config.gypi with the recipe.

What it ran with is kept beside the tree (`configured.json`), with config.gypi as configure wrote it, so that
going to another recipe only changes the marks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekiln.building import gypi
from nodekiln.core.edit import Plan
from nodekiln.core.errors import BuildError
from nodekiln.core.files import atomic_write, hash_file
from nodekiln.core.process import Finished, run_logged

_VARIABLES = frozenset(
    f"{name}{suffix}"
    for name in (
        *("CC", "CXX", "AR", "NM", "READELF", "LINK", "LD"),
        *("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"),
        *("GYP_DEFINES", "GYP_GENERATOR_FLAGS", "GYP_GENERATOR_OUTPUT", "GYP_CROSSCOMPILE"),
        *("PKG_CONFIG", "PKG_CONFIG_PATH", "MACOSX_DEPLOYMENT_TARGET"),
    )
    for suffix in ("", "_host", "_target")
)
"""What configure and gyp write into the build files; a change of these needs another configure."""

_SEARCHED = frozenset({"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"})
"""Where compilers look besides. No build file tells: ninja and make would keep what they made before."""

_WRITTEN = ("config.mk", "icu_config.gypi", "out/Makefile", "out/**/*.mk", "out/Release/**/*.ninja")
"""What configure leaves beside config.gypi for the build: flags of a target stand in a file of its own."""


def baked(env: Mapping[str, str]) -> dict[str, str]:
    """Those of the environment's variables that decide what a build makes, by name."""
    return {name: value for name, value in sorted(env.items()) if name in _VARIABLES | _SEARCHED}


def searched(env: Mapping[str, str]) -> dict[str, str]:
    """Those of them that no build file tells of."""
    return {name: value for name, value in baked(env).items() if name in _SEARCHED and value}


def fingerprint(
    *, commit: str, plan: Plan, argv: Sequence[str], env: Mapping[str, str], identity: str
) -> str:
    """SHA-256 over everything that configure's outcome depends on.

    Of the plan only gyp files and files that it adds to lib/ count (configure lists lib/): a plan that
    rewrites JavaScript or C++ must not cost a configure.
    """
    edits = [
        (edit.path, edit.after_id)
        for edit in plan.edits
        if edit.path.endswith((".gyp", ".gypi")) or "configure" in edit.path.rpartition("/")[2]
    ]
    added = [edit.path for edit in plan.edits if edit.base is None and edit.path.startswith("lib/")]
    facts = json.dumps([commit, edits, added, list(argv), list(baked(env).items()), identity])
    return hashlib.sha256(facts.encode()).hexdigest()


@dataclass(frozen=True)
class Configure:
    """configure in the working tree `source`, its notes and log in `folder`."""

    source: Path
    folder: Path

    @property
    def log(self) -> Path:
        """Everything that configure printed."""
        return self.folder / "configure.log"

    @property
    def _state(self) -> Path:
        return self.folder / "configured.json"

    @property
    def _pristine(self) -> Path:
        return self.folder / "config.gypi"

    @property
    def linker(self) -> str | None:
        """What it was configured to link with; None where it was not configured."""
        return None if (told := self._told()) is None else str(told.get("linker", "default"))

    @property
    def searched(self) -> dict[str, str] | None:
        """The `searched` variables that its objects were made with; None where nothing tells."""
        return None if (told := self._told()) is None else told.get("searched")

    def _told(self) -> dict[str, Any] | None:
        """What is kept beside the tree."""
        try:
            told = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    @property
    def marks(self) -> dict[str, str]:
        """The marks in the tree's config.gypi; empty where there is none, or none that can be read."""
        try:
            variables = gypi.parse((self.source / "config.gypi").read_text())["variables"]
        except (OSError, ValueError, BuildError):
            return {}
        return {name: str(value) for name, value in variables.items() if name.startswith(gypi.PREFIX)}

    def missing(self, wanted: str) -> tuple[str, ...]:
        """Why the tree is not configured as the fingerprint `wanted` says; empty where it is.

        Reads what configure wrote (50 files, 0.8 MB for 20.19.2, 5 ms): a configure run by hand leaves other
        flags in it than config.gypi as we keep it says.
        """
        try:
            done = json.loads(self._state.read_text())
            fingerprint, written = str(done["fingerprint"]), dict(done["written"])
        except (OSError, ValueError, KeyError, TypeError):
            return ("it was not done yet, or not to the end",)
        if fingerprint != wanted:
            return ("what it depends on has changed",)
        changed = [path for path, digest in written.items() if self._digest(path) != digest]
        if not self._is_ours():
            changed.insert(0, "config.gypi")
        if changed:
            more = f" and {len(changed) - 1} more files" if changed[1:] else ""
            return (f"{changed[0]}{more} changed since, as by a configure run by hand",)
        return ()

    def _is_ours(self) -> bool:
        """Whether config.gypi is what configure wrote, with or without marks."""
        try:
            texts = (self._pristine.read_text(), (self.source / "config.gypi").read_text())
            pristine, found = map(gypi.without_marks, texts)
        except (OSError, ValueError, BuildError):
            return False
        return pristine == found

    def _digest(self, path: str) -> str:
        """SHA-256 of a file of the tree, empty where it can't be read."""
        try:
            return hash_file(self.source / path)
        except OSError:
            return ""

    def run(self, argv: Sequence[str], *, env: Mapping[str, str], wanted: str, linker: str) -> Finished:
        """Runs `argv` and notes that it was done; raises BuildError where it fails (the log is kept).

        `linker` is the name of that which `env` makes it take, for later.
        """
        if self._told() is None:
            self._state.unlink(missing_ok=True)
        else:  # broken off, it is not done; but what was compiled by then waits for this linker
            before = {"linker": self.linker, "searched": self.searched}
            atomic_write(self._state, json.dumps(before).encode())
        written = self.source / "config.gypi"
        with suppress(FileNotFoundError):
            written.unlink()  # an older one must not pass for what this run writes
        try:
            finished = run_logged(argv, env=env, cwd=self.source, log=self.log)
        except (FileNotFoundError, PermissionError) as error:
            raise BuildError(f"The tag's {argv[0]} can't be run: {error.strerror}.") from None
        if finished.returncode != 0:
            raise BuildError(f"configure failed with exit code {finished.returncode}.")
        if not written.is_file():
            raise BuildError("configure ended without an error, and wrote no config.gypi.")
        atomic_write(self._pristine, written.read_bytes())
        places = {place for pattern in _WRITTEN for place in self.source.glob(pattern)}
        paths = sorted(place.relative_to(self.source).as_posix() for place in places)
        state = {
            "fingerprint": wanted,
            "linker": linker,
            "searched": searched(env),
            "written": {path: self._digest(path) for path in paths},
        }
        atomic_write(self._state, json.dumps(state, indent=1).encode())
        return finished

    def mark(self, marks: Mapping[str, str], *, generator: str) -> None:
        """Writes the recipe's marks into config.gypi; leaves the file alone where it holds them already."""
        marked = gypi.mark(self._pristine.read_text(), marks)
        target = self.source / "config.gypi"
        if target.read_text() == marked:
            return
        atomic_write(target, marked.encode())
        if generator == "make":
            # gyp's Makefile makes itself again, with another environment, when config.gypi is newer than it.
            os.utime(self.source / "out" / "Makefile")

    def variables(self) -> dict[str, object]:
        """The variables of config.gypi as configure wrote them."""
        return dict(gypi.parse(self._pristine.read_text())["variables"])
