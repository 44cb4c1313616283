"""A digest of everything beside a tag's files that an answer depends on: code, patches, parsers."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CODE = ("core/edit.py", "core/recipe.py", "source/nodeversion.py", "changes/*.py", "verify/*.py")
_LIBRARIES = ("tree-sitter", "tree-sitter-javascript", "unidiff")


def digest(patches: Path) -> str:
    """SHA-256, as 64 hex digits; `patches` is the folder of the series. Some 3 ms."""
    told = hashlib.sha256()
    files = [file for pattern in _CODE for file in sorted(_PACKAGE.glob(pattern))]
    files += sorted(file for file in patches.rglob("*") if file.is_file())
    for file in files:
        content = file.read_bytes()
        told.update(f"{file.name} {len(content)}\n".encode() + content)
    for library in _LIBRARIES:
        told.update(f"{library} {version(library)}\n".encode())
    return told.hexdigest()
