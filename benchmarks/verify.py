"""What verifying 300 tags costs, cold and warm, against checking out and patching each of them.

    python benchmarks/verify.py REPOSITORY [TAGS] [SAMPLE]

REPOSITORY: a bare git repository with real trees of Node as tags. Each of them starts a line, TAGS (300) in
all: in every tag of a line a quarter of the files that verify reads differ from the tag before, by one more
line near their top; the rest is shared. In one tag of 25 the rewrite's function is changed, in another it is
gone, in a third a hunk's context differs. They are fetched over file:// with filters. The baseline (git
worktree add, git apply --check, the rewrite with its parse) is run on SAMPLE tags (12), evenly spread, since
300 would take ten minutes and more.
"""

from __future__ import annotations

import io
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from nodekiln.changes import planner
from nodekiln.changes.patchfile import Patch
from nodekiln.changes.registry import Registry
from nodekiln.core.platform import cores
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.verify.run import VerifyRequest, verify
from nodekiln.verify.tagspec import TagSpec

_CHECKOUT = Path(__file__).resolve().parents[1]
_PATCHES = _CHECKOUT / "patches"
_ROUNDS = 5
_CHANGED = 0.25
"""Share of the files read that differ from the previous tag."""
_SEED = 20
HEADER = "src/node_version.h"
_WRITABLE, _NET = "lib/internal/streams/writable.js", "lib/net.js"
_ANCHORS = {
    # The tags of 25 in which the rewritten function differs or is missing.
    8: (b"function writeOrBuffer(", b"async function writeOrBuffer("),
    16: (b"function writeOrBuffer(", b"function writeOrQueue("),
}
_CONTEXT = 24
"""The tag of 25 in which a context line of a hunk for net.js differs."""


@dataclass(frozen=True)
class Repository:
    """The measured repository; `share` of the files read are identical to the previous tag's."""

    folder: Path
    tags: int
    share: float
    blobs: int


class Cost(NamedTuple):
    """Seconds that a run took, with the git processes that it started."""

    wall: float
    cpu: float


