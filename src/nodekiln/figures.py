"""matplotlib as it comes, whatever the user has set: a word wrong in a matplotlibrc must not end a report."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from functools import cache
from pathlib import Path
from typing import Any


@contextmanager
def settings(ours: Mapping[Any, Any]) -> Iterator[None]:
    """While a figure is made and written: our settings, else matplotlib's own, and none of the user's.

    The first use takes 0.4 s, for the import. Keys are Any: matplotlib types its 300 names as literals.
    """
    _load()
    import matplotlib as mpl

    # Whoever imported it before may have read the user's.
    with mpl.rc_context({**mpl.rcParamsDefault, **ours}):
        yield


@cache
def _load() -> None:
    """Imports it where it finds no settings.

    It reads the first `matplotlibrc` that there is, and looks for one in the current folder before it looks
    where a variable says: hence a current folder with an empty one.
    """
    # Where it can't write to the user's folder it keeps its list of fonts in a temporary one. That is well,
    # and it would tell it in two warnings each time.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.pop("MPLBACKEND", None)  # one that it doesn't know ends the import; no window is wanted here
    with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder, chdir(folder):
        Path("matplotlibrc").touch()
        importlib.import_module("matplotlib")
