"""Run one trial: a binary runs the workload, its memory is sampled, its output must equal the input."""

from __future__ import annotations

import hashlib
import random
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from nodekiln.core import platform as machine
from nodekiln.core.errors import SourceError
from nodekiln.core.files import hash_file, is_disk_full
from nodekiln.core.reporting import format_size
from nodekiln.experiment.inputs.binaries import Subject
from nodekiln.experiment.inputs.inputs import Material
from nodekiln.experiment.inputs.workloads import STREAMS, Workload
from nodekiln.experiment.measure import page_cache as pagecache
from nodekiln.experiment.measure.watching import OnSample, watch
from nodekiln.experiment.model.results import PageCache, Trial

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """A trial to run: round (from 1), binary label, position in the whole sequence (from 1)."""

    number: int
    label: str
    order: int


def turns(labels: Sequence[str], rounds: int, seed: int) -> Iterator[Turn]:
    """Return the sequence of trials, the same for a seed on every machine and Python."""
    order = 0
    for number, labels_in_turn in enumerate(islice(orders(labels, f"turns {seed}"), rounds), 1):
        for label in labels_in_turn:
            order += 1
            yield Turn(number, label, order)


def orders(labels: Sequence[str], seed: str) -> Iterator[tuple[str, ...]]:
    """Yield the order of the labels in each round, endlessly; the same for a seed everywhere.

    As many rounds as there are labels make a block: the rotations of one random order, shuffled. In a block
    every label is in every position once, so that whatever number of rounds is taken, the times that two
    labels came first differ by one at most.
    """
    chance = random.Random(seed)  # noqa: S311 (an order, no secret)

    def shuffled(values: Iterable[T]) -> list[T]:
        # random.shuffle may become another one; what random() gives is promised to stay.
        return sorted(values, key=lambda _: chance.random())

    while labels:
        first = shuffled(labels)
        yield from shuffled((*first[place:], *first[:place]) for place in range(len(first)))


_CHUNK = 4 * 2**20
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS

OnBytes = Callable[[int], None]


def find_loss(output: Path, sha256: str, on_bytes: OnBytes = lambda _: None) -> str:
    """Return the fault of an output whose input has that hash, "" if there is none."""
    if not output.is_file():  # a pipe would wait for ever
        return "the output is not a regular file" if output.exists() else "there is no output"
    try:
        if hash_file(output, on_bytes) == sha256:
            return ""
        with output.open("rb") as file:
            is_packed = file.read(2) == _GZIP
        if not is_packed:
            return f"the output ({output.stat().st_size} bytes) is neither the input nor gzip of it"
        return (
            ""
            if _hash(_unpacked(_chunks(output, on_bytes))) == sha256
            else "the output unpacks to other bytes than the input's"
        )
    except (zlib.error, EOFError) as error:
        return f"the output does not unpack: {error}"


def _hash(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path, on_bytes: OnBytes) -> Iterator[bytes]:
    read = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            read += len(chunk)
            yield chunk
            on_bytes(read)


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of concatenated gzip files in chunks. Raises EOFError, zlib.error."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        rest = chunk
        while rest:
            if unpacker.eof:
                unpacker = zlib.decompressobj(_GZIP_WINDOW)
            yield unpacker.decompress(rest, _CHUNK)
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    if not unpacker.eof:
        raise EOFError("it ends too early")


