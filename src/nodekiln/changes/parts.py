"""What a plan is put together from: parts that each go by a few files only.

Whoever plans many trees keeps the parts: most trees share most of their files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

Part = TypeVar("Part")


class Remember(Protocol):
    """Answers with what `work` answers, perhaps from an earlier time.

    `work` reads no other files than `paths`; for the same `question` (and the same patches under the same
    names) and the same contents of these files it always answers the same.
    """

    def __call__(self, question: Hashable, paths: tuple[str, ...], work: Callable[[], Part]) -> Part: ...


def directly(question: Hashable, paths: tuple[str, ...], work: Callable[[], Part]) -> Part:  # noqa: ARG001 (a Remember)
    """Remembers nothing."""
    return work()
