"""Find workloads and build their command lines. Each .mjs file starts with a description.

One's own is a file that Node runs as `node FILE INPUT OUTPUT [HIGH_WATER_MARK]`. It has to leave INPUT's
bytes in OUTPUT, as they are or gzipped, and may publish its Writables on the diagnostics_channel
`nodekiln:writable`: all that has a number `writableLength` will do. Nothing of it is needed to run it alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekiln.core.errors import UsageError
from nodekiln.experiment.model.naming import as_text
from nodekiln.experiment.model.results import Unit

_FOLDER = Path(__file__).with_name("workload")
_FACTS = Path(__file__).with_name("workloads.toml")
_PRELOAD = Path(__file__).with_name("preload")
STREAMS, COLLECTIONS = _PRELOAD / "streams.cjs", _PRELOAD / "collections.cjs"
_ENDINGS = frozenset({".js", ".mjs", ".cjs"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A workload: a program for Node."""

    name: str
    path: Path
    about: str
    unit: Unit
    text: str
    rate: float | None
    """Bytes of input a second, for an estimate; None for one's own."""
    base: float
    """Seconds that it takes besides."""
    cpu_bound: bool = False
    """True if it never waits for a timer or a slow reader."""

    def argv(
        self,
        binary: Path,
        source: Path,
        output: Path,
        *,
        options: tuple[str, ...] = (),
        mark: int | None = None,
    ) -> list[str]:
        """Return the command line; `mark` is the highWaterMark in `unit`."""
        words = [str(binary), *options, str(self.path), str(source), str(output)]
        return words if mark is None else [*words, str(mark)]

    def seconds(self, size: int) -> float | None:
        """About how long one run takes for `size` bytes of input; None where nobody knows."""
        return None if self.rate is None else self.base + size / self.rate


def workload_names() -> tuple[str, ...]:
    """Return the names of the built-in workloads."""
    return tuple(_facts())


def find_workload(word: str, cwd: Path) -> Workload:
    """Return the workload of that name, or the file; raise UsageError if it is neither."""
    if word in _facts():
        facts, path = _facts()[word], _FOLDER / f"{word}.mjs"
        return Workload(name=word, path=path, text=path.read_text(encoding="utf-8"), **facts)
    path = cwd / word
    if path.suffix not in _ENDINGS or not path.is_file():
        raise UsageError(
            f"{word!r} is no workload.",
            remedy=f"There are {', '.join(workload_names())}; or name a file of yours, as workload.mjs.",
        )
    try:
        text = path.read_text(encoding="utf-8")  # as Node reads it, whatever the locale
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{path} can't be read: {why}.") from None
    return Workload(
        name=as_text(path.name),
        path=path.absolute(),
        about="a program of yours",
        unit="bytes",
        text=text,
        rate=None,
        base=0,
    )


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without variables that change a Node: NODE_OPTIONS, NODE_PATH, NODE_V8_COVERAGE,
    UV_THREADPOOL_SIZE and all others of Node's and libuv's."""
    return {name: value for name, value in env.items() if not name.startswith(("NODE_", "UV_"))}


def _facts() -> Mapping[str, dict[str, Any]]:
    return tomllib.loads(_FACTS.read_text())
