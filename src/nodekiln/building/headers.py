"""The headers and config.gypi that node-gyp needs to compile add-ons for a binary.

The tag's own tools/install.py knows which they are; node-gyp takes the result with --nodedir.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nodekiln.core.errors import BuildError, KilnError
from nodekiln.core.process import capture, error_line


def install_headers(source: Path, destination: Path, *, python: str, env: Mapping[str, str]) -> None:
    """Fills `destination`/include/node; raises BuildError where the tag's installer fails."""
    try:
        said = _run_installer(source, destination, python, env)
    except (OSError, KilnError) as error:  # there is no installer, it fails, or it does not end
        raise _failure(str(error)) from None
    if not (destination / "include" / "node" / "node.h").is_file():
        raise _failure(said)


def _failure(said: str) -> BuildError:
    return BuildError(f"The tag's tools/install.py could not install its headers: {said}")


def _run_installer(source: Path, destination: Path, python: str, env: Mapping[str, str]) -> str:
    """Answers with the last line that it says."""
    script = (source / "tools" / "install.py").read_text(errors="replace")
    if "--headers-only" in script:  # 20 and later
        argv = ["install", "--headers-only", "--silent", "--dest-dir", str(destination), "--prefix", "/"]
        argv = argv if "--silent" in script else [word for word in argv if word != "--silent"]
    else:
        argv = ["install", str(destination), "/"]
        env = {**env, "HEADERS_ONLY": "1"}
    answer = capture([python, "tools/install.py", *argv], env=env, cwd=source)
    last = error_line(answer.text)
    if answer.returncode != 0:
        raise KilnError(last)
    return last
