"""Parse and check the options of a comparison before anything is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nodekiln.core import limits
from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Tag
from nodekiln.core.settings import parse_list

DEFAULT_TAG = Tag(22, 20, 0)
DEFAULT_SIZE = 512 * 10**6
DEFAULT_TRIALS = 5
DEFAULT_SEED = 1
_MAX_TRIALS = limits.TRIALS
_MAX_BYTES = 10**13

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kKmMgGtT]?)(i?)[bB]?", re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """Sizes in bytes. Several sizes or highWaterMarks make a series, with an experiment for each pair."""

    tag: Tag = DEFAULT_TAG
    """Grafted twice, stock and without backpressure, where no binaries are named."""
    binaries: tuple[str, ...] = ()
    """Names of published ones, or paths; the first is the baseline."""
    release: Path | None = None
    """Official binary to graft from; None: it is downloaded."""
    mirror: str | None = None
    workload: str = "pipeline"
    source: Path | None = None
    """File to read, in place of generated data."""
    repeat: int = 1
    sizes: tuple[int, ...] = (DEFAULT_SIZE,)
    high_water_marks: tuple[int | None, ...] = (None,)
    """In bytes, or objects where the workload's streams count those; None: Node's default."""
    trials: int = DEFAULT_TRIALS
    warm_ups: int = 1
    """Runs of each binary before the first trial, verified and not counted."""
    gc_rounds: int = 1
    """Runs of each binary in which collections are measured, for each of the three ways and a joint one."""
    seed: int = DEFAULT_SEED
    cold: bool = False
    memory_limit: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.binaries and len(self.binaries) < 2:
            raise UsageError(
                "One binary can't be compared.",
                remedy="--binaries A,B names two; the same one twice shows how far from 1 chance gets.",
            )
        for name, value, least in (
            ("--trials", self.trials, 1),
            ("--warm-ups", self.warm_ups, 0),
            ("--gc-rounds", self.gc_rounds, 0),
        ):
            if not least <= value <= _MAX_TRIALS:
                raise UsageError(f"{name} {value} should be from {least} to {_MAX_TRIALS}.")
        if self.repeat != 1 and self.source is None:
            raise UsageError(
                "--repeat is for a file.", remedy="Name one with --input, or take a larger --size."
            )
        if self.repeat < 1:
            raise UsageError(f"--repeat {self.repeat} should be 1 or more.")
        if self.source is not None and len(self.sizes) > 1:
            raise UsageError("--input has one size.", remedy="Leave --size out, or --input.")
        for name, values in (("--size", self.sizes), ("--high-water-mark", self.high_water_marks)):
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name}: each value should be there once.")

    @property
    def points(self) -> int:
        """The number of experiments."""
        return len(self.sizes) * len(self.high_water_marks)

    @property
    def is_series(self) -> bool:
        """True if there is more than one experiment."""
        return self.points > 1


def make_request(
    *,
    cwd: Path,
    tag: str = "",
    binaries: str = "",
    release: str = "",
    mirror: str = "",
    workload: str = "pipeline",
    source: str = "",
    repeat: str = "",
    size: str = "",
    high_water_mark: str = "",
    trials: str = "",
    warm_ups: str = "",
    gc_rounds: str = "",
    seed: str = "",
    cold: bool = False,
    memory_limit: str = "",
    dry_run: bool = False,
) -> CompareRequest:
    """Return the request for command-line options, "" for missing ones; paths are relative to `cwd`.

    Raises UsageError for a word that can't be taken, and for two that exclude each other.
    """
    for option, word in (("--tag", tag), ("--release", release)):
        if word and binaries:
            raise UsageError(f"{option} is for grafts, and --binaries names others.", remedy="Leave one out.")
    if source and size:
        raise UsageError("--size is for generated data.", remedy="Leave it out, or --input.")
    return CompareRequest(
        tag=Tag.parse(tag) if tag else DEFAULT_TAG,
        binaries=parse_list(binaries, str, "--binaries") if binaries else (),
        release=cwd / release if release else None,
        mirror=mirror or None,
        workload=workload,
        source=cwd / source if source else None,
        repeat=_number(repeat, "--repeat", 1),
        sizes=_sizes(size, "--size") if size else (DEFAULT_SIZE,),
        high_water_marks=_sizes(high_water_mark, "--high-water-mark") if high_water_mark else (None,),
        trials=_number(trials, "--trials", DEFAULT_TRIALS),
        warm_ups=_number(warm_ups, "--warm-ups", 1),
        gc_rounds=_number(gc_rounds, "--gc-rounds", 1),
        seed=_number(seed, "--seed", DEFAULT_SEED),
        cold=cold,
        memory_limit=parse_size(memory_limit, "--memory-limit") if memory_limit else None,
        dry_run=dry_run,
    )


def parse_size(text: str, option: str) -> int:
    """Bytes: "512M" and "512 MB" are decimal, as disks are sold; "64KiB" and "64Ki" are binary.

    Raises UsageError, naming `option`, for anything else and for 0.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise UsageError(
            f"{option} {text!r} is not a size.", remedy="Sizes look like 512M, 1.5G, 64KiB or 65536."
        )
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
    if not 0 < size <= _MAX_BYTES:
        raise UsageError(f"{option} {text!r} should be from 1 byte to {_MAX_BYTES // 10**12} TB.")
    return size


def _sizes(text: str, option: str) -> tuple[int, ...]:
    return parse_list(text, lambda word: parse_size(word, option), option)


def _number(text: str, option: str, default: int) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{option} takes a number, not {text!r}.")
    return int(text) if text else default
