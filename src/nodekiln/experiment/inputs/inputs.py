"""Prepare the input of trials: generated data, a file, or a file repeated. Made once, identified by hash."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core import platform as machine
from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.files import hash_file, read_json
from nodekiln.core.process import error_line, run_logged
from nodekiln.core.reporting import Reporter, format_size
from nodekiln.experiment.inputs.resource_checks import check_disk, disk_needed
from nodekiln.experiment.model.naming import as_text
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import Input

_ENDINGS = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)
_PROGRESS = re.compile(r"\w+=\s*\S*$")


def is_video(path: Path) -> bool:
    """Return True for the name of a video: ffmpeg would accept a text as a video of a terminal."""
    return path.suffix.lower() in _ENDINGS


def repeat_video(
    ffmpeg: Path,
    source: Path,
    times: int,
    target: Path,
    *,
    env: Mapping[str, str],
    on_bytes: Callable[[int], None] = lambda _: None,
) -> str:
    """Write `target`; return "" or, if ffmpeg failed (then `target` does not exist), its last line.

    `on_bytes` gets the number of bytes written so far. ffmpeg sees names of ours only: its list has a
    syntax of its own, which a user's name could break.
    """
    ending = source.suffix.lower()
    with tempfile.TemporaryDirectory(prefix="video-", dir=target.parent) as folder:
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


_BLOCK = 64 * 1024
_BLANK = 512
"""Zeros at the head of each block, as containers have tables and padding between frames: gzip leaves 99.3%.
H.264 keeps 98 to 100%."""
_BLOCKS = 64
"""Blocks made at once: 4 MiB."""


def chunks(size: int, seed: int) -> Iterator[bytes]:
    """`size` bytes in pieces. SHAKE128, as it is defined for all time: Python's random may change."""
    left = size
    number = 0
    while left > 0:
        stream = hashlib.shake_128(f"nodekiln {seed} {number}".encode()).digest(_BLOCKS * (_BLOCK - _BLANK))
        view = memoryview(stream)
        piece = b"".join(
            bytes(_BLANK) + view[start : start + _BLOCK - _BLANK]
            for start in range(0, len(stream), _BLOCK - _BLANK)
        )[:left]
        left -= len(piece)
        number += 1
        yield piece


_PART = ".part-"
_CHUNK = 4 * 2**20
_SAMPLES, _SAMPLE = 16, 256 * 1024
_TAKES = "It takes a file to read; without it, data is generated."
_LEVEL = 6
"""The default level of gzip and of Node's createGzip."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """An input file with its description."""

    path: Path
    facts: Input
    note: str
    """Description of its content and origin."""


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """A recipe for a file: `write` makes it and returns a description; `size` is approximate, in bytes."""

    name: str
    size: int
    write: Callable[[Path], str]


def input_sizes(request: CompareRequest) -> tuple[int, ...]:
    """Bytes of each input; raises UsageError for a file that can't be read or is empty."""
    if request.source is None:
        return request.sizes
    try:
        if not stat.S_ISREG(request.source.stat().st_mode):  # a pipe would wait, a device never end
            raise UsageError(f"--input {request.source} is not a regular file.", remedy=_TAKES)
        with request.source.open("rb") as file:
            size = file.seek(0, 2)
    except OSError as error:
        raise UsageError(
            f"--input {request.source} can't be read: {error.strerror}.", remedy=_TAKES
        ) from None
    if size == 0:
        raise UsageError(f"--input {request.source} is empty.", remedy=_TAKES)
    return (size * request.repeat,)


def bytes_to_write(request: CompareRequest, folder: Path) -> int:
    """Return the bytes of the inputs that are not in `folder` yet; raise as `input_sizes` does."""
    if request.source is not None:
        size = input_sizes(request)[0]
        return 0 if request.repeat == 1 or _is_repeated(request.source, request.repeat, folder) else size
    names = {_generated_name(size, request.seed): size for size in request.sizes}
    return sum(size for name, size in names.items() if not (folder / name).exists())


