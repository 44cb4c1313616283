"""Every command in README and docs exists as written: task, options, and number of words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodekiln.cli import arguments, usage
from nodekiln.cli.program import collect
from tests.documents import CHECKOUT, DOCUMENTS, REFERENCE, Command, commands
from tests.releases import COUNTED, UNTRACED, Row, rows

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

COMMANDS = commands()
_RUN = ("--help", "--list", "--version", "list", "doctor")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def test_documents_contain_commands() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command_in_a_document_parses(command: Command) -> None:
    words = command.words[: command.words.index("--")] if "--" in command.words else command.words
    line = arguments.parse(words, collect())
    assert line.calls or line.options or not words


@pytest.mark.parametrize("name", sorted(collect().task_names))
def test_reference_lists_every_option_of_a_task(name: str) -> None:
    context = next(context for context in collect().to_contexts() if context.name == name)
    _, found, section = REFERENCE.read_text().partition(f"### {name}\n")
    assert found, f"docs/reference.md lacks {name}: run .venv/bin/python tests/documents.py"
    section = section.partition("\n### ")[0]
    missing = [
        option for option, _ in usage.options_of(collect()[name], context) if f"`{option}`" not in section
    ]
    assert missing == [], "run .venv/bin/python tests/documents.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_between_documents_lead_to_files(document: Path) -> None:
    targets = [match[1] for match in _LINK.finditer(document.read_text())]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_substituted_paths_are_quoted(document: Path) -> None:
    text = document.read_text()
    assert len(re.findall(r"\$\(\./inv path", text)) == len(re.findall(r'"\$\(\./inv path [^)]*\)"', text))


def test_table_of_releases_is_sorted_and_has_no_failed_path() -> None:
    versions = [tuple(map(int, row.version.split("."))) for row in rows()]
    assert versions == sorted(set(versions))
    assert {version[0] for version in versions} >= {18, 20, 22, 24, 25, 26}
    for row in rows():
        free, _, tried = row.paths.partition(" of ")
        assert free == tried, row


def test_row_of_a_release_agrees_whether_or_not_its_probes_could_be_traced() -> None:
    row = Row("22.20.0", "23 of 23", "", COUNTED)
    assert row.agrees(Row("22.20.0", "23 of 23", "", UNTRACED))
    assert not row.agrees(Row("22.20.0", "23 of 23", "", "refused: inlined"))
    assert not row.agrees(Row("22.20.0", "22 of 23", "", COUNTED))


def test_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.slow
def test_commands_of_readme_run_as_written_on_the_miniature_node(kiln: Kiln) -> None:
    """Those that start a build, a plan or a look, with the miniature's tag in place of real ones."""
    ran = []
    for command in COMMANDS:
        if command.document != "README.md" or not command.words:
            continue
        if command.words[0] in ("build", "doctor", "patch", "list"):
            words = [re.sub(r"^v22\.20\.0|^22$", "v20.1.0", word) for word in command.words]
            if words[0] == "build" or words[0] == "doctor":
                words.append("--no-probes")  # needs sys/sdt.h and a real link
            done = kiln.run(*words)
            assert done.code == 0, (command, done.stderr)
            ran.append(words[0])
    assert {"build", "doctor", "patch", "list"} <= {*ran}
