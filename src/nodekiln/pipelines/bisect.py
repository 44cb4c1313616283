"""Find which release, module and lines of JavaScript make a program fail, by running it on grafts."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from nodekiln.changes import diff
from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.core.elf.file import open_elf
from nodekiln.core.errors import CheckError, PatchError, UsageError
from nodekiln.core.files import atomic_write, hash_file, staging_directory
from nodekiln.core.process import capture, end_group, without_node_options
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting import npm
from nodekiln.grafting.builtins import locate_by_symbols, module_path
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import obtain
from nodekiln.pipelines.graft_plan import apply_plan, plan_texts

_SKIP = 125
_ABORT = 128
"""Exit codes from here on end the search, as in git bisect run."""
_TIMED_OUT = 124
_CLOSE = 6
"""Lines between two changes that a diff shows in one hunk."""
_START_TIMEOUT = 60
_LIST = "console.log(Object.keys(process.binding('natives')).join('\\n'))"


class Verdict(StrEnum):
    """What the exit code of the command says about a Node."""

    GOOD = "good"
    BAD = "bad"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class BisectRequest:
    """A release on which the command succeeds, one on which it fails, and the command."""

    good: Tag
    bad: Tag
    command: tuple[str, ...]
    mirror: str | None = None
    timeout: float | None = None
    """Seconds after which a run of the command counts as failed."""
    restart: bool = False
    """Ignore the results of an earlier run."""


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search: one line for people, and the diff that makes the difference, if there is one."""

    text: str
    diff: bytes = b""


def bisect(request: BisectRequest, settings: Settings, reporter: Reporter) -> Found:
    """Search among releases, then modules, then hunks, and return what makes the difference.

    Results are stored after each run of the command, so that an interrupted search goes on from there.
    Raises UsageError if the command doesn't succeed on the good release and fail on the bad one, CheckError
    if too many runs were skipped to find anything.
    """
    here = Platform.of_machine(sys.platform, platform.machine())
    if here is None or here.os != "linux":
        raise UsageError(
            "bisect requires Linux on x64 or arm64: elsewhere a text can't be replaced by a longer one."
        )
    if not request.command:
        raise UsageError(
            "The command is missing.", remedy="Add it after two dashes: ./inv bisect ... -- node test.js"
        )
    settings.workspace.prepare()
    folder = settings.workspace.root / "bisect"
    folder.mkdir(exist_ok=True)
    results = folder / f"{_digest(request, settings.cwd)}.json"
    with (
        settings.workspace.lock(f"bisect-{results.stem}", "a search for a failure", reporter.say),
        staging_directory(folder, ".staging-") as staging,
    ):
        search = _Search(request, settings, reporter, here, results, staging)
        if not request.restart:
            search.load()
        good, bad = _search_releases(search)
        return _search_modules(search, good, bad)


