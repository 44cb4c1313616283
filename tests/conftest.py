"""Fixtures for all tests: no test sees the caller's git settings or NODEKILN_* variables by accident."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A shell starts background jobs with interrupts ignored, and nohup ignores hangups. Children inherit that,
# and tests that interrupt something would wait forever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_REAL_REPOSITORY = os.environ.get("NODEKILN_REPOSITORY")


@pytest.fixture(autouse=True)
def _sealed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("GIT_", "NODEKILN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "somebody@localhost")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "somebody")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "somebody@localhost")


@pytest.fixture(scope="session")
def node_repository() -> Path:
    """A git repository with real Node trees as tags; tests that need it are skipped aloud without one."""
    if _REAL_REPOSITORY is None or not Path(_REAL_REPOSITORY).is_dir():
        pytest.skip("NODEKILN_REPOSITORY names no folder with real Node trees")
    return Path(_REAL_REPOSITORY)