_FULL = 2**20
"""Bytes: a stream's next write would find no room."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Return a value that changes when a file is written or replaced."""

    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The settings that all runs of one experiment share."""

    workload: Workload
    material: Material
    mark: int | None
    """highWaterMark, in the workload's unit."""
    page_cache: PageCache
    limit: int | None
    """Bytes of memory for one run."""
    env: Mapping[str, str]
    """Without what would change a Node."""
    folder: Path
    """Ours alone, for outputs and logs; on the disk of the input."""
    stamps: Mapping[Path, Stamp | None]
    """Fingerprint of each binary when it was hashed."""

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def log(self) -> Path:
        """The output of the last run."""
        return self.folder / "log.txt"

    def argv(self, subject: Subject, *options: str) -> list[str]:
        """Return the command line of one run."""
        return self.workload.argv(
            subject.path, self.material.path, self.output, options=options, mark=self.mark
        )

    def make_ready(self, subject: Subject) -> None:
        """Restore the same state before each run: same binary, no output, input in memory or not.

        Raises SourceError if the binary is no longer what it was, or the input is gone.
        """
        if not _is_same(subject, self.stamps[subject.path]):
            raise SourceError(
                f"{subject.facts.label} was replaced or removed meanwhile: {subject.path} is no longer the"
                " file that the comparison began with.",
                remedy="Let nothing else make, graft or clean it while it is compared, and compare again.",
            )
        self.remove_output()
        try:
            if self.page_cache == "cold":
                pagecache.drop(self.material.path)
            else:
                pagecache.warm(self.material.path)
        except FileNotFoundError:
            raise _other_input(self.material.path) from None

    def remove_output(self) -> None:
        """Whatever the workload made of it."""
        if self.output.is_dir() and not self.output.is_symlink():
            shutil.rmtree(self.output)
        else:
            self.output.unlink(missing_ok=True)


def stamp_of(path: Path) -> Stamp | None:
    """Return a file's fingerprint without reading it; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _is_same(subject: Subject, was: Stamp | None) -> bool:
    found = stamp_of(subject.path)
    if found is None or was is None or found == was:
        return found is not None and found == was
    # Some network disks number their files anew.
    return replace(found, inode=was.inode) == was and hash_file(subject.path) == subject.facts.sha256


def check_disk(setup: Setup, label: str, why: str) -> None:
    """Raise SourceError for a failed run whose output, still on the disk, has filled it: the disk is
    full, which is no failure of the binary's.

    `why` is what the run ended in: it tells where the disk is full for this user only (a quota), or was.
    """
    free = machine.free_disk(setup.folder)
    if free > _FULL and not is_disk_full(why):
        return
    how = f" ({format_size(free)} left)" if free <= _FULL else ", or a quota on it"
    raise SourceError(
        f"The disk that holds {setup.folder} is full{how}, and {label} could not go on: {why}.",
        remedy="Make room, take a smaller --size, or set NODEKILN_BUILD to a folder on another disk.",
    )


def _check_input(setup: Setup) -> None:
    """Raise SourceError if the input has changed since it was hashed: no output could match."""
    path = setup.material.path
    if not path.exists() or hash_file(path) != setup.material.facts.sha256:
        raise _other_input(path)


def _other_input(path: Path) -> SourceError:
    return SourceError(
        f"The input changed while it was read: {path} is no longer the file that the comparison began with.",
        remedy="Compare with a copy that nothing writes to, the workload included.",
    )


def run_trial(setup: Setup, subject: Subject, turn: Turn, on_sample: OnSample) -> Trial:
    """Run and verify; remove the output.

    Raises UsageError if the binary can't be started, SourceError where it, the input or the disk made it
    go wrong.
    """
    setup.make_ready(subject)
    try:
        course = watch(
            setup.argv(subject, "--require", str(STREAMS)),
            env=setup.env,
            cwd=setup.folder,
            log=setup.log,
            limit=setup.limit,
            on_sample=on_sample,
        )
        loss = None
        if course.ending == "finished":
            loss = find_loss(setup.output, setup.material.facts.sha256 or "")
        if course.ending == "failed" or loss:
            check_disk(setup, turn.label, loss or course.detail)
        if loss:
            _check_input(setup)
    finally:
        setup.remove_output()
    return Trial(
        number=turn.number,
        binary=turn.label,
        order=turn.order,
        wall_ms=course.wall_ms,
        cpu_ms=course.cpu_ms,
        peak_rss_bytes=course.peak_rss_bytes,
        samples=course.samples,
        ending=course.ending,
        verified=None if loss is None else not loss,
        detail=loss or course.detail,
    )
