"""Reads the commands in the documents. Run as a program, it writes the options in docs/reference.md."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodekiln.cli import usage
from nodekiln.cli.program import collect

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = CHECKOUT / "docs" / "reference.md"
DOCUMENTS = (
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((CHECKOUT / "docs").glob("*.md")),
)
_MARKER = "<!-- The rest is written by `.venv/bin/python tests/documents.py`. -->\n"
_INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )?\./inv[^`]*|nodekiln (?:graft|build)[^`]*)`")
_SUBSTITUTED = re.compile(r"\$\((\./inv [^)]*)\)")


@dataclass(frozen=True)
class Command:
    """One command of ours in a document, without the program's name."""

    document: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    """Return every command that the documents show, in code blocks and in the text."""
    return [command for document in DOCUMENTS for command in _commands(document)]


def _commands(document: Path) -> Iterator[Command]:
    fenced = False
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        texts = _SUBSTITUTED.findall(line) + _INLINE.findall(line)
        if (fenced or line.startswith("    ")) and (text := _shell_line(line)):
            texts.append(text)
        for text in texts:
            if (words := _words(text)) is not None:
                yield Command(document.name, number, words)


def _shell_line(line: str) -> str:
    """Return a line of a code block if it begins with our program."""
    text = line.strip().removeprefix("$ ").removeprefix("sudo -E ")
    return text if re.match(r"([A-Z_]+=\S+ )?(\./inv|nodekiln)( |$)", text) else ""


def _words(text: str) -> tuple[str, ...] | None:
    """Return the words of a command up to a pipe or the like; None for a pattern such as `./inv TASK`."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|;&<>"):
            break
        words.append(word)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    is_pattern = any(word in ("TASK", "...") or word.startswith("[") for word in words)
    return None if is_pattern else tuple(words[1:])


def options() -> str:
    """Return the tasks and options for docs/reference.md."""
    tasks = collect()
    contexts = {str(context.name): context for context in collect().to_contexts()}
    lines = []
    for title, names in usage.GROUPS.items():
        lines += [f"## {title}", ""]
        for name in names:
            task = tasks[name]
            lines += [f"### {name}", "", f"    ./inv {name}{usage.arguments_of(task)} [options]", ""]
            lines += [inspect.getdoc(task) or "", ""]
            rows = usage.options_of(task, contexts[name])
            if rows:
                lines += ["| option | meaning |", "|---|---|"]
                lines += [f"| `{option}` | {text} |" for option, text in rows]
                lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    head, marker, _ = REFERENCE.read_text().partition(_MARKER)
    REFERENCE.write_text(head + marker + "\n" + options())