def prepare(
    request: CompareRequest, size: int, *, folder: Path, env: Mapping[str, str], reporter: Reporter
) -> Material:
    """Return the input of `size` bytes: from `folder` if it is there unchanged, otherwise made there.

    The caller sees to it that nobody else is at work in `folder`. Raises SourceError if the disk is too
    small or the file can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_PART}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    source, how = request.source, ""
    if source is None:
        path, sha256, how = _kept(_generated(size, request.seed, reporter), folder, reporter)
    elif request.repeat == 1:
        _check_room(folder, 0, size)
        path, sha256 = source, _hashed(source, reporter)
    else:
        recipe = _repeated(source, _hashed(source, reporter), request.repeat, env, reporter)
        path, sha256, how = _kept(recipe, folder, reporter)
    written = path.stat().st_size
    ratio = compressed_ratio(path)
    name = path.name if source is None else as_text(source.name)
    description = f"input: {name}, {format_size(written)}, of which gzip leaves {ratio:.1%}"
    return Material(
        path=path.absolute(),
        facts=Input(
            kind="generated" if source is None else "file",
            size_bytes=written,
            sha256=sha256,
            compressed_ratio=ratio,
            repeat=request.repeat,
            name=name,
        ),
        note=f"{description}; {how}" if how else description,
    )


def compressed_ratio(path: Path) -> float:
    """Size after gzip by size before, by 16 places of the file (all of it up to 4 MiB). Raises OSError."""
    packer = zlib.compressobj(_LEVEL)
    size = path.stat().st_size
    before = after = 0
    with path.open("rb", buffering=0) as file:
        for place in range(_SAMPLES):
            file.seek(
                max(0, size - _SAMPLE) * place // (_SAMPLES - 1) if size > _SAMPLES * _SAMPLE else before
            )
            piece = file.read(_SAMPLE)
            before += len(piece)
            after += len(packer.compress(piece))
    return (after + len(packer.flush())) / before


def _kept(recipe: _Recipe, folder: Path, reporter: Reporter) -> tuple[Path, str, str]:
    """Path, SHA-256 and how it was made; a file that is not what was written once is made again."""
    path, record = folder / recipe.name, folder / f"{recipe.name}.json"
    try:
        facts = read_json(record)
        if _hashed(path, reporter) == facts["sha256"]:
            return path, facts["sha256"], str(facts["how"])
        reporter.say(f"{path} is not what it was, and is made again")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or its record is damaged: made anew below
    _check_room(folder, recipe.size, recipe.size)
    with tempfile.TemporaryDirectory(prefix=_PART, dir=folder) as part:
        made = Path(part) / recipe.name
        how = recipe.write(made)
        sha256 = _hashed(made, reporter)
        record.unlink(missing_ok=True)  # a kill between the next two lines must not leave another's record
        made.replace(path)
        made.write_text(json.dumps({"sha256": sha256, "how": how}))
        made.replace(record)
    return path, sha256, how


def _generated_name(size: int, seed: int) -> str:
    return f"generated-{size}-{seed}.bin"


def _generated(size: int, seed: int, reporter: Reporter) -> _Recipe:
    def write(path: Path) -> str:
        _write(path, chunks(size, seed), size, reporter)
        return f"generated with seed {seed}"

    return _Recipe(name=_generated_name(size, seed), size=size, write=write)


def _repeated(source: Path, sha256: str, times: int, env: Mapping[str, str], reporter: Reporter) -> _Recipe:
    ffmpeg = shutil.which("ffmpeg", path=env.get("PATH")) if is_video(source) else None
    size = source.stat().st_size * times

    def write(path: Path) -> str:
        trouble = "its name is not that of a video"
        if is_video(source):
            trouble = "there is no ffmpeg"
            if ffmpeg is not None:
                with reporter.progress(f"ffmpeg repeats {source.name}, MB") as meter:
                    trouble = repeat_video(
                        Path(ffmpeg),
                        source,
                        times,
                        path,
                        env=env,
                        on_bytes=lambda done: meter.update(done // 10**6, max(1, size // 10**6)),
                    )
                if not trouble:
                    return f"repeated {times} times without loss by ffmpeg"
        _write(path, _pieces(source, times), size, reporter)
        return f"its bytes repeated {times} times ({trouble})"

    name = _repeated_name(source, sha256, times, by_ffmpeg=ffmpeg is not None)
    return _Recipe(name=name, size=size, write=write)


def _repeated_name(source: Path, sha256: str, times: int, *, by_ffmpeg: bool) -> str:
    """Include the presence of ffmpeg, which makes another file."""
    return f"repeated-{sha256[:16]}-{times}{'-ffmpeg' if by_ffmpeg else ''}{source.suffix}"


def _is_repeated(source: Path, times: int, folder: Path) -> bool:
    """Whether it is in `folder`, by ffmpeg or without: which it would be is known only when it is made."""
    names = {path.name for path in folder.glob(f"repeated-*-{times}*")}
    if not names:  # and the source, which may be large, need not be hashed
        return False
    sha256 = hash_file(source)
    ways = (False, True) if is_video(source) else (False,)
    return any(_repeated_name(source, sha256, times, by_ffmpeg=way) in names for way in ways)


def _pieces(path: Path, times: int) -> Iterator[bytes]:
    """Yield the file `times` times; small files are joined into larger pieces to save writes."""
    if 0 < (size := path.stat().st_size) <= _CHUNK // 2:
        content, at_once = path.read_bytes(), _CHUNK // size
        for left in range(times, 0, -at_once):
            yield content * min(left, at_once)
        return
    for _ in range(times):
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_CHUNK):
                yield piece


def _write(path: Path, pieces: Iterator[bytes], size: int, reporter: Reporter) -> None:
    written = 0
    with path.open("wb") as file, reporter.progress("writing the input, MB") as meter:
        for piece in pieces:
            written += file.write(piece)
            meter.update(written // 10**6, max(1, size // 10**6))


def _hashed(path: Path, reporter: Reporter) -> str:
    try:
        total = max(1, path.stat().st_size // 10**6)
        with reporter.progress(f"reading {path.name}, MB") as meter:
            return hash_file(path, lambda read: meter.update(read // 10**6, total))
    except PermissionError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from None


def _check_room(folder: Path, inputs: int, largest: int) -> None:
    check_disk(disk_needed(inputs, largest), free=machine.free_disk(folder), place=str(folder))
