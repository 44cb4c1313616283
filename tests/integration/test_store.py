"""Processes that publish and remove binaries at the same time, and what those leave that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nodekiln.binaries.freshness import Wanted, differences
from nodekiln.binaries.manifest import Manifest
from nodekiln.binaries.store import Store
from nodekiln.core.errors import CheckError, UsageError
from nodekiln.core.files import hash_file
from nodekiln.core.settings import Workspace

SOURCE = Path(__file__).resolve().parents[2] / "src"
NAME = "v20.1.0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Workspace(tmp_path / "build"))


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    file = tmp_path / "node"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def _manifest(binary: Path, name: str = NAME) -> Manifest:
    return Manifest(
        name=name,
        route="build",
        tag="v20.1.0",
        changes=(),
        repository="",
        commit="c",
        plan="p",
        planned=(),
        configure_args=(),
        config={},
        toolchain={"identity": "gcc", "environment": "", "linker": "lld"},
        machine={},
        seconds={},
        steps=0,
        sha256=hash_file(binary),
        size=binary.stat().st_size,
        probes_seen=None,
        self_check=None,
        made="",
        made_by="",
    )


def _publish(store: Store, binary: Path, name: str = NAME) -> Path:
    return store.publish(binary, _manifest(binary, name), patch=b"", fill=_fill)


def _fill(folder: Path) -> None:
    """Headers enough for a removal to take its time."""
    for number in range(20):
        (folder / f"{number}.h").touch()


def _names(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def _run(store: Store, binary: Path, program: str) -> subprocess.Popen[str]:
    """A process of its own that has `store` and `binary`."""
    text = f"""
from pathlib import Path
from nodekiln.binaries.store import Store
from nodekiln.core.settings import Workspace
from tests.integration.test_store import _publish
store, binary = Store(Workspace(Path({str(store.workspace.root)!r}))), Path({str(binary)!r})
{textwrap.dedent(program)}
"""
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{SOURCE.parent}"}
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _staging_of_another(store: Store, binary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    child = _run(store, binary, "with store.staging() as folder: print(folder, flush=True), input()")
    with child:
        assert child.stdout is not None
        try:
            yield child, Path(child.stdout.readline().strip())
        finally:
            child.kill()


# Together


@pytest.mark.slow
def test_processes_that_publish_one_name_each_succeed(store: Store, binary: Path) -> None:
    publishing = "for _ in range(25): _publish(store, binary)"
    children = [_run(store, binary, publishing) for _ in range(3)]
    ends = [(child.communicate(timeout=60)[1], child.returncode) for child in children]
    assert ends == [("", 0)] * 3
    assert _names(store) == [NAME]


@pytest.mark.slow
def test_binary_published_again_and_again_always_exists(store: Store, binary: Path) -> None:
    _publish(store, binary)
    child = _run(store, binary, "for _ in range(25): _publish(store, binary)")
    found = []
    while child.poll() is None:
        found.append(store.find(NAME))
    assert child.communicate()[1] == ""
    assert None not in found


@pytest.mark.slow
def test_publishing_and_removing_get_on(store: Store, binary: Path) -> None:
    publishing = _run(store, binary, "for _ in range(25): _publish(store, binary)")
    removing = [_run(store, binary, "for _ in range(100): store.remove('v20.1.0')") for _ in range(2)]
    ends = [child.communicate(timeout=60)[1] for child in (publishing, *removing)]
    assert ends == ["", "", ""]
    assert _names(store) in ([NAME], [])


def test_removing_a_missing_binary_succeeds(store: Store, binary: Path) -> None:
    _publish(store, binary)
    store.remove(NAME)
    store.remove(NAME)
    assert _names(store) == []


def test_removal_takes_the_former_binary_too(store: Store, binary: Path) -> None:
    published = _publish(store, binary)
    shutil.copytree(published.parent, store.folder / f".former-{NAME}")
    store.remove(NAME)
    assert _names(store) == []


def test_only_names_of_binaries_are_removed(store: Store, binary: Path) -> None:
    with pytest.raises(UsageError):
        store.remove("../v20.1.0")


# Stagings


def test_staging_that_is_worked_in_stays(store: Store, binary: Path) -> None:
    with _staging_of_another(store, binary) as (_, folder):
        _publish(store, binary)
        store.sweep()
        assert store.leftovers() == ()
        assert _names(store) == [folder.name, NAME]


def test_next_run_removes_the_staging_of_a_killed_one(store: Store, binary: Path) -> None:
    with _staging_of_another(store, binary) as (child, folder):
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert store.leftovers() == (folder,)
        _publish(store, binary)
    assert _names(store) == [NAME]


def test_staging_of_an_older_nodekiln_is_removed_after_an_hour(store: Store) -> None:
    for name, age in ((".staging-old", 7200), (".staging-young", 60)):
        (store.folder / name).mkdir(parents=True)
        os.utime(store.folder / name, (time.time() - age,) * 2)
    store.sweep()
    assert _names(store) == [".staging-young"]


def test_link_is_no_staging(store: Store, tmp_path: Path) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / ".staging-link").symlink_to(tmp_path)
    store.sweep()
    assert _names(store) == [".staging-link"]


def test_binary_that_changes_while_it_is_published_is_not(store: Store, binary: Path) -> None:
    _publish(store, binary)
    with pytest.raises(CheckError):
        store.publish(binary, replace(_manifest(binary), sha256="other"), patch=b"", fill=_fill)
    assert _names(store) == [NAME]


def test_published_folder_is_open_to_all_and_holds_nothing_of_its_staging(store: Store, binary: Path) -> None:
    folder = _publish(store, binary).parent
    assert folder.stat().st_mode & 0o777 == 0o755
    names = {path.name for path in folder.iterdir() if path.suffix != ".h"}
    assert names == {"manifest.json", "node", "patch.diff"}


# Whether it still is what it was


WANTED = Wanted(commit="c", plan="p", configure_args=(), compiler="gcc", environment="", linker="lld")


def test_binary_that_cannot_be_executed_is_no_longer_the_one(store: Store, binary: Path) -> None:
    published = store.get(_publish(store, binary).parent.name)
    assert differences(published, WANTED) == ()
    published.binary.chmod(0o644)
    assert differences(published, WANTED) == ("it can't be executed",)


@pytest.mark.parametrize("text", [b"\xff", b"[" * 100_000, b'{"schema": 1, "toolchain": null}'])
def test_one_damaged_manifest_does_not_hide_the_others(store: Store, binary: Path, text: bytes) -> None:
    damaged, _ = _publish(store, binary), _publish(store, binary, "v20.1.0-usdt")
    (damaged.parent / "manifest.json").write_bytes(text)
    first, second = store.list()
    assert (first.trouble or "").startswith("manifest.json is damaged")
    assert second.trouble is None
    assert differences(first, WANTED) == (first.trouble,)
