"""The translation units that a plan touches, seen by the compiler with the tag's own flags: syntax alone.

The flags come from ninja's compilation database. Headers that the build itself generates are made when a unit
asks for them: most units want none, and everything that a binary needs would take minutes.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.edit import Plan
from nodekiln.core.errors import BuildError
from nodekiln.core.process import Captured, capture, error_line
from nodekiln.core.reporting import Meter
from nodekiln.verify.outcome import Finding, Status

_UNITS = (".c", ".cc", ".cpp", ".cxx")
_RULES = ("cc", "cxx")
_MISSING = re.compile(r"fatal error: '?([\w./+-]+)'?(?:: No such file| file not found)")
_ERROR = re.compile(r"\b(?:fatal )?error: ")
_PATIENCE = 900.0
"""Seconds for one unit, or for the generators: node.cc takes 4 on its own."""
_ROUNDS = 20
"""Headers that one unit may ask for one after the other: each generator makes several at once."""
_LONGEST = 400


@dataclass(frozen=True)
class Units:
    """The configured tree `source`; `ninja` is how it is called, `env` what it and the compiler are given."""

    source: Path
    ninja: str
    env: Mapping[str, str]

    @staticmethod
    def touched(plan: Plan) -> tuple[str, ...]:
        """The paths of C and C++ files that the plan changes or adds."""
        return tuple(edit.path for edit in plan.edits if edit.path.endswith(_UNITS))

    def check(self, paths: Sequence[str], *, jobs: int, meter: Meter) -> tuple[Finding, ...]:
        """Compiles each, several at once; raises BuildError where ninja does not know the commands."""
        commands = self._commands(paths)
        lost = [path for path in paths if path not in commands]
        findings = [
            _finding(path, "not compiled", "no target of the build compiles this file") for path in lost
        ]
        argvs = {path: syntax_only(commands[path]) for path in paths if path in commands}
        for round_ in range(_ROUNDS):
            answers = self._compile(argvs, jobs, meter)
            failed = {path: answer for path, answer in answers.items() if answer.returncode != 0}
            wanted = {path: name for path, answer in failed.items() if (name := _missing(answer))}
            if not wanted or round_ == _ROUNDS - 1 or not self._generate(set(wanted.values()), jobs):
                break
            findings += [_failed(path, answer) for path, answer in failed.items() if path not in wanted]
            argvs = {path: argvs[path] for path in wanted}
        findings += [_failed(path, answer) for path, answer in failed.items()]
        return tuple(sorted(findings, key=lambda finding: finding.path))

    @property
    def _out(self) -> Path:
        return self.source / "out" / "Release"

    def _commands(self, paths: Iterable[str]) -> dict[str, list[str]]:
        """How ninja would compile each file; the first of several, as for a library and its tests."""
        answer = self._ninja("-t", "compdb", *_RULES)
        try:
            rows = json.loads(answer.stdout)
            known = [(posixpath.normpath(f"out/Release/{row['file']}"), row["command"]) for row in rows]
        except (ValueError, KeyError, TypeError):
            told = answer.text.strip().splitlines()[-1:] or ["nothing"]
            raise BuildError(f"ninja -t compdb tells no commands: {told[0][:_LONGEST]}") from None
        wanted = set(paths)
        return {path: shlex.split(command) for path, command in reversed(known) if path in wanted}

    def _compile(self, argvs: Mapping[str, list[str]], jobs: int, meter: Meter) -> dict[str, Captured]:
        answers: dict[str, Captured] = {}
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            running = [(path, pool.submit(self._run, argv)) for path, argv in argvs.items()]
            try:
                for path, each in running:
                    meter.update(len(answers), len(running), path)
                    answers[path] = each.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # else an interrupt waits for all of them
                raise
        return answers

    def _run(self, argv: Sequence[str]) -> Captured:
        english = {**self.env, "LC_ALL": "C"}  # what a compiler lacks is read from its words
        return capture(argv, env=english, cwd=self._out, timeout=_PATIENCE)

    def _generate(self, headers: set[str], jobs: int) -> bool:
        """Makes those that the build generates; False where it generates none of them."""
        told = self._ninja("-t", "targets", "all").stdout.decode(errors="replace").splitlines()
        names = [line.rpartition(": ")[0] for line in told]
        targets = [name for name in names if any(f"/{name}".endswith(f"/{header}") for header in headers)]
        return bool(targets) and self._ninja("-j", str(max(1, jobs)), *targets).returncode == 0

    def _ninja(self, *words: str) -> Captured:
        return capture([self.ninja, "-C", str(self._out), *words], env=self.env, timeout=_PATIENCE)


def syntax_only(argv: Sequence[str]) -> list[str]:
    """The same compilation, which writes neither object nor list of headers.

    An -o, -MF or the like would leave files for which ninja takes the next build as done.
    """
    kept, rest = [], iter(argv)
    for word in rest:
        if word in ("-o", "-MF", "-MT", "-MQ"):
            next(rest, None)
        elif word not in ("-c", "-MD", "-MMD", "-MP"):
            kept.append(word)
    return [*kept, "-fsyntax-only"]


def _missing(answer: Captured) -> str | None:
    match = _MISSING.search(answer.text)
    return match[1] if match else None


def _failed(path: str, answer: Captured) -> Finding:
    return _finding(path, "does not compile", error_line(answer.stderr, _ERROR)[:_LONGEST])


def _finding(path: str, reason: str, text: str) -> Finding:
    return Finding(Status.FAILED, reason, text, path)
