"""action.yml: its shell verifies changes by path, and takes no input for a command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from invoke.vendor import yaml

from tests.integration.conftest import CHECKOUT, GOOD
from tests.integration.test_change_tasks import make

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

ACTION: dict[str, Any] = yaml.safe_load((CHECKOUT / "action.yml").read_text())  # type: ignore[no-untyped-call]


def run(kiln: Kiln, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the action's last step as a runner does, with ./inv on the Python of the tests."""
    folder = kiln.folder / "action"
    folder.mkdir(exist_ok=True)
    program = folder / "inv"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {CHECKOUT}/src/nodekiln/__main__.py "$@"\n')
    program.chmod(0o755)
    defaults = {name: facts.get("default", "") for name, facts in ACTION["inputs"].items()}
    values = {**defaults, "repository": str(kiln.repository), **inputs}
    step = ACTION["runs"]["steps"][-1]
    environment = kiln.environment({"GITHUB_ACTION_PATH": str(folder), "PATH": os.environ["PATH"]})
    for name, text in step["env"].items():
        expression = text.removeprefix("${{ ").removesuffix(" }}")
        environment[name] = values.get(expression.removeprefix("inputs."), str(kiln.build))
    # The options that GitHub gives for `shell: bash`.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        command, env=environment, cwd=kiln.here, capture_output=True, text=True, timeout=60, check=False
    )


def test_action_verifies_changes_of_the_repository(kiln: Kiln) -> None:
    make(kiln, "./own")
    make(kiln, "./patches/other")
    fits = run(kiln, change="own", tags=GOOD)
    assert (fits.returncode, "1 clean" in fits.stdout) == (0, True), fits.stderr
    failed = run(kiln, change="patches/other", tags="v20.2.2")
    assert failed.returncode == 4, failed.stderr
    assert "::error file=patches/other/0001-declare-with-let.patch," in failed.stdout


def test_action_takes_several_changes(kiln: Kiln) -> None:
    make(kiln, "./first")
    make(kiln, "./second")
    done = run(kiln, change="first\nsecond", tags=GOOD)
    assert (done.returncode, "second and first" in done.stdout) == (4, True)


@pytest.mark.parametrize("name", ["change", "tags", "depth", "repository"])
def test_input_with_shell_syntax_runs_nothing(kiln: Kiln, name: str) -> None:
    make(kiln, "./own")
    done = run(kiln, **{"change": "own", "tags": GOOD, name: '"; touch hit; $(touch hit) `touch hit` *'})
    assert (done.returncode in (2, 6), (kiln.here / "hit").exists()) == (True, False), done.stdout


def test_action_runs_nothing_else_of_its_own() -> None:
    assert [step.get("uses", "run").partition("@")[0] for step in ACTION["runs"]["steps"]] == [
        "actions/setup-python",
        "actions/cache",
        "run",
    ]
