"""Under sudo: work as the user who called it, and be root only where a tracer needs it.

Files and programs then belong to that user, and the next command without sudo can use them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

_HAS_SAVED_IDS = hasattr(os, "setresuid")  # macOS has none
_lock = threading.RLock()
_depth = 0


class Identity(TypedDict, total=False):
    """Arguments of subprocess.Popen; empty: the child is the same user as this process."""

    user: int
    group: int
    extra_groups: list[int]


def under_sudo(environ: Mapping[str, str]) -> bool:
    """Return True if this process is root because another user called sudo."""
    numbers = (environ.get("SUDO_UID", ""), environ.get("SUDO_GID", ""))
    return (
        _HAS_SAVED_IDS
        and os.getresuid() == (0, 0, 0)
        and all(number.isascii() and number.isdigit() and len(number) < 11 for number in numbers)
        and int(numbers[0]) != 0
    )


def become_caller(environ: MutableMapping[str, str], is_usable: Callable[[], bool]) -> None:
    """Under sudo, become the user who called it; the way back is kept for `as_root`.

    `is_usable` is called as that user, and says whether the project is theirs: in a root shell that sudo
    opened, it may be root's, and then nothing changes. HOME, USER and LOGNAME are set.
    """
    if not under_sudo(environ):
        return
    user, group, groups = int(environ["SUDO_UID"]), int(environ["SUDO_GID"]), os.getgroups()
    name, home = _account(user)
    if name:
        os.initgroups(name, group)
    else:
        os.setgroups([group])
    os.setresgid(group, group, 0)
    os.setresuid(user, user, 0)
    if not is_usable():
        os.seteuid(0)
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)
        return
    if not _owns(environ.get("HOME", ""), user):
        environ["HOME"] = home or "/"
    if name:
        environ["USER"] = environ["LOGNAME"] = name


def can_be_root() -> bool:
    """Return True if this process is root, or can be for a moment."""
    return os.geteuid() == 0 or _is_dropped()


@contextmanager
def as_root() -> Iterator[Identity]:
    """Be root within the block if this process can; yield what Popen takes to start a child as root."""
    global _depth
    if not _is_dropped():
        yield {}
        return
    with _lock:
        _depth += 1
        os.seteuid(0)
    try:
        yield {"user": 0, "group": 0, "extra_groups": []}
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                os.seteuid(os.getuid())


def _is_dropped() -> bool:
    if not _HAS_SAVED_IDS:
        return False
    real, _, saved = os.getresuid()
    return real != 0 and saved == 0


def _account(user: int) -> tuple[str, str]:
    """Return a user's name and home; "" for one without an entry, as in containers."""
    import pwd

    try:
        found = pwd.getpwuid(user)
    except KeyError:
        return "", ""
    return found.pw_name, found.pw_dir


def _owns(folder: str, user: int) -> bool:
    try:
        return Path(folder).stat().st_uid == user
    except OSError:
        return False
