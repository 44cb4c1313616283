"""CI runs actions at fixed commits, and leaves no token in the checkout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_of_a_workflow_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_checkout_of_a_workflow_keeps_no_credentials(path: Path) -> None:
    text = path.read_text()
    kept = re.findall(r"actions/checkout@.+\n\s+with:\n\s+persist-credentials: false\n", text)
    assert len(kept) == text.count("actions/checkout@")
