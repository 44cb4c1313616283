"""What git is set to do with line endings, asked of the real git with a configuration of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nodekiln.toolchain.machine_checks import check_autocrlf
from nodekiln.toolchain.model import Finding, Request, Severity
from nodekiln.toolchain.toolchain import Programs, check_machine


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose git reads one file of settings: .gitconfig in this HOME."""
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}


def set_up(environ: dict[str, str], text: str) -> None:
    Path(environ["HOME"], ".gitconfig").write_text(text)


def check(build_dir: Path, environ: dict[str, str]) -> list[Finding]:
    return list(check_autocrlf(build_dir, environ))


@pytest.mark.parametrize(
    ("value", "why"),
    [("true", "nodejs/node#41476"), ("Yes", "nodejs/node#41476"), ("input", "lose their carriage returns")],
)
def test_changed_line_endings_are_noted(
    value: str, why: str, environ: dict[str, str], tmp_path: Path
) -> None:
    set_up(environ, f"[core]\n\tautocrlf = {value}\n")

    (note,) = check(tmp_path, environ)

    assert note.severity is Severity.NOTE
    assert note.what.startswith(f"core.autocrlf is {value.lower()} ")
    assert why in note.why
    assert "No action" in note.remedy


@pytest.mark.parametrize(
    "text",
    ["", "[core]\n\tautocrlf = false\n", "[core]\n\tautocrlf =\n", "[core\n"],
    ids=["unset", "off", "empty", "broken file"],
)
def test_kept_line_endings_need_no_note(text: str, environ: dict[str, str], tmp_path: Path) -> None:
    set_up(environ, text)

    assert check(tmp_path, environ) == []


def test_setting_of_the_repository_around_the_build_folder_counts(
    environ: dict[str, str], tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    for arguments in (
        ["init", "--quiet", str(checkout)],
        ["-C", str(checkout), "config", "core.autocrlf", "true"],
    ):
        subprocess.run(["git", *arguments], env=environ, check=True)

    assert len(check(checkout / "build" / "not-there-yet", environ)) == 1
    assert check(tmp_path, environ) == []


def test_line_endings_without_git_are_not_checked(environ: dict[str, str], tmp_path: Path) -> None:
    set_up(environ, "[core]\n\tautocrlf = true\n")

    assert check(tmp_path, {**environ, "PATH": str(tmp_path)}) == []


def test_check_machine_reports_autocrlf(environ: dict[str, str], tmp_path: Path) -> None:
    set_up(environ, "[core]\n\tautocrlf = true\n")
    request = Request(
        tag=None,
        environ=environ,
        build_dir=tmp_path / "build",
        jobs=1,
        disk_needed=0,
        platform="linux",
        configure_args=(),
    )

    findings = check_machine(Programs(request)).findings

    assert [finding.subject for finding in findings if finding.severity is Severity.NOTE] == ["git"]