def git(folder: Path, *words: str, stdin: bytes = b"") -> bytes:
    command = ["git", f"--git-dir={folder}", *words]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def make_repository(origin: Path, folder: Path, wanted: int) -> Repository:
    """Create release lines of whole trees in which only the files that verify reads change."""
    subprocess.run(["git", "init", "--quiet", "--bare", folder], check=True)
    bases = sorted(map(Tag.parse, git(origin, "tag", "--list", "v*").decode().split()))
    for base in bases:
        git(folder, "fetch", "--quiet", "--no-tags", str(origin), f"refs/tags/{base}:refs/bases/{base}")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    registry, chance = Registry((_PATCHES,)), random.Random(_SEED)  # noqa: S311 (reproducible tags)
    stream, kept, read, contents = [], 0, 0, set()
    for line, base in enumerate(bases):
        files = {}
        recipe = Recipe(tag=base, changes=("no-backpressure", "usdt"))
        for path in planner.paths(recipe, registry):
            if git(folder, "ls-tree", f"refs/bases/{base}", path).startswith(b"100"):
                files[path] = git(folder, "cat-file", "blob", f"refs/bases/{base}:{path}")
        for number in range(wanted // len(bases)):
            tag = Tag(base.major, base.minor + number, 0)
            fresh = chance.sample(sorted(files), max(1, round(_CHANGED * len(files)))) if number else []
            files |= {path: moved(path, files[path], number) for path in fresh}
            now = files | drifted(files, number, registry.get("usdt").select(tag)) | {HEADER: header(tag)}
            kept, read = kept + len(files) - len(fresh), read + len(files)
            contents |= set(now.values())
            stream.append(commit(tag, base, line * wanted + number, now))
    git(folder, "fast-import", "--quiet", "--force", stdin=b"".join(stream))
    tags = len(git(folder, "tag", "--list").split())
    return Repository(folder, tags, kept / read, len(contents))


def header(tag: Tag) -> bytes:
    """Return node_version.h, which verify compares with the tag."""
    parts = {"MAJOR": tag.major, "MINOR": tag.minor, "PATCH": tag.patch}
    return "".join(f"#define NODE_{part}_VERSION {number}\n" for part, number in parts.items()).encode()


def moved(path: str, content: bytes, number: int) -> bytes:
    """Return the file with one more comment below its first line."""
    mark = b"#" if path.endswith((".gyp", ".py")) or path == "configure" else b"//"
    head, newline, rest = content.partition(b"\n")
    return head + newline + mark + b" release %d\n" % number + rest


def drifted(files: dict[str, bytes], number: int, patches: Sequence[Patch]) -> dict[str, bytes]:
    """Return the files that drift in this tag only."""
    if number % 25 in _ANCHORS and _WRITABLE in files:
        return {_WRITABLE: files[_WRITABLE].replace(*_ANCHORS[number % 25])}
    if number % 25 == _CONTEXT:
        for diff in (diff for patch in patches for diff in patch.files if diff.path == _NET):
            wanted = diff.hunks[0].before
            return {_NET: files[_NET].replace(b"".join(wanted), b"".join([*wanted[:-1], b"// drifted\n"]))}
    return {}


def commit(tag: Tag, base: Tag, mark: int, files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    stream.write(f"commit refs/tags/{tag}\ncommitter somebody <> {mark + 1} +0000\ndata 0\n".encode())
    stream.write(f"from refs/bases/{base}^0\n".encode())
    for path, content in files.items():
        stream.write(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n")
    return stream.getvalue()


def child(build: str, repository: str) -> None:
    """Run one verification in this process, as ./inv would."""
    settings = Settings.read(
        environ={**os.environ, "NODEKILN_BUILD": build},
        config=None,
        root=_CHECKOUT,
        cwd=Path.cwd(),
        venv=None,
    )
    reporter = Reporter(Console(file=io.StringIO()))
    report = verify(VerifyRequest(tags=TagSpec.parse("all"), repository=repository), settings, reporter)
    print(json.dumps({"counts": report.counts, "peak": peak()}))


def peak() -> int:
    """Return the peak memory of this process in kB; getrusage would include its parent before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def run(build: Path, repository: Path) -> tuple[Cost, dict[str, object]]:
    begun, before = time.perf_counter(), os.times()
    words = [sys.executable, __file__, "--child", str(build), repository.as_uri()]
    output = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    wall, after = time.perf_counter() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, cpu), json.loads(output)


def baseline(made: Repository, sample: int, folder: Path) -> Iterator[float]:
    """Yield the seconds that checking out and patching takes for a sample of tags."""
    registry = Registry((_PATCHES,))
    tags = sorted(map(Tag.parse, git(made.folder, "tag", "--list").decode().split()))
    for tag in tags[:: max(1, len(tags) // sample)][:sample]:
        begun = time.perf_counter()
        tree = folder / str(tag)
        git(made.folder, "worktree", "add", "--quiet", "--detach", str(tree), f"refs/tags/{tag}")
        patches = [str(_PATCHES / patch.name) for patch in registry.get("usdt").select(tag)]
        if patches:
            words = ["git", "apply", "--check", *patches]
            subprocess.run(words, cwd=tree, stderr=subprocess.DEVNULL, check=False)

        def read(path: str, tree: Path = tree) -> bytes | None:
            file = tree / path
            return file.read_bytes() if file.is_file() else None

        planner.work_out(Recipe(tag=tag, changes=("no-backpressure",)), read, registry)
        git(made.folder, "worktree", "remove", "--force", str(tree))
        yield time.perf_counter() - begun


def main(origin: Path, wanted: int, sample: int, folder: Path) -> None:
    made = make_repository(origin, folder / "node.git", wanted)
    print(f"{platform.platform()}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{made.tags} tags; {made.share:.0%} of the files read are identical to the previous tag's;"
        f" {made.blobs} different files"
    )
    cold, warm = [], []
    for number in range(_ROUNDS):
        build = folder / f"build{number}"
        cost, report = run(build, made.folder)
        fetched = sum(pack.stat().st_size for pack in (build / "mirror.git" / "objects").rglob("*.pack"))
        cold.append(cost)
        warm.append(run(build, made.folder)[0])
        if number == 0:
            print(f"rows: {report['counts']}")
            print(f"fetched: {fetched / 1e6:.1f} MB; peak of our process (without git): {report['peak']} kB")
        shutil.rmtree(build)
    first = statistics.median(cost.wall for cost in cold)
    for name, costs in (("cold, with the fetch", cold), ("warm, objects fetched", warm)):
        wall, cpu = (statistics.median(times) for times in zip(*costs, strict=True))
        print(f"{name}: {wall:.2f} s, {cpu:.2f} s of CPU, {made.tags / wall:.0f} tags/s")
    times = list(baseline(made, sample, folder))
    each = statistics.mean(times)
    print(f"baseline, {len(times)} tags: {each:.2f} s a tag, {each * made.tags:.0f} s for all")
    print(f"  {each * made.tags / first:.0f} times the cold run")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    elif not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    else:
        wanted, sample = [*map(int, sys.argv[2:]), *(300, 12)[len(sys.argv) - 2 :]]
        with tempfile.TemporaryDirectory(prefix="nodekiln-", dir=Path.cwd()) as place:
            main(Path(sys.argv[1]).absolute(), wanted, sample, Path(place))
