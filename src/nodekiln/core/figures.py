"""matplotlib with its own defaults: an error in the user's matplotlibrc must not end a report."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from nodekiln.core.files import temporary_directory

_FILE = "matplotlibrc"


@contextmanager
def settings(ours: Mapping[Any, Any]) -> Iterator[None]:
    """Apply our settings on top of matplotlib's defaults while a figure is drawn and written.

    The first use imports matplotlib (0.4 s). Keys are Any: matplotlib types its 300 names as literals.
    """
    _load()
    import matplotlib as mpl

    # An earlier import may have read the user's settings.
    with mpl.rc_context({**mpl.rcParamsDefault, **ours}):
        yield


@cache
def _load() -> None:
    """Import matplotlib without the user's settings.

    It reads a `matplotlibrc` in the current folder in preference to the one in MATPLOTLIBRC. The current
    folder changes only if it has such a file: changing back may be impossible.
    """
    # If the user's folder is read-only, it keeps its list of fonts in a temporary one, with two warnings.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.pop("MPLBACKEND", None)  # an unknown one ends the import
    with temporary_directory() as folder:
        empty = Path(folder, _FILE)
        empty.touch()
        os.environ["MATPLOTLIBRC"] = str(empty)
        with chdir(folder) if os.path.exists(_FILE) else nullcontext():  # noqa: PTH110 (never raises)
            importlib.import_module("matplotlib")
        del os.environ["MATPLOTLIBRC"]
