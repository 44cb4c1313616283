"""Content that goes through git fast-import into real repositories, and git ending before its time."""

from __future__ import annotations

import time
from itertools import repeat
from pathlib import Path

import psutil
import pytest

from nodekiln.source.git_runner import GitError, GitRunner, fast_import

REF = "refs/heads/main"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository.git"
    folder.mkdir()
    GitRunner(folder).run("init", "--bare", "--quiet", "--template=")
    return folder


def test_blobs_and_a_commit_end_in_one_pack(repository: Path) -> None:
    with fast_import(repository) as stream:
        stream.blob(1, 6, [b"hel", b"lo\n"])
        stream.commit(REF, "Words\n", [('odd "name"\\', "100755", 1)])

    git = GitRunner(repository)
    assert git.run("cat-file", "blob", f'{REF}:odd "name"\\') == b"hello\n"
    assert git.run("ls-tree", "--format=%(objectmode)", REF) == b"100755\n"
    assert len(list((repository / "objects" / "pack").glob("*.pack"))) == 1


def test_failure_at_the_end_reports_why(repository: Path) -> None:
    told = pytest.raises(GitError, match=r"fast-import: fatal: mark :7 not declared$")

    with told, fast_import(repository) as stream:
        stream.commit(REF, "Words\n", [("a", "100644", 7)])


def test_git_that_ends_early_stops_the_writing(tmp_path: Path) -> None:
    endless = repeat(bytes(2**16))
    told = pytest.raises(GitError, match="fast-import: fatal: not a git repository")

    with told, fast_import(tmp_path / "absent") as stream:
        stream.blob(1, 2**40, endless)


def test_error_of_the_writer_leaves_no_commit_and_no_git(repository: Path) -> None:
    def running() -> list[object]:
        everything = psutil.process_iter(["cmdline"])
        return [process for process in everything if str(repository) in (process.info["cmdline"] or ())]

    with pytest.raises(KeyError), fast_import(repository) as stream:  # noqa: PT012 (the block is looked into)
        stream.commit(REF, "Words\n", [])
        until = time.monotonic() + 10  # a process that is just being started has no command line yet
        while len(running()) != 1:
            assert time.monotonic() < until
            time.sleep(0.02)
        raise KeyError

    assert running() == []
    assert GitRunner(repository).run("for-each-ref") == b""
