"""The .ninja files that gyp writes, and a variant of them in which heavy steps run in a pool of their own.

gyp's files stay as they are: the variant stands beside them, and only the files with heavy steps are written
again. A pool is no part of a command, so nothing is made again when one is set or taken away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nodekiln.building.memory import is_heavy

MAIN = "build.ninja"
_FOLDER = "nodekiln"
_SUFFIX = ".pooled"
"""Not .ninja: files of that name are what configure wrote, and are watched for changes by others."""
_VARIANT = f"{_FOLDER}{_SUFFIX}"
_POOL = "nodekiln_heavy"
_CONTINUED = re.compile(r"\$\n *")
_SUBNINJA = re.compile(r"^subninja (\S+)$", re.MULTILINE)
_BUILD = re.compile(r"^build (?:[^\n]*\$\n)*[^\n]*\n", re.MULTILINE)
_COMPILED = re.compile(r"build (\S+\.o): (?:cc|cxx)(?:_s)? ")
"""A build statement of gyp's for one object, its continued lines joined."""


def joined(text: str) -> str:
    """The text of a .ninja file with its continued lines joined."""
    return _CONTINUED.sub("", text)


def read_files(out: Path) -> dict[str, str]:
    """build.ninja and the files it names, by their paths in `out`; empty where there is none."""
    try:
        texts = {MAIN: (out / MAIN).read_text()}
        return texts | {path: (out / path).read_text() for path in _SUBNINJA.findall(texts[MAIN])}
    except (OSError, UnicodeDecodeError):
        return {}


def with_pool(texts: Mapping[str, str], depth: int) -> dict[str, str]:
    """The files to write so that at most `depth` heavy steps run at once; empty where no step is heavy.

    The first is what ninja has to be given with -f.
    """
    changed = {path: _pooled(text) for path, text in texts.items() if path != MAIN}
    changed = {path: text for path, text in changed.items() if text != texts[path]}
    if not changed:
        return {}

    def redirect(line: re.Match[str]) -> str:
        return f"subninja {_FOLDER}/{line[1]}{_SUFFIX}" if line[1] in changed else line[0]

    main = f"pool {_POOL}\n  depth = {depth}\n\n" + _SUBNINJA.sub(redirect, texts[MAIN])
    return {_VARIANT: main} | {f"{_FOLDER}/{path}{_SUFFIX}": text for path, text in changed.items()}


def write_pool(out: Path, depth: int) -> str:
    """Writes the variant into `out`, where it is not there yet; returns what to give to ninja as its file."""
    files = with_pool(read_files(out), depth)
    for path, text in files.items():
        place = out / path
        if not place.exists() or place.read_text() != text:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    return next(iter(files), MAIN)


def _pooled(text: str) -> str:
    def add(statement: re.Match[str]) -> str:
        compiled = _COMPILED.match(joined(statement[0]))
        heavy = compiled is not None and is_heavy(compiled[1])
        return statement[0] + f"  pool = {_POOL}\n" * heavy

    return _BUILD.sub(add, text)
