"""Video repeated without loss, by ffmpeg's concat demuxer: packets are copied, nothing is encoded again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from nodekiln.core.process import error_line, run_logged

_ENDINGS = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)
_PROGRESS = re.compile(r"\w+=\s*\S*$")


def is_film(path: Path) -> bool:
    """By its name: ffmpeg would take a text for a film of a terminal."""
    return path.suffix.lower() in _ENDINGS


def repeat_film(
    ffmpeg: Path,
    source: Path,
    times: int,
    target: Path,
    *,
    env: Mapping[str, str],
    on_bytes: Callable[[int], None] = lambda _: None,
) -> str:
    """Writes `target`; returns "" or, where ffmpeg could not (`target` is not there then), its last words.

    `on_bytes` is told how many bytes were written so far. ffmpeg sees names of ours only: its list has a
    syntax of its own, which a user's name could break.
    """
    ending = source.suffix.lower()
    with tempfile.TemporaryDirectory(prefix="film-", dir=target.parent) as folder:
        here = Path(folder)
        (here / f"once{ending}").symlink_to(source.absolute())
        (here / "list.txt").write_text(f"file once{ending}\n" * times)
        made = here / f"made{ending}"
        argv = [str(ffmpeg), "-nostdin", "-hide_banner", "-loglevel", "error"]
        argv += ["-nostats", "-progress", "pipe:1", "-f", "concat", "-i", "list.txt"]
        argv += ["-map", "0:v", "-map", "0:a?", "-c", "copy", made.name]

        def take(line: str) -> None:
            name, _, value = line.partition("=")
            if name == "total_size" and value.isdigit():
                on_bytes(int(value))

        done = run_logged(argv, env=env, cwd=here, log=here / "log.txt", on_line=take)
        if done.returncode != 0 or not made.is_file() or made.stat().st_size <= source.stat().st_size:
            words = [line for line in done.tail if not _PROGRESS.match(line)]
            return f"ffmpeg could not: {error_line(chr(10).join(words))}"
        made.replace(target)
    return ""
