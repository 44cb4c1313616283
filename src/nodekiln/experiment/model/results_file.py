"""results.json: the text that the data model is written as, and read back from."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec

from nodekiln.core.errors import UsageError
from nodekiln.experiment.model.results import FORMAT, SCHEMA, Experiment, Sweep

RESULTS = "results.json"


def dump(results: Experiment | Sweep) -> str:
    """Return the text of results.json."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1).decode() + "\n"


def load(text: bytes | str, origin: str = "results.json") -> Experiment | Sweep:
    """Parse the text of results.json; `origin` names it in errors.

    Raises UsageError for a text that is damaged, is something else's, or was written by a newer nodekiln.
    """
    again = "./inv compare makes a new one; it can't be drawn from this."
    try:
        head = msgspec.json.decode(text)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise UsageError(
                f"{origin} holds no results of ./inv compare.", remedy="Name the folder of a run."
            )
        schema = head.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise UsageError(
                f"{origin} was written by a newer nodekiln (schema {schema}; this one reads {SCHEMA}).",
                remedy="Use that version.",
            )
        shape: Any = Sweep if head.get("kind") == "sweep" else Experiment
        results: Experiment | Sweep = msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, UnicodeError) as error:  # ValidationError is a DecodeError
        raise UsageError(f"{origin} is damaged: {error}.", remedy=again) from None
    except RecursionError:
        raise UsageError(f"{origin} is damaged: it nests too deeply.", remedy=again) from None
    return results


def read_results(folder: Path) -> Experiment | Sweep:
    """Return the results in the folder of a run; raise UsageError if it has none that can be rendered."""
    file = folder / RESULTS
    remedy = "./inv report takes the folder of a run: build/experiments/<time>."
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait, a device never end
            raise UsageError(f"{file} is no file.", remedy=remedy)
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}.", remedy=remedy) from None
    return load(text, str(file))
