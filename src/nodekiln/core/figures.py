"""matplotlib as it comes, whatever the user has set: a word wrong in a matplotlibrc must not end a report."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

_FILE = "matplotlibrc"


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
    where a variable says. Only then is another folder the current one meanwhile: a user may stand in one that
    can be left and not be entered again.
    """
    # Where it can't write to the user's folder it keeps its list of fonts in a temporary one. That is well,
    # and it would tell it in two warnings each time.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.pop("MPLBACKEND", None)  # one that it doesn't know ends the import; no window is wanted here
    with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder:
        empty = Path(folder, _FILE)
        empty.touch()
        os.environ["MATPLOTLIBRC"] = str(empty)
        with chdir(folder) if os.path.exists(_FILE) else nullcontext():  # noqa: PTH110 (it raises nothing)
            importlib.import_module("matplotlib")
        del os.environ["MATPLOTLIBRC"]
