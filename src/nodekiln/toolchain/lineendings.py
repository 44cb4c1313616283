"""Line endings that git changes: core.autocrlf, which users who share files with Windows set.

Only looks and says; that a checkout heeds the setting or doesn't is up to whoever runs git there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.machine_checks import nearest_existing

_CHANGED_ON_CHECKOUT = (
    "A tree that is checked out by hand gets carriage returns, in gyp's arguments too (nodejs/node#41476)."
)
_CHANGED_ON_ADD = "What is added by hand loses its carriage returns, which vcbuild.bat and some others have."
_WHY = {
    **dict.fromkeys(("true", "yes", "on", "1"), _CHANGED_ON_CHECKOUT),
    "input": _CHANGED_ON_ADD,
}
"""By value, as git spells them; all others switch it off."""


def check_autocrlf(build_dir: Path, env: Mapping[str, str]) -> Iterator[Finding]:
    """A note where git is set to change line endings; none where git is missing or fails."""
    try:
        answer = capture(
            ["git", "config", "--get", "core.autocrlf"], env=env, cwd=nearest_existing(build_dir), timeout=10
        )
    except (OSError, KilnError):
        return
    value = answer.stdout.decode(errors="replace").strip().lower()
    if answer.returncode == 0 and value in _WHY:
        yield Finding(
            Severity.NOTE,
            "git",
            f"core.autocrlf is {value} (git config --show-origin core.autocrlf says where).",
            _WHY[value],
            "Nothing has to be done: nodekiln's own checkout ignores it.",
        )
