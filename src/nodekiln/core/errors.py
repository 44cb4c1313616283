"""The errors that a user can cause, each with its exit code.

Any other exception that escapes is a bug of nodekiln (exit code 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class KilnError(Exception):
    """An error with a `message` (what failed and why) and a `remedy` (what to type next)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}\n  {self.remedy}"


class UsageError(KilnError):
    """Invalid option or configuration value."""

    exit_code = 2


class ToolchainError(KilnError):
    """A requirement of the build is missing, too old or conflicting."""

    exit_code = 3


class PatchError(KilnError):
    """A rewrite or a patch does not fit the tree."""

    exit_code = 4


class BuildError(KilnError):
    """configure, the compiler or the linker failed."""

    exit_code = 5


class SourceError(KilnError):
    """A repository, tag, tarball, release or working tree is unavailable."""

    exit_code = 6


class CheckError(KilnError):
    """A binary does not behave as its recipe requires."""

    exit_code = 7


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect (128 + SIGINT)."""


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise KeyboardInterrupt for a Ctrl-C that has become another error.

    Until 3.11 an exception in __set_name__, as while matplotlib is imported, comes out as RuntimeError.
    C code turns one into SystemError, and cleaning up after one may fail.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            cause = cause.__cause__ or cause.__context__
        raise
