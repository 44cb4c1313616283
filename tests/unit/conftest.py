"""Unit tests start no process: what needs one is an integration test."""

from __future__ import annotations

import os
import subprocess
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError(f"a unit test started a process: {args}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("system", "execv", "execve", "posix_spawn", "fork"):
        monkeypatch.setattr(os, name, refuse)
