"""Measure how patches by others fare: Debian's, which its trees have applied, reversed, at other tags.

    .venv/bin/python benchmarks/foreign_patches.py REPOSITORY

The repository's tags are Debian's source packages of Node, with debian/patches in the tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from functools import cache, partial

from nodekiln.changes import hunks
from nodekiln.changes.hunks import Fit
from nodekiln.changes.intake import fit, read_drafts, reverse
from nodekiln.changes.patchfile import parse
from nodekiln.changes.registry import Entry
from nodekiln.core.edit import Read
from nodekiln.core.errors import KilnError
from nodekiln.core.recipe import Tag, TagRange
from nodekiln.source.merge import merge
from nodekiln.verify.merging import Series, State

SERIES = "debian/patches/series"


def reader(repository: str, tag: Tag) -> Read:
    """Return a function that reads files of a tag."""

    @cache
    def read(path: str) -> bytes | None:
        command = ["git", "--git-dir", repository, "cat-file", "blob", f"{tag}:{path}"]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    return read


def main(repository: str) -> None:
    """Print a table of patches and one of hunks."""
    names = subprocess.run(
        ["git", "--git-dir", repository, "tag"], capture_output=True, text=True, check=True
    ).stdout.split()
    tags = sorted(map(Tag.parse, names))
    reads = {tag: reader(repository, tag) for tag in tags}
    begun = time.monotonic()
    for base in tags:
        series = (reads[base](SERIES) or b"").decode()
        files = [line.split()[0] for line in series.splitlines() if line.strip() and line[0] != "#"]
        if not files:
            continue
        taken, refused = [], Counter[str]()
        for file in files:
            try:
                drafts = read_drafts(reads[base](f"debian/patches/{file}") or b"", file)
                [fitted] = fit([*map(reverse, drafts)], base, reads[base])
            except KilnError as error:
                refused["can't be expressed" if "can't be used" in error.message else "does not fit"] += 1
                continue
            patch = parse(f"own/{file}", fitted.content)
            taken.append(Entry(patch, TagRange.parse(">=0"), file, "", base))
        print(f"{base}: {len(files)} patches, {len(taken)} taken in, {dict(refused)}")
        for tag in tags:
            if tag != base:
                counts(taken, tag, reads)
    print(f"{time.monotonic() - begun:.0f} seconds")


def counts(taken: list[Entry], tag: Tag, reads: dict[Tag, Read]) -> None:
    """Print what became of each patch, and of each hunk, at one tag."""
    patches, found = Counter[str](), Counter[str]()
    joined = partial(merge, environment=dict(os.environ))
    for entry in taken:
        series = Series((entry,), reads.__getitem__, joined)
        steps, clash = series.bring(tag, {})
        state = "asks" if clash else str(steps[0].state)
        patches[state] += 1
        outcomes = hunks.apply([entry.patch], reads[tag]).outcomes
        asking = set(clash.paths) if clash else set()
        for outcome in outcomes:
            if outcome.fit in (Fit.CLEAN, Fit.OFFSET):
                found[str(outcome.fit)] += 1
            elif outcome.path in asking:
                found["in files that ask"] += 1
            else:
                found["upstream" if state == State.UPSTREAM else "merged"] += 1
    print(f"  {tag}: patches {dict(patches)}; {sum(found.values())} hunks {dict(found)}")


if __name__ == "__main__":
    main(sys.argv[1])
