"""Caches and farms on a part of v20.19.2: a remote store fills an empty cache, daemons compile for us.

Only some small libraries of Node's are compiled: all of V8 takes over an hour without a cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nodekiln.core.edit import Read
from nodekiln.core.process import child_environment
from nodekiln.core.recipe import Tag
from nodekiln.core.settings import read_configure_file
from nodekiln.toolchain import farms
from nodekiln.toolchain.launchers import Hits, counting_hits
from nodekiln.toolchain.model import Request, ToolOptions
from nodekiln.toolchain.toolchain import Programs, Toolchain, check_machine, detect

_ENVIRONMENT = dict(os.environ)
_TAG = "v20.19.2"
_TARGETS = ("deps/uvwasi/libuvwasi.a", "deps/histogram/libhistogram.a", "deps/ada/libada.a")
_TIMEOUT = 30.0
"""Seconds for a daemon to listen; it takes a tenth of a second."""

pytestmark = pytest.mark.build


@dataclass(frozen=True)
class Part:
    """The result of a build of the targets: hashes of objects by path, and the hits of the cache."""

    objects: Mapping[str, str]
    hits: Hits | None


@dataclass(frozen=True)
class Tree:
    """A configured tree of the tag at a path of its own."""

    source: Path
    request: Request
    toolchain: Toolchain

    def compile(self, **variables: str) -> Part:
        """Recompile the targets, with as many jobs as the farm has."""
        for former in (self.source / "out/Release/obj").rglob("*.[oa]"):
            former.unlink()
        asked = replace(self.request, environ={**self.request.environ, **variables})
        toolchain = detect(Programs(asked), reader(self.source))
        slots = farms.slots(toolchain.launcher, toolchain.build_env) or 1
        targets = [f"obj/{target}" for target in _TARGETS]
        argv = [toolchain.build_program, "-C", "out/Release", "-j", str(slots), *targets]
        hits: list[Hits] = []
        with counting_hits(
            toolchain.launcher, toolchain.build_env, self.source / "stats.log", hits.append
        ) as env:
            done = subprocess.run(
                argv, cwd=self.source, env=dict(env), capture_output=True, text=True, check=False
            )
        assert done.returncode == 0, done.stdout + done.stderr
        out = self.source / "out/Release"
        digests = {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.glob("obj/**/*.o"))
        }
        return Part(digests, hits[0] if hits else None)


def reader(source: Path) -> Read:
    """Return a function that reads the files of a tree."""

    def read(path: str) -> bytes | None:
        place = source / path
        return place.read_bytes() if place.is_file() else None

    return read


Plant = Callable[..., Tree]


@pytest.fixture
def plant(tmp_path: Path, node_repository: Path) -> Plant:
    """Make a tree `name`, configured for a launcher, in an environment without settings for caches."""

    def made(name: str, launcher: str, **variables: str) -> Tree:
        source = tmp_path / name / "source"
        source.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "--git-dir", str(node_repository), "archive", _TAG], capture_output=True, check=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
        foreign = ("CCACHE_", "SCCACHE_", "DISTCC_", "ICECC", "NODEKILN_")
        environ = {name: value for name, value in _ENVIRONMENT.items() if not name.startswith(foreign)}
        environ = child_environment(environ, venv=Path(sys.prefix))
        named = _ENVIRONMENT.get("NODEKILN_CONFIGURE_FILE")
        request = Request(
            tag=Tag.parse(_TAG),
            environ={**environ, "CCACHE_DIR": str(tmp_path / "cache"), **variables},
            build_dir=tmp_path / name,
            jobs=1,
            disk_needed=0,
            platform=sys.platform,
            configure_args=read_configure_file(Path(named), "NODEKILN_CONFIGURE_FILE") if named else (),
            tools=ToolOptions(launcher=launcher, linker="default"),
        )
        tree = Tree(source, request, detect(Programs(request), reader(source)))
        argv = ["./configure", "--ninja", *request.configure_args]
        env = dict(tree.toolchain.configure_env)
        subprocess.run(argv, cwd=source, env=env, check=True, capture_output=True)
        return tree

    return made


@contextmanager
def serving(argv: Sequence[str], port: int, folder: Path, log: Path) -> Iterator[None]:
    """A daemon that listens on `port` of this machine, ended again."""
    with log.open("wb") as file:
        child = subprocess.Popen(argv, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert child.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait(_TIMEOUT)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The address of an empty redis."""
    port, folder = free_port(), tmp_path / "redis"
    folder.mkdir()
    argv = [needed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with serving(argv, port, folder, folder / "log"):
        yield f"redis://127.0.0.1:{port}"


def needed(program: str) -> str:
    """Its path; skips aloud where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on PATH")
    return found


def test_remote_store_filled_by_one_tree_serves_another_tree(
    plant: Plant, redis: str, tmp_path: Path
) -> None:
    needed("ccache")
    store = {"CCACHE_REMOTE_STORAGE": redis}
    first = plant("first", "ccache", **store, CCACHE_DIR=str(tmp_path / "cache-1")).compile()
    second = plant("second", "ccache", **store, CCACHE_DIR=str(tmp_path / "cache-2")).compile()
    count = len(first.objects)
    assert count > 10
    assert first.hits == Hits(0, count)
    assert second.hits == Hits(count, 0, remote=count)
    assert second.objects == first.objects


def test_distcc_daemons_compile_cache_misses(plant: Plant, tmp_path: Path) -> None:
    needed("ccache")
    needed("distcc")
    server = needed("distccd")
    ports, logs = (free_port(), free_port()), (tmp_path / "one.log", tmp_path / "two.log")
    options = (
        "--daemon",
        "--no-detach",
        "--listen=127.0.0.1",
        "--allow=127.0.0.1/32",
        "--jobs=2",
        "--log-stderr",
    )
    one, two = ([server, *options, f"--port={port}"] for port in ports)
    hosts = " ".join(f"127.0.0.1:{port}/2" for port in ports)
    (tmp_path / "distcc").mkdir()
    with serving(one, ports[0], Path("/"), logs[0]), serving(two, ports[1], Path("/"), logs[1]):
        # Without the local fallback a refused job would fail, and not be compiled here unseen.
        farm = {"DISTCC_HOSTS": hosts, "DISTCC_FALLBACK": "0", "DISTCC_DIR": str(tmp_path / "distcc")}
        tree = plant("tree", "distcc", **farm)
        assert str(tree.toolchain.launcher) == "distcc behind ccache"
        assert farms.slots(tree.toolchain.launcher, tree.toolchain.build_env) == 4
        assert [error.what for error in check_machine(Programs(tree.request)).errors] == []
        before = [log.read_text().count("COMPILE_OK") for log in logs]
        remote = tree.compile(CCACHE_DIR=str(tmp_path / "remote"))
        compiled = [
            log.read_text().count("COMPILE_OK") - count for log, count in zip(logs, before, strict=True)
        ]
    assert all(compiled)
    assert sum(compiled) == len(remote.objects)
    local = replace(
        tree,
        request=replace(tree.request, tools=ToolOptions(launcher="ccache", linker="default")),
    )
    assert local.compile(CCACHE_DIR=str(tmp_path / "local")).objects == remote.objects


def test_sccache_filled_by_one_tree_serves_another_tree(plant: Plant, tmp_path: Path) -> None:
    """On disk: Debian's sccache is compiled without remote stores."""
    sccache = needed("sccache")
    # A server of its own: one that runs for somebody else stays untouched.
    server = {"SCCACHE_SERVER_PORT": str(free_port()), "SCCACHE_DIR": str(tmp_path / "sccache")}
    try:
        first = plant("first", "sccache", **server).compile()
        second = plant("second", "sccache", **server).compile()
    finally:
        env = {**_ENVIRONMENT, **server}
        subprocess.run([sccache, "--stop-server"], env=env, capture_output=True, check=False)
    count = len(first.objects)
    assert first.hits == Hits(0, count)
    assert second.hits == Hits(count, 0)
    assert second.objects == first.objects
