"""What a user can type: the overview, the options of a task, and what <TAB> offers."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext

from nodekiln.cli.arguments import GLOBAL_OPTIONS, SHORT
from nodekiln.cli.command import called_as, change_names, project_folder
from nodekiln.core.errors import KilnError, UsageError

GROUPS = {
    "Make a binary": ("graft", "build", "patch", "import-tarball"),
    "Measure": ("compare", "report", "trace", "bisect", "timings"),
    "Change": ("change list", "change show", "change check", "change new", "change refresh"),
    "Look": ("list", "path", "inspect", "probes", "doctor", "verify"),
    "Maintain": ("clean", "test", "check"),
}
_FIRST = (
    ("graft v22.20.0 --no-backpressure", "a Node without backpressure, in seconds"),
    ("compare --size 64M", "what that does to memory and time"),
    ("build v22.20.0", "the release from source, with probes"),
)
_COMPLETION = Path(__file__).parent / "shells"
SHELLS = ("bash", "fish", "zsh")
_TAKES_BINARY = ("path", "probes", "timings", "compare", "inspect")
_TAKES_CHANGE = ("change show", "change check", "change refresh")
_BINARY_OPTIONS = ("--binary", "--binaries")


def overview(tasks: Collection) -> str:
    """Return the tasks with a line each, three commands to begin with, and the program's own options."""
    program = called_as()
    known = {name: _first_line(tasks[name]) for name in tasks.task_names}
    lines = [f"Usage: {program} TASK [options]", "", "To begin with:", ""]
    width = max(len(command) for command, _ in _FIRST) + len(program) + 1
    lines += [f"  {f'{program} {command}':{width}}  {text}" for command, text in _FIRST]
    for title, names in GROUPS.items():
        here = [name for name in names if name in known]
        if here:
            lines += ["", f"{title}:", *_columns((name, known.pop(name)) for name in here)]
    if known:
        lines += ["", "Other tasks:", *_columns(sorted(known.items()))]
    lines += ["", "Options:", *_columns(_global_options())]
    lines += ["", f"{program} TASK --help shows the options of a task.", ""]
    return "\n".join(lines)


def task_help(name: str, tasks: Collection) -> str:
    """Return a task's usage, what it does, and its options; raise UsageError for an unknown task."""
    context = next((context for context in tasks.to_contexts() if context.name == name), None)
    if context is None:
        raise UsageError(f"There is no task {name!r}.", remedy="./inv --list shows the tasks.")
    task = tasks[name]
    lines = [f"Usage: {called_as()} {name}{arguments_of(task)} [options]", ""]
    lines += [*(inspect.getdoc(task) or "").replace("./inv", called_as()).splitlines(), ""]
    options = options_of(task, context)
    if options:
        lines += ["Options:", *_columns(options), ""]
    return "\n".join(lines)


def arguments_of(task: Any) -> str:
    """Return the words that a task takes, as " TAG [BINARIES ...]"."""
    words = "".join(f" {_metavar(word)}" for word in task.positional_words)
    return words + (f" [{_metavar(task.variadic_word)} ...]" if task.variadic_word else "")


def options_of(task: Any, context: ParserContext) -> list[tuple[str, str]]:
    """Return the options of a task as they are typed, each with its meaning."""
    return [
        (_spelled(argument), task.option_texts.get(_dashed(argument), ""))
        for argument in _arguments(context)
        if not argument.positional
    ]


def task_list(tasks: Collection, form: str) -> str:
    """Return the tasks, one per line or as JSON; raise UsageError for another format."""
    rows = [(name, _first_line(tasks[name])) for name in sorted(tasks.task_names)]
    if form == "json":
        return json.dumps([{"name": name, "help": text} for name, text in rows], indent=2) + "\n"
    if form not in ("", "flat", "nested"):
        raise UsageError(f"--list-format takes flat or json, not {form!r}.")
    return "\n".join(["Available tasks:", "", *_columns(rows), ""])


def completion_script(shell: str) -> str:
    """Return the script that makes a shell ask this program for completions."""
    if shell not in SHELLS:
        raise UsageError(f"--print-completion-script takes {', '.join(SHELLS)}, not {shell!r}.")
    return (_COMPLETION / f"{shell}.completion").read_text()


