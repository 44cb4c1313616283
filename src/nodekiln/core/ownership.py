"""Decide whether a folder can be trusted: whose it is, and who else may write in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def untrusted(found: os.stat_result, sudo_uid: str, *, allow_sticky: bool = False) -> str | None:
    """Return why a folder can't be trusted, as a clause ("is a symbolic link"); None if it can.

    Trusted are folders of this user, of root, and under sudo of the user who called it, in which nobody else
    may write. A group may write if it is the user's own (user private groups), as with a umask of 002.
    `allow_sticky` allows folders in which nobody can remove or replace the files of others, such as /tmp.
    """
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if os.name == "nt":  # there are no owners and modes in this sense
        return None
    if found.st_uid not in _trusted_owners(sudo_uid):
        return f"belongs to {_user_name(found.st_uid)}"
    if allow_sticky and found.st_mode & stat.S_ISVTX:
        return None
    if found.st_mode & stat.S_IWOTH:
        return "can be written by all users"
    if found.st_mode & stat.S_IWGRP and not _is_private_group(found.st_gid, found.st_uid):
        return "can be written by its group"
    return None


def is_ours(path: Path) -> bool:
    """Return True if the file or folder belongs to this user."""
    return path.stat().st_uid == os.geteuid() if os.name != "nt" else True


def owner_of(path: Path) -> str:
    """Return the name of a file's owner, "user 1234" for one without a name."""
    return _user_name(path.stat().st_uid)


def _trusted_owners(sudo_uid: str) -> set[int]:
    owners = {0, os.geteuid()}
    if os.geteuid() == 0 and sudo_uid.isascii() and sudo_uid.isdigit():
        owners.add(int(sudo_uid))
    return owners


def _is_private_group(group: int, owner: int) -> bool:
    import grp
    import pwd

    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(owner)
    except KeyError:  # containers often have no entry for the user; its group then has none either
        return group == os.getegid() == os.geteuid()
    return found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def _user_name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
