"""What can go wrong, each with the exit code it ends in and what to type next.

Every error that a user can cause is one of these; anything else that escapes is a bug of ours (exit code 1).
"""

from __future__ import annotations


class KilnError(Exception):
    """Says what happened and why (`message`) and what to type next (`remedy`)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}\n  {self.remedy}"


class UsageError(KilnError):
    """A word of the user's that can't be taken."""

    exit_code = 2


class ToolchainError(KilnError):
    """Something that the build needs is missing, too old or in the way."""

    exit_code = 3


class PatchError(KilnError):
    """The rewrite or a patch does not fit the tree."""

    exit_code = 4


class BuildError(KilnError):
    """configure, the compiler or the linker failed."""

    exit_code = 5


class SourceError(KilnError):
    """A repository, a tag, a tarball or a working tree can't be had as asked."""

    exit_code = 6


class CheckError(KilnError):
    """A binary does not do what its recipe says."""

    exit_code = 7


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it (128 + SIGINT)."""
