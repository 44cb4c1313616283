"""Depths "compile" and "build": compile what a fitting plan touches, or build and run it as ./inv build does.

A tag or recipe that fails costs a finding of its own, and the others continue. Compiler flags come from
ninja's compilation database. Headers that the build itself generates are made when a file requires them: most
files require none, and generating all of them would take minutes.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from nodekiln.binaries.store import Store
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Plan
from nodekiln.core.errors import BuildError, KilnError, SourceError, ToolchainError
from nodekiln.core.process import Captured, capture, error_line
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Meter, Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.build import BuildOptions, build, configured
from nodekiln.pipelines.checking import check, make_request
from nodekiln.pipelines.planning import make_plan, open_tag
from nodekiln.toolchain.model import ToolOptions
from nodekiln.toolchain.toolchain import Programs
from nodekiln.verify.outcome import Depth, Finding, Kind, Row, Status, worst

_UNPROVEN = "unproven"
_ANY = Tag(0, 0, 0)
_UNITS = (".c", ".cc", ".cpp", ".cxx")
_RULES = ("cc", "cxx")
_MISSING_HEADER = re.compile(r"fatal error: '?([\w./+-]+)'?(?:: No such file| file not found)")
_ERROR = re.compile(r"\b(?:fatal )?error: ")
_TIMEOUT = 900.0
"""Seconds for one file, or for the generators: node.cc takes 4 on its own."""
_MAX_ROUNDS = 20
"""Headers that one file may require one after the other: each generator makes several at once."""


def check_machine(kinds: Iterable[Kind], settings: Settings, reporter: Reporter) -> None:
    """Raise ToolchainError, which lists everything missing, if this machine can't build anything.

    Runs before any tag is read: such a problem is no finding about a tag.
    """
    registry = Registry.of(settings)
    request = make_request(
        settings,
        ToolOptions(),
        tag=None,
        configure_args=settings.configure_args,
        jobs=1,
        disk_needed=0,  # each build checks its own need
        probes=all(registry.has_probes(kind.recipe(_ANY)) for kind in kinds),  # probes have more requirements
    )
    check(Programs(request), reporter)


@dataclass(slots=True)
class DeepCheck:
    """Compiles or builds rows that fit.

    `repository` is the one that was planned from, given explicitly: an imported tarball must not be used.
    """

    depth: Depth
    repository: str
    jobs: int | None
    accept_moved: bool
    settings: Settings
    reporter: Reporter
    _compiled: dict[tuple[str, ...], tuple[Finding, ...]] = field(default_factory=dict)

    def row(self, row: Row, kinds: Mapping[str, Kind]) -> Row:
        """Return the row with the findings of this depth; recipes that already fail are skipped."""
        recipes, findings = [], list(row.findings)
        for name, status in row.recipes:
            found = (
                self._check(row, kinds[name]) if status.is_fine and status is not Status.NOT_SERVED else ()
            )
            findings += [replace(finding, recipes=(name,)) for finding in found]
            recipes.append((name, worst([status, *(finding.status for finding in found)])))
        return replace(
            row,
            status=worst(status for _, status in recipes) if recipes else row.status,
            recipes=tuple(recipes),
            findings=tuple(findings),
        )

    def _check(self, row: Row, kind: Kind) -> tuple[Finding, ...]:
        recipe = replace(kind.recipe(row.tag), default_args=self.settings.configure_args)
        self.reporter.say(f"{self.depth}: {recipe.name}")
        try:
            found = self._compile(recipe, row.commit) if self._has_patches(kind) else ()
            if self.depth is Depth.BUILD and not found:
                found = self._build(recipe, row.commit)
        except ToolchainError as error:
            return (Finding(Status.TOOLCHAIN, "this machine lacks something", str(error)),)
        except KilnError as error:
            return (Finding(Status.FAILED, f"{self.depth} failed", str(error)),)
        return found

    def _has_patches(self, kind: Kind) -> bool:
        registry = Registry.of(self.settings)
        return any(registry.get(name).compiles for name in kind.changes)

    def _compile(self, recipe: Recipe, commit: str | None) -> tuple[Finding, ...]:
        """Compile the C and C++ files that patches and rewrites touch."""
        source = open_tag(
            recipe, self.repository, self.settings, self.reporter, accept_moved=self.accept_moved
        )
        _check_commit(recipe, commit, source.commit)
        plan = make_plan(recipe, source, self.settings, self.reporter).plan
        paths = Units.touched(plan)
        # With and without backpressure the C++ is the same.
        key = (source.commit, *(f"{edit.path} {edit.after_id}" for edit in plan.edits if edit.path in paths))
        if paths and key not in self._compiled:
            self._compiled[key] = self._compile_units(recipe, paths)
        return self._compiled.get(key, ())

    def _compile_units(self, recipe: Recipe, paths: tuple[str, ...]) -> tuple[Finding, ...]:
        with (
            configured(self._options(recipe), self.settings, self.reporter) as job,
            self.reporter.progress(f"{recipe.name}, files") as meter,
        ):
            toolchain = job.toolchain
            if toolchain.generator != "ninja":
                raise BuildError(
                    "Reading the compiler flags failed: ninja not found.", remedy="Install ninja."
                )
            units = Units(job.tree.source, toolchain.build_program, toolchain.build_env)
            return units.check(paths, jobs=job.jobs, meter=meter)

    def _build(self, recipe: Recipe, commit: str | None) -> tuple[Finding, ...]:
        """Build and run the binary; its manifest has whether the probes fired."""
        build(self._options(recipe), self.settings, self.reporter)
        facts = Store(self.settings.workspace).get(recipe.name).facts or {}
        _check_commit(recipe, commit, facts.get("commit"))
        seen = str(facts.get("probes_seen") or "")
        if not seen.startswith(_UNPROVEN):
            return ()
        return (Finding(Status.CLEAN, "built", f"whether its probes fire is {seen}"),)

    def _options(self, recipe: Recipe) -> BuildOptions:
        return BuildOptions(
            recipe=recipe,
            repository=self.repository,
            jobs=self.jobs,
            accept_moved_tag=self.accept_moved,
        )


def _check_commit(recipe: Recipe, planned: str | None, found: object) -> None:
    """Raise SourceError if the tag moved since it was planned."""
    if found != planned:
        raise SourceError(
            f"{recipe.tag} was commit {str(planned)[:12]} when it was planned, and is now {str(found)[:12]}.",
            remedy="Run the command again.",
        )


@dataclass(frozen=True)
class Units:
    """The C and C++ files of the configured tree `source`, and how to compile them.

    `ninja` is its executable, `env` the environment of ninja and the compiler.
    """

    source: Path
    ninja: str
    env: Mapping[str, str]

    @staticmethod
    def touched(plan: Plan) -> tuple[str, ...]:
        """Return the paths of C and C++ files that the plan changes or adds."""
        return tuple(edit.path for edit in plan.edits if edit.path.endswith(_UNITS))

    def check(self, paths: Sequence[str], *, jobs: int, meter: Meter) -> tuple[Finding, ...]:
        """Compile each, several in parallel, syntax only; raises BuildError if ninja lists no commands."""
        commands = self._commands(paths)
        findings = [
            _finding(path, "not compiled", "no target of the build compiles this file")
            for path in paths
            if path not in commands
        ]
        argvs = {path: syntax_only(commands[path]) for path in paths if path in commands}
        for round_ in range(_MAX_ROUNDS):
            answers = self._compile(argvs, jobs, meter)
            failed = {path: answer for path, answer in answers.items() if answer.returncode != 0}
            missing = {path: name for path, answer in failed.items() if (name := _missing_header(answer))}
            if not missing or round_ == _MAX_ROUNDS - 1 or not self._generate(set(missing.values()), jobs):
                break
            findings += [_compile_finding(path, failed[path]) for path in failed if path not in missing]
            argvs = {path: argvs[path] for path in missing}
        findings += [_compile_finding(path, answer) for path, answer in failed.items()]
        return tuple(sorted(findings, key=lambda finding: finding.path))

    @property
    def _out(self) -> Path:
        return self.source / "out" / "Release"

    def _commands(self, paths: Iterable[str]) -> dict[str, list[str]]:
        """Return ninja's command for each file; the first if several targets compile it."""
        answer = self._ninja("-t", "compdb", *_RULES)
        try:
            rows = json.loads(answer.stdout)
            known = [(posixpath.normpath(f"out/Release/{row['file']}"), row["command"]) for row in rows]
        except (ValueError, KeyError, TypeError):
            raise BuildError(f"ninja -t compdb failed: {error_line(answer.text)}") from None
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
        english = {**self.env, "LC_ALL": "C"}  # missing headers are parsed from the message
        return capture(argv, env=english, cwd=self._out, timeout=_TIMEOUT)

    def _generate(self, headers: set[str], jobs: int) -> bool:
        """Build these headers; return False if the build generates none of them."""
        lines = self._ninja("-t", "targets", "all").stdout.decode(errors="replace").splitlines()
        names = [line.rpartition(": ")[0] for line in lines]
        targets = [name for name in names if any(f"/{name}".endswith(f"/{header}") for header in headers)]
        return bool(targets) and self._ninja("-j", str(max(1, jobs)), *targets).returncode == 0

    def _ninja(self, *words: str) -> Captured:
        return capture([self.ninja, "-C", str(self._out), *words], env=self.env, timeout=_TIMEOUT)


def syntax_only(argv: Sequence[str]) -> list[str]:
    """Return the command with -fsyntax-only and without any output file.

    ninja would take an object or dependency file for a finished step of the next build.
    """
    kept, rest = [], iter(argv)
    for word in rest:
        if word in ("-o", "-MF", "-MT", "-MQ"):
            next(rest, None)
        elif word not in ("-c", "-MD", "-MMD", "-MP"):
            kept.append(word)
    return [*kept, "-fsyntax-only"]


def _missing_header(answer: Captured) -> str | None:
    match = _MISSING_HEADER.search(answer.text)
    return match[1] if match else None


def _compile_finding(path: str, answer: Captured) -> Finding:
    return _finding(path, "does not compile", error_line(answer.stderr, _ERROR))


def _finding(path: str, reason: str, text: str) -> Finding:
    return Finding(Status.FAILED, reason, text, path)
