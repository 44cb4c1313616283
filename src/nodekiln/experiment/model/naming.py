"""Choose the display names of binaries in tables and plots: short enough for a narrow column, always text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from nodekiln.core.reporting import one_line
from nodekiln.experiment.model.results import Binary

_MAX_LENGTH = 16


def display_names(binaries: Sequence[Binary]) -> dict[str, str]:
    """Return display names by label: the labels if all are short, otherwise their differences or numbers."""
    labels = {binary.label: one_line(binary.label) for binary in binaries}
    if max(map(cell_len, labels.values())) <= _MAX_LENGTH and len(set(labels.values())) == len(labels):
        return labels
    if is_classic(binaries):
        return dict(zip(labels, ("stock", "no backpressure"), strict=True))
    return {label: f"#{place}" for place, label in enumerate(labels, 1)}


def as_text(name: str) -> str:
    """Return a file's name for JSON and HTML: bytes that aren't UTF-8 become U+FFFD.

    Python keeps such bytes as lone surrogates; in the C locale, those of every letter beyond ASCII.
    """
    return name.encode(errors="surrogateescape").decode(errors="replace")


def is_classic(binaries: Sequence[Binary]) -> bool:
    """Return True for one binary with backpressure and one without."""
    return [binary.backpressure for binary in binaries] == [True, False]


def legend(binaries: Sequence[Binary], names: Mapping[str, str]) -> dict[str, str]:
    """Return label and binary name by display name, where they add something; `names` are by label."""
    entries = {}
    for binary in binaries:
        name = names[binary.label]
        words = dict.fromkeys((one_line(binary.label), one_line(binary.name)))
        entries[name] = ", ".join(word for word in words if word != name)
    return entries
