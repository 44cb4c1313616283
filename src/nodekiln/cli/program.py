"""Runs the command line: ./inv in a checkout, `nodekiln` where it is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import Exit
from invoke.executor import Executor

import nodekiln
from nodekiln.cli import arguments, changing, command, inspection, making, measuring, upkeep, usage
from nodekiln.core.errors import KilnError, SourceError, UsageError
from nodekiln.core.privileges import become_caller

MODULES = (making, changing, measuring, inspection, upkeep)


def collect() -> Collection:
    """Return the tasks; those for developers only in a checkout."""
    tasks = Collection("nodekiln")
    in_checkout = command.is_checkout()
    for module in MODULES:
        for task in module.TASKS:
            if in_checkout or not task.only_in_checkout:
                tasks.add_task(task)
    return tasks


def main() -> None:
    """Run the words of the command line and exit."""
    _open_streams()
    words, _, more = _split(sys.argv[1:])
    try:
        try:
            become_caller(os.environ, command.is_usable)
            _run(words, is_split=more)
        finally:
            sys.stdout.flush()
    except Exit as end:
        sys.exit(end.code)
    except KilnError as error:
        _end(f"error: {error}".replace("./inv", command.called_as()), error.exit_code)
    except OSError as error:
        command.quiet(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _end(f"error: {error.filename or 'stdout'}: {error.strerror}.", SourceError.exit_code)


def _split(words: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Return the words before and after two dashes, and whether there are two dashes."""
    if "--" not in words:
        return list(words), [], False
    index = words.index("--")
    return list(words[:index]), list(words[index + 1 :]), True


def _run(words: Sequence[str], *, is_split: bool) -> None:
    tasks = collect()
    if words[:1] == ["--complete"]:
        sys.stdout.writelines(f"{word}\n" for word in usage.candidates(_split(sys.argv[1:])[1], tasks))
        return
    line = arguments.parse(words, tasks)
    names = [call.task for call in line.calls]
    if is_split and not {"trace", "bisect"} & set(names):
        raise UsageError("Words after -- are only for ./inv trace and ./inv bisect.")
    if (text := _information(line, tasks)) is not None:
        sys.stdout.write(text)
        return
    config = _config(line)
    Executor(tasks, config).execute(*[(call.task, call.options) for call in line.calls])


def _information(line: arguments.CommandLine, tasks: Collection) -> str | None:
    """Return what --help, --version and the like print; None if tasks are to be run."""
    options = line.options
    if "--version" in options:
        return f"nodekiln {nodekiln.__version__}\n"
    if "--print-completion-script" in options:
        return usage.completion_script(options["--print-completion-script"])
    if "--list" in options:
        if line.calls:
            raise UsageError("--list takes no task.")
        return usage.task_list(tasks, options.get("--list-format", ""))
    if line.calls and "--help" in options:
        return "\n".join(usage.task_help(call.task, tasks) for call in line.calls)
    return None if line.calls else usage.overview(tasks)


def _config(line: arguments.CommandLine) -> Config:
    """Return the configuration: /etc/invoke.yaml, ~/.invoke.yaml, the project's invoke.yaml, --config."""
    folder = command.project_folder()
    verbosity = 0 if "--quiet" in line.options else 2 if "--verbose" in line.options else 1
    overrides: dict[str, Any] = {"verbosity": verbosity}
    files = [folder / f"invoke.{suffix}" for suffix in ("yaml", "yml", "json", "py")]
    project = str(next((file for file in files if file.exists()), files[0]))
    runtime = line.options.get("--config") or os.environ.get("INVOKE_RUNTIME_CONFIG")
    if runtime and not Path(runtime).is_file():
        raise UsageError(f"{runtime} can't be read: no such file.")
    name = "~/.invoke.yaml or /etc/invoke.yaml"
    try:
        config = Config(overrides=overrides)
        name = project
        config.set_project_location(str(folder))
        config.load_project()
        if runtime:
            name = runtime
            config.set_runtime_path(Path(runtime))
            config.load_runtime()
    except Exception as error:  # YAML's errors, invoke's when it merges, AttributeError for a list, ...
        why = " ".join(str(error).split())
        raise UsageError(
            f"{name} can't be read: {why}.", remedy="It should hold names with values, in YAML."
        ) from None
    return config


def _open_streams() -> None:
    """Open streams that the caller closed (`>&-`) on /dev/null, before a file gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (open until we exit)


def _end(text: str, code: int) -> NoReturn:
    from nodekiln.core.reporting import escape_unprintable

    try:
        sys.stderr.write(escape_unprintable(text, keep="\n\t") + "\n")
        sys.stderr.flush()
    except OSError:  # stderr can't be written: only the exit code is left
        command.quiet(sys.stderr)
    sys.exit(code)