def _digest(request: BisectRequest, cwd: Path) -> str:
    """Identify a search by its releases, its command, and the files that the command names."""
    files = [hash_file(cwd / word) for word in request.command if (cwd / word).is_file()]
    parts = [str(request.good), str(request.bad), *request.command, *files, str(request.timeout)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass
class _Search:
    request: BisectRequest
    settings: Settings
    reporter: Reporter
    platform: Platform
    results: Path
    staging: Path
    codes: dict[str, int] = field(default_factory=dict)
    """Exit codes of the command, by what it ran on."""
    _releases: dict[Tag, Path] = field(default_factory=dict)

    def load(self) -> None:
        """Read the results of an interrupted search."""
        try:
            stored = json.loads(self.results.read_text())
            self.codes = {str(key): int(code) for key, code in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self.codes = {}

    def release(self, tag: Tag) -> Path:
        """Return the official binary, downloaded once."""
        if tag not in self._releases:
            release = obtain(
                tag,
                self.platform,
                folder=self.settings.workspace.releases,
                file=None,
                mirror=self.request.mirror,
                env=self.settings.environment,
                reporter=self.reporter,
            )
            self._releases[tag] = release.path
        return self._releases[tag]

    def judge_release(self, tag: Tag) -> Verdict:
        """Run the command on an official release."""
        return self._judge(str(tag), str(tag), lambda: self.release(tag))

    def judge_texts(self, tag: Tag, texts: Mapping[str, bytes], label: str) -> Verdict:
        """Run the command on a release whose modules have these texts."""
        if not texts:
            return self.judge_release(tag)
        parts = [str(tag), *(f"{path} {hashlib.sha256(text).hexdigest()}" for path, text in texts.items())]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()

        def make() -> Path | None:
            binary, recipe = self.staging / "node", Recipe(tag=tag, changes=(), graft=True)
            binary.unlink(missing_ok=True)
            try:
                planned = plan_texts(self.release(tag), texts)
            except PatchError as error:
                self.reporter.warn(error.message)
                return None
            apply_plan(self.release(tag), binary, recipe, self.platform, planned)
            return binary if self._starts(binary) else None

        return self._judge(key, label, make)

    def _judge(self, key: str, label: str, make: Callable[[], Path | None]) -> Verdict:
        stored = self.codes.get(key)
        if stored is None:
            binary = make()
            code = _SKIP if binary is None else self._run(binary)
            why = "it does not start" if binary is None else f"exit code {code}"
            self.codes[key] = code
            atomic_write(self.results, json.dumps(self.codes).encode())
        else:
            code, why = stored, f"exit code {stored}, from an earlier run"
        verdict = Verdict.GOOD if code == 0 else Verdict.SKIPPED if code == _SKIP else Verdict.BAD
        self.reporter.say(f"{label}: {verdict} ({why})")
        return verdict

    def _starts(self, binary: Path) -> bool:
        env = without_node_options(self.settings.environment)
        return capture([str(binary), "-e", "0"], env=env, timeout=_START_TIMEOUT).returncode == 0

    def _run(self, binary: Path) -> int:
        """Return the command's exit code; its output goes to stderr."""
        env = dict(self.settings.environment)
        env["NODE"] = str(binary)
        env["PATH"] = os.pathsep.join((str(self._folder_with_node(binary)), env.get("PATH", "")))
        argv = [
            str(binary) if word == "node" and not at else word for at, word in enumerate(self.request.command)
        ]
        try:
            child = subprocess.Popen(
                argv, env=env, cwd=self.settings.cwd, stdout=sys.stderr, start_new_session=True
            )
        except OSError as error:
            raise UsageError(f"{argv[0]} can't be run: {error.strerror}.") from None
        try:
            code = child.wait(self.request.timeout)
        except subprocess.TimeoutExpired:
            end_group(child, (signal.SIGTERM,))
            return _TIMED_OUT
        except BaseException:
            end_group(child, (signal.SIGINT, signal.SIGTERM))
            raise
        if not 0 <= code < _ABORT:
            ending = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise UsageError(
                f"The command was ended {ending}, which says neither good nor bad.",
                remedy="Let a script run it, which exits with 0 for good, 1 for bad and 125 to skip.",
            )
        return code

    def _folder_with_node(self, binary: Path) -> Path:
        """Return a folder in which `node` is this binary."""
        folder = self.staging / "bin"
        folder.mkdir(exist_ok=True)
        link = folder / "node"
        link.unlink(missing_ok=True)
        link.symlink_to(binary)
        return folder


def narrow(good: int, bad: int, judge: Callable[[int], Verdict]) -> tuple[int, int]:
    """Return the closest numbers, between a good and a bad one, that are good and bad.

    They are neighbors unless all between them are skipped.
    """
    skipped: set[int] = set()
    while open_ := [each for each in range(good + 1, bad) if each not in skipped]:
        middle = min(open_, key=lambda each: abs(2 * each - good - bad))
        match judge(middle):
            case Verdict.GOOD:
                good = middle
            case Verdict.BAD:
                bad = middle
            case Verdict.SKIPPED:
                skipped.add(middle)
    return good, bad


def _search_releases(search: _Search) -> tuple[Tag, Tag]:
    """Return the closest releases of which the first is good and the second is bad."""
    request = search.request
    for tag, wanted in ((request.good, Verdict.GOOD), (request.bad, Verdict.BAD)):
        if (verdict := search.judge_release(tag)) is not wanted:
            raise UsageError(
                f"{tag} is {verdict}, and should be {wanted}: check the command and the releases."
            )
    listed = npm.versions(search.platform, folder=search.staging, env=search.settings.environment)
    low, high = sorted((request.good, request.bad))
    tags = sorted({low, high, *(tag for tag in listed if low < tag < high)})
    if request.good > request.bad:
        tags.reverse()
    search.reporter.say(f"{len(tags) - 2} releases between {request.good} and {request.bad}")
    good, bad = narrow(0, len(tags) - 1, lambda number: search.judge_release(tags[number]))
    if bad - good > 1:
        raise _undecided(f"between {tags[good]} and {tags[bad]}, all releases were skipped")
    return tags[good], tags[bad]


@dataclass(frozen=True)
class _Mix:
    """The texts of two releases, and the release that grafts are made from."""

    search: _Search
    base: Tag
    good: Mapping[str, bytes]
    bad: Mapping[str, bytes]
    base_texts: Mapping[str, bytes]

    def judge(self, texts: Mapping[str, bytes], label: str) -> Verdict:
        """Run the command with these texts, and those of the good release for other modules."""
        wanted = {**self.good, **texts}
        changed = {path: text for path, text in wanted.items() if text != self.base_texts[path]}
        return self.search.judge_texts(self.base, changed, label)

    def take(self, paths: Collection[str]) -> dict[str, bytes]:
        """Return the bad release's texts of some modules."""
        return {path: self.bad[path] for path in paths}


def _search_modules(search: _Search, good: Tag, bad: Tag) -> Found:
    texts = _texts(search, good), _texts(search, bad)
    paths = sorted(path for path in texts[0].keys() & texts[1].keys() if texts[0][path] != texts[1][path])
    search.reporter.say(f"{len(paths)} modules differ between {good} and {bad}")
    before, after = ({path: each[path] for path in paths} for each in texts)
    mix = _Mix(search, good, before, after, before)
    elsewhere = Found(
        f"The difference between {good} and {bad} is not in the JavaScript of modules that both have."
    )
    if not paths:
        return elsewhere
    forward = mix.judge(after, f"{good} with all modules of {bad}")
    if forward is Verdict.GOOD:
        return elsewhere
    if forward is Verdict.SKIPPED:
        mix = replace(mix, base=bad, base_texts=after)
        backward = mix.judge({}, f"{bad} with all modules of {good}")
        if backward is Verdict.BAD:
            return elsewhere
        if backward is Verdict.SKIPPED:
            raise _undecided(f"the modules of {good} and {bad} don't run on each other's C++")
    first, last = narrow(
        0,
        len(paths),
        lambda count: mix.judge(mix.take(paths[:count]), f"{count} of {len(paths)} modules of {bad}"),
    )
    if last - first > 1:
        named = ", ".join(paths[first:last])
        return Found(f"The difference is in one of these modules, none of which runs alone: {named}")
    path, others = paths[first], mix.take(paths[:first])
    if others and mix.judge(mix.take([path]), f"{path} of {bad} alone") is Verdict.BAD:
        others = {}
    return _search_hunks(mix, path, others)


def _search_hunks(mix: _Mix, path: str, others: Mapping[str, bytes]) -> Found:
    edit = diff.compare(path, mix.good[path], mix.bad[path], "the bad release")
    if edit is None:
        raise ValueError(f"{path} does not differ")
    hunks = _hunks(edit)
    count = len(hunks)

    def judge(begin: int, end: int) -> Verdict:
        spans = tuple(span for hunk in hunks[begin:end] for span in hunk)
        text = replace(edit, spans=spans).after if spans else mix.good[path]
        numbers = f"hunk {end}" if end - begin == 1 else f"hunks {begin + 1} to {end}"
        return mix.judge({**others, path: text}, f"{numbers} of {count} of {path}")

    first, last = narrow(0, count, lambda number: judge(0, number))
    begin = first if first == 0 or judge(first, last) is Verdict.BAD else 0
    found = Edit(path, edit.base, tuple(span for hunk in hunks[begin:last] for span in hunk))
    lines = [1 + mix.good[path].count(b"\n", 0, span.start) for span in found.spans]
    needed = f", together with {len(others)} other modules" if others else ""
    where = f"line {lines[0]}" if len(lines) == 1 else f"lines {lines[0]} to {lines[-1]}"
    return Found(f"{path}, {where}, makes the difference{needed}.", diff.render(Plan((found,))))


def _hunks(edit: Edit) -> list[list[Span]]:
    """Return the spans, those together that a diff shows in one hunk: parts of a change that are close."""
    hunks: list[list[Span]] = []
    for span in edit.spans:
        if hunks and (edit.base or b"").count(b"\n", hunks[-1][-1].end, span.start) <= _CLOSE:
            hunks[-1].append(span)
        else:
            hunks.append([span])
    return hunks


def _texts(search: _Search, tag: Tag) -> dict[str, bytes]:
    """Return the texts of a release's modules, by path."""
    binary = search.release(tag)
    env = without_node_options(search.settings.environment)
    answer = capture([str(binary), "--no-deprecation", "-e", _LIST], env=env, timeout=_START_TIMEOUT)
    if answer.returncode != 0:
        raise CheckError(f"{tag} does not list its modules: exit code {answer.returncode}.")
    paths = [module_path(name) for name in answer.stdout.decode().split()]
    with open_elf(binary) as elf:
        return {path: builtin.text for path, builtin in locate_by_symbols(elf, paths).items()}


def _undecided(why: str) -> CheckError:
    return CheckError(f"The search ended without a result: {why}.", remedy="Let the command skip less.")