def candidates(words: Sequence[str], tasks: Collection) -> list[str]:
    """Return the words that may complete the last of `words`, which is "" after a space.

    An empty list leaves it to the shell, which offers files.
    """
    *before, word = words or [""]
    name, family = _task_of(before, tasks)
    if name is None and not word.startswith("-"):
        if family:
            return _matching(word, family)
        return _matching(word, sorted({each.partition(" ")[0] for each in tasks.task_names}))
    if name is None:
        return _matching(word, [*GLOBAL_OPTIONS])
    context = next(context for context in tasks.to_contexts() if context.name == name)
    if before[-1] in _BINARY_OPTIONS:
        return _binaries_after_commas(word)
    if (found := _choices(before[-1])) is not None:
        return _matching(word, found)
    if word.startswith("-"):
        hidden = {"--backpressure", "--probes", "--binaries"} & {*context.inverse_flags.values()}
        options = [flag for flag in (*context.flags, *context.inverse_flags) if flag not in hidden]
        return _matching(word, [*options, "--help", "--quiet", "--verbose"])
    flag = context.flags.get(before[-1])
    if flag is not None and flag.takes_value:
        return []
    if name in _TAKES_CHANGE:
        return _matching(word, change_names())
    if name in _TAKES_BINARY:
        return _matching(word, _binaries())
    if name == "trace" and before[-1] == name:
        from nodekiln.tracing.tracer import script_names

        return _matching(word, script_names())
    return []


def _task_of(words: Sequence[str], tasks: Collection) -> tuple[str | None, list[str]]:
    """Return the task that the words name; None with the second words if only the first of two is there."""
    for at, word in enumerate(words):
        family = sorted(name.partition(" ")[2] for name in tasks.task_names if name.startswith(f"{word} "))
        if family and at + 1 < len(words):
            return f"{word} {words[at + 1]}" if words[at + 1] in family else None, family
        if family or word in tasks.task_names:
            return None if family else word, family
    return None, []


def _choices(option: str) -> list[str] | None:
    if option == "--change":
        return change_names()
    return {
        "--format": ["text", "json"],
        "--launcher": ["ccache", "sccache", "distcc", "icecc", "none"],
        "--linker": ["mold", "lld", "bfd", "default"],
        "--depth": ["plan", "compile", "build"],
        "--print-completion-script": [*SHELLS],
    }.get(option)


def _matching(word: str, found: Iterable[str]) -> list[str]:
    return [each for each in found if each.startswith(word)]


def _binaries_after_commas(word: str) -> list[str]:
    before, comma, last = word.rpartition(",")
    return [f"{before}{comma}{name}" for name in _matching(last, _binaries())]


def _binaries() -> list[str]:
    from nodekiln.core.settings import Settings

    root = project_folder()
    try:
        settings = Settings.read(environ=os.environ, config=None, root=root, cwd=Path.cwd(), venv=None)
        return sorted(path.name for path in settings.workspace.binaries.iterdir() if path.name[0] != ".")
    except (KilnError, OSError):
        return []


def _arguments(context: ParserContext) -> list[Argument]:
    return sorted(dict.fromkeys(context.args.values()), key=lambda argument: str(argument.name))


def _dashed(argument: Argument) -> str:
    return str(argument.name).replace("_", "-")


def _spelled(argument: Argument) -> str:
    name = _dashed(argument)
    if argument.kind is bool:
        return f"--no-{name}" if argument.default else f"--{name}"
    return f"--{name}={_metavar(name)}"


def _metavar(name: str) -> str:
    return name.upper().replace("_", "-").rpartition("-")[2]


def _first_line(task: Any) -> str:
    lines = (inspect.getdoc(task) or "").splitlines()
    return lines[0].removesuffix(".").replace("./inv", called_as()) if lines else ""


def _global_options() -> list[tuple[str, str]]:
    letters = {name: letter for letter, name in SHORT.items()}
    rows = []
    for name, text in GLOBAL_OPTIONS.items():
        if name != "--list-format":
            spelled = f"{letters[name]}, {name}" if name in letters else f"    {name}"
            rows.append((spelled, text))
    return rows


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return rows of two columns, the second wrapped to the terminal's width."""
    rows = list(rows)
    left = max(len(name) for name, _ in rows) + 4
    width = max(shutil.get_terminal_size().columns - left, 30)
    lines = []
    for name, text in rows:
        first, *more = textwrap.wrap(text, width) or [""]
        lines.append(f"  {name:{left - 4}}  {first}".rstrip())
        lines += [" " * left + line for line in more]
    return lines
