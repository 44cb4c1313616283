"""Parses the command line into calls of tasks.

invoke's own parser is not used: it has no optional positional arguments, offers options that no task honours
(--dry, --pty, a sudo password), and exits with 1 for wrong usage. Tasks and their options are invoke's.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from invoke.collection import Collection
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext
from invoke.tasks import Task

from nodekiln.core.errors import UsageError

GLOBAL_OPTIONS: Mapping[str, str] = {
    "--help": "show the tasks, or with a task its options",
    "--quiet": "print warnings, errors and results only",
    "--verbose": "print details",
    "--version": "print the version",
    "--list": "show the tasks, one per line (--list-format=json for scripts)",
    "--list-format": "flat or json",
    "--config": "file with settings as in invoke.yaml",
    "--print-completion-script": "print the completion script for bash, zsh or fish",
}
SHORT = {
    "-h": "--help",
    "-q": "--quiet",
    "-v": "--verbose",
    "-V": "--version",
    "-l": "--list",
    "-F": "--list-format",
    "-f": "--config",
}
_TAKE_VALUES = ("--list-format", "--config", "--print-completion-script")
_UNSUPPORTED = {
    "--dry": "Use the --dry-run of build, graft, compare and clean.",
    "-R": "Use the --dry-run of build, graft, compare and clean.",
}
_MAY_BE_EMPTY = ("--configure-args",)


@dataclass
class Call:
    """One task, and the options that were given for it, as its function takes them."""

    task: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class CommandLine:
    """A parsed command line: the calls in order, and the options of the program itself ("" for flags)."""

    calls: list[Call] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


def parse(words: Sequence[str], tasks: Collection) -> CommandLine:
    """Return the parsed command line; raise UsageError for the first word that is invalid.

    An empty value is refused: it is mostly an unset variable, and `clean --tag "$TAG"` would remove all.
    """
    return _Parser(tasks).parse(words)


class _Parser:
    def __init__(self, tasks: Collection) -> None:
        self._tasks = tasks
        self._contexts = {str(context.name): context for context in tasks.to_contexts()}
        self._result = CommandLine()
        self._positional: list[str] = []

    def parse(self, words: Sequence[str]) -> CommandLine:
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word.startswith("-") and word != "-":
                self._take_option(word, rest)
            else:
                self._take_word(self._with_subword(word, rest))
        if not any(name in self._result.options for name in ("--help", "--list", "--version")):
            for call in self._result.calls:
                self._check_complete(call)
        return self._result

    @property
    def _context(self) -> ParserContext | None:
        return self._contexts[self._result.calls[-1].task] if self._result.calls else None

    def _take_option(self, word: str, rest: list[str]) -> None:
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if self._context is not None and (name in self._context.flags or name in self._context.inverse_flags):
            self._take_task_option(name, value if equals else None, rest)
        elif name in GLOBAL_OPTIONS:
            if name in _TAKE_VALUES:
                value = _value(name, value if equals else None, rest, GLOBAL_OPTIONS)
            elif equals:
                raise UsageError(f"{name} takes no value.")
            self._result.options[name] = value
        else:
            raise self._unknown_option(name)

    def _take_task_option(self, name: str, value: str | None, rest: list[str]) -> None:
        context, call = self._context, self._result.calls[-1]
        assert context is not None  # noqa: S101 (the caller has looked its options up)
        is_inverse = name in context.inverse_flags
        argument: Argument = context.flags[context.inverse_flags[name] if is_inverse else name]
        key = _key(argument)
        is_list = argument.kind is list
        if key in call.options and not is_list:
            raise UsageError(f"{name} is given twice.")
        if argument.kind is bool:
            if value is not None:
                raise UsageError(f"{name} takes no value.")
            call.options[key] = not is_inverse
        else:
            value = _value(name, value, rest, context.flags)
            call.options[key] = [*call.options.get(key, []), value] if is_list else value

    def _with_subword(self, word: str, rest: list[str]) -> str:
        """Return `word`, or a task of two words ("change new") if it is the first of one.

        Asked for help, the first word alone means all of them. Raises UsageError for an unknown second word.
        """
        family = [name.partition(" ")[2] for name in self._contexts if name.startswith(f"{word} ")]
        if self._result.calls or not family:
            return word
        if rest and rest[0] in family:
            return f"{word} {rest.pop(0)}"
        if any(name in rest for name in ("--help", "-h")) or "--help" in self._result.options:
            self._result.calls += [Call(f"{word} {name}") for name in family[:-1]]
            return f"{word} {family[-1]}"
        given = f" not {rest[0]!r}" if rest else ""
        raise UsageError(
            f"{word} requires one of {', '.join(family)}{',' * bool(given)}{given}.",
            remedy=f"./inv {word} --help shows them.",
        )

    def _take_word(self, word: str) -> None:
        if self._result.calls and not self._is_task_after_words(word):
            call = self._result.calls[-1]
            task: Task[Any] = self._tasks[call.task]
            free = [name for name in _positional(task) if name not in call.options]
            variadic = getattr(task, "variadic_word", "")
            if not word and (free or variadic):
                raise UsageError(
                    f"{call.task}: a word is empty.", remedy="Is a variable of your shell unset?"
                )
            if free:
                call.options[free[0]] = word
                self._positional.append(free[0])
                return
            if variadic and (variadic not in call.options or variadic in self._positional):
                before = call.options.get(variadic)
                call.options[variadic] = f"{before},{word}" if before else word
                self._positional.append(variadic)
                return
        if word in self._contexts:
            self._result.calls.append(Call(word))
            self._positional = []
            return
        if self._result.calls:
            raise UsageError(
                f"{self._result.calls[-1].task} takes no further word: {word!r}.",
                remedy=f"./inv {self._result.calls[-1].task} --help shows what it takes.",
            )
        raise UsageError(
            f"There is no task {word!r}.{_did_you_mean(word, self._contexts)}",
            remedy="./inv --list shows the tasks.",
        )

    def _is_task_after_words(self, word: str) -> bool:
        """Return whether `word` starts another task, as in `./inv check test`."""
        task = self._tasks[self._result.calls[-1].task]
        return word in self._contexts and not _positional(task) and not getattr(task, "variadic_word", "")

    def _unknown_option(self, name: str) -> UsageError:
        context = self._context
        if name in _UNSUPPORTED:
            return UsageError(f"{name} is not supported.", remedy=_UNSUPPORTED[name])
        if context is None:
            return UsageError(
                f"There is no option {name} before the task.{_did_you_mean(name, GLOBAL_OPTIONS)}",
                remedy="./inv --help shows the options.",
            )
        known = [*context.flags, *context.inverse_flags, *GLOBAL_OPTIONS]
        return UsageError(
            f"{context.name} has no option {name}.{_did_you_mean(name, known)}",
            remedy=f"./inv {context.name} --help shows its options.",
        )

    def _check_complete(self, call: Call) -> None:
        for argument in self._contexts[call.task].positional_args:
            if _key(argument) not in call.options:
                raise UsageError(
                    f"{call.task} requires a {_key(argument)}.",
                    remedy=f"./inv {call.task} --help shows what it takes.",
                )


def _value(name: str, value: str | None, rest: list[str], known: Mapping[str, object]) -> str:
    """Return the value of an option, from after its `=` or from the next word."""
    if value is None:
        if not rest or rest[0].partition("=")[0] in known:
            raise UsageError(f"{name} requires a value.", remedy=f"Write {name}=VALUE.")
        value = rest.pop(0)
    if not value and name not in _MAY_BE_EMPTY:
        raise UsageError(f"{name} is given an empty text.", remedy="Is a variable of your shell unset?")
    return value


def _key(argument: Argument) -> str:
    """Return the name of the function's parameter."""
    return str(argument.attr_name or argument.name).replace("-", "_")


def _positional(task: Any) -> tuple[str, ...]:
    return tuple(getattr(task, "positional_words", ()))


def _did_you_mean(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""
