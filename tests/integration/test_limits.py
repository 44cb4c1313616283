"""Inputs that would take memory or time without end are refused, with the limit in the error."""

from __future__ import annotations

import json
import lzma
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nodekiln.core import limits
from nodekiln.core.elf.file import HEADER, SECTION
from tests.integration.conftest import CHECKOUT

MEMORY = 500 * 10**6
"""Bytes of data that a command may use."""
EXAMPLE = CHECKOUT / "tests" / "examples" / "experiment.json"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of nodekiln with limited memory; one that does not end fails."""
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "src" / "nodekiln" / "__main__.py"), *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "NODEKILN_BUILD": str(folder / "build")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], *facts: str) -> None:
    assert done.returncode in (2, 4, 6), done.stderr
    assert "Traceback" not in done.stderr
    for fact in facts:
        assert fact in done.stderr


def elf(sections: int, names: bytes) -> bytes:
    """Return a program of so many sections, all named by the start of `names`."""
    table = SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0) + SECTION.pack(
        0, 3, 0, 0, HEADER.size, len(names), 0, 0, 1, 0
    )
    table += SECTION.pack(0, 1, 0, 0, 0, 0, 0, 0, 1, 0) * (sections - 2)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    fields = (
        ident,
        2,
        62,
        1,
        0,
        0,
        HEADER.size + len(names),
        0,
        HEADER.size,
        0,
        0,
        SECTION.size,
        sections,
        1,
    )
    return HEADER.pack(*fields) + names + table


def sparse_tarball() -> bytes:
    """Return a release whose header file is 2 GB of zeros, in 1 kB."""
    info = tarfile.TarInfo("p/include/node/a.h")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[483:495] = b"%011o\0" % (2**31 - 1)  # the real size
    raw[386:410] = b"%011o\0" % 0 + b"%011o\0" % 512  # the one piece that is stored
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw)
    return lzma.compress(bytes(raw) + b"x" * 512 + bytes(1024))


@pytest.mark.parametrize("command", ["inspect", "probes"])
def test_elf_file_with_65_000_long_section_names_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "node").write_bytes(elf(65_000, b"a" * 4000 + b"\0"))
    refused(run(tmp_path, command, "./node"), "65000 sections", str(limits.ELF_SECTIONS))


def test_elf_file_with_long_section_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node").write_bytes(elf(limits.ELF_SECTIONS, b"a" * 4000 + b"\0"))
    refused(run(tmp_path, "inspect", "./node"), "has no end")


def test_elf_file_with_a_huge_note_section_is_refused(tmp_path: Path) -> None:
    names = b"\0.note.stapsdt\0"
    size = 262 * 10**6
    start = HEADER.size + len(names)
    table = b"".join(
        [
            SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            SECTION.pack(0, 3, 0, 0, HEADER.size, len(names), 0, 0, 1, 0),
            SECTION.pack(1, 7, 0, 0, start + 3 * SECTION.size, size, 0, 0, 4, 0),
        ]
    )
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = HEADER.pack(ident, 2, 62, 1, 0, 0, start, 0, HEADER.size, 0, 0, SECTION.size, 3, 1)
    with (tmp_path / "node").open("wb") as file:
        file.write(header + names + table)
        file.truncate(start + len(table) + size)
    refused(run(tmp_path, "probes", "./node"), str(size), str(limits.ELF_NOTES))


def test_release_with_a_sparse_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "node.tar.xz").write_bytes(sparse_tarball())
    done = run(tmp_path, "graft", "v22.20.0", "--no-backpressure", "--no-probes", "--release=node.tar.xz")
    refused(done, "sparse")
    assert not [path for path in (tmp_path / "build").rglob("*") if path.suffix == ".h"]


def change(**values: object) -> Callable[[dict[str, object]], None]:
    return lambda data: data.update(values)


def repeat_trials(data: dict[str, object]) -> None:
    trials = data["trials"]
    assert isinstance(trials, list)
    data["trials"] = [{**trials[0], "number": number, "samples": []} for number in range(1, 8001)]


def lengthen_trial(data: dict[str, object]) -> None:
    trials = data["trials"]
    assert isinstance(trials, list)
    trials[0]["wall_ms"] = 1e308


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (repeat_trials, str(limits.TRIALS)),
        (lengthen_trial, "wall_ms"),
        (change(sample_interval_ms=1e400), "JSON"),
    ],
)
def test_results_with_impossible_values_are_refused(
    tmp_path: Path, damage: Callable[[dict[str, object]], None], fact: str
) -> None:
    data = json.loads(EXAMPLE.read_text())
    damage(data)
    (tmp_path / "results.json").write_text(json.dumps(data))
    refused(run(tmp_path, "report", "."), fact)


def test_results_of_100_megabytes_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "results.json").open("wb") as file:
        file.truncate(100 * 10**6)
    refused(run(tmp_path, "report", "."), "more than 67 MB")
