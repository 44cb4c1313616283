"""./inv compare, from the request to results.json: find the binaries, make sure of room, run, keep."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nodekiln.core import platform as machine
from nodekiln.core.errors import KilnError
from nodekiln.core.files import atomic_write
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.experiment.analysis.verdict import busy_warning
from nodekiln.experiment.inputs import resource_checks as guard
from nodekiln.experiment.inputs.binaries import Named, Subject, name_subjects, obtain_subjects
from nodekiln.experiment.inputs.inputs import Material, bytes_to_write, input_sizes, prepare
from nodekiln.experiment.inputs.workloads import Workload, child_environment, find_workload
from nodekiln.experiment.measure import page_cache as pagecache
from nodekiln.experiment.measure.environment import read_environment
from nodekiln.experiment.measure.forecast import forecast, piles_up
from nodekiln.experiment.measure.gc_runs import may_trace, name_tracer
from nodekiln.experiment.measure.running import Draft, run
from nodekiln.experiment.measure.trials import Setup, Stamp, stamp_of
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import RESULTS, Experiment, Sweep, dump

_PURPOSE = "comparing binaries"
_WORK = "work"
_NAME, _NAMES = "%Y-%m-%d-%H%M%S", "????-??-??-??????*"
"""Names of run folders: for strftime, and a pattern that matches all."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The folder with results.json, and its content; `results.partial` is set after an interrupt."""

    folder: Path
    results: Experiment | Sweep


@dataclass(kw_only=True)
class _Session:
    """The state of one comparison: everything decided before the first run, and the measurements so far."""

    request: CompareRequest
    settings: Settings
    reporter: Reporter
    workload: Workload
    named: Sequence[Named]
    sizes: Sequence[int]
    subjects: Sequence[Subject] = ()
    stamps: Mapping[Path, Stamp | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """To be said of every experiment."""
    drafts: list[Draft] = field(default_factory=list)

    def results(self) -> Experiment | Sweep | None:
        """None where no trial is over yet."""
        found = tuple(draft.results() for draft in self.drafts if draft.trials)
        if not found:
            return None
        if not self.request.is_series:
            return found[0]
        is_complete = len(found) == self.request.points and not found[-1].partial
        return Sweep(started=found[0].started, experiments=found, partial=not is_complete)


def compare(request: CompareRequest, settings: Settings, reporter: Reporter) -> Compared | None:
    """Run the comparison and write its folder, build/experiments/<time>; return None for a dry run.

    On Ctrl-C the measurements are kept, and `results.partial` is set. Raises KeyboardInterrupt if that is
    nothing, CheckError for a binary that loses data or can't do the workload, UsageError and SourceError for
    what can't be taken, would not fit into memory or on the disk, or changed meanwhile, and what grafting
    raises. verdict.find_failure checks that every binary has a result.
    """
    session = _prepare(request, settings, reporter)
    if session is None:
        return None
    with settings.workspace.lock("experiments", _PURPOSE, reporter.say):
        session.subjects = obtain_subjects(session.named, request, settings, reporter)
        programs = {subject.facts.label: subject.path for subject in session.subjects}
        session.stamps = {path: stamp_of(path) for path in programs.values()}
        env = child_environment(settings.environment)
        session.notes = (pagecache.make_alike(programs, env),)
        with _folder(session) as folder:
            try:
                _run_all(session, folder)
            except (KilnError, OSError):
                if (folder / RESULTS).exists():
                    reporter.say(f"what was measured until then: ./inv report {folder}")
                raise
            except KeyboardInterrupt:
                if session.results() is None:
                    raise
                reporter.say(f"interrupted; what was measured until then is kept in {folder}")
            results = _save(session, folder)
            assert results is not None  # noqa: S101 (a trial is over at least; this tells mypy)
            return Compared(folder, results)


def _prepare(request: CompareRequest, settings: Settings, reporter: Reporter) -> _Session | None:
    """Check everything that can be checked before anything is made; return None for a dry run."""
    workload = find_workload(request.workload, settings.cwd)
    if request.cold:
        pagecache.check_can_drop()
    named = name_subjects(request, settings)
    sizes = input_sizes(request)
    disk = guard.disk_needed(bytes_to_write(request, settings.workspace.inputs), max(sizes))
    env = child_environment(settings.environment)
    plan = forecast(request, workload, named, sizes, disk=disk, may_trace=may_trace(env))
    for line in plan.lines:
        reporter.say(line)
    guard.check_memory(
        max(sizes),
        piles_up=piles_up(named),
        limit=request.memory_limit,
        available=machine.available_memory(),
    )
    if (load := os.getloadavg()[0]) > (cores := machine.cores()):
        reporter.warn(f"{busy_warning(load, cores)} Compare again on an idle machine.")
    root = settings.workspace.root
    guard.check_disk(disk, free=machine.free_disk(root), place=str(root))
    if request.dry_run:
        return None
    settings.workspace.prepare()
    return _Session(
        request=request,
        settings=settings,
        reporter=reporter,
        workload=workload,
        named=named,
        sizes=sizes,
    )


def _run_all(session: _Session, folder: Path) -> None:
    env = child_environment(session.settings.environment)
    environment = read_environment(folder, env, tracer=name_tracer(env))
    for size in session.sizes:
        material, notes = _input(session, size)
        drafts = [
            Draft(
                request=session.request,
                setup=Setup(
                    workload=session.workload,
                    material=material,
                    mark=mark,
                    page_cache="cold" if session.request.cold else "warm",
                    limit=session.request.memory_limit,
                    env=env,
                    folder=folder / _WORK,
                    stamps=session.stamps,
                ),
                subjects=session.subjects,
                environment=environment,
                warm_ups=0 if session.drafts or number else session.request.warm_ups,
                notes=(*notes, *session.notes),
            )
            for number, mark in enumerate(session.request.high_water_marks)
        ]
        _run_drafts(session, drafts, folder)


def _run_drafts(session: _Session, drafts: Sequence[Draft], folder: Path) -> None:
    """Run the experiments of one input."""
    over, runs = 0, sum(draft.runs for draft in drafts)
    with session.reporter.progress("compare") as meter:

        def show(detail: str) -> None:
            meter.update(over, runs, detail)

        def done() -> None:
            nonlocal over
            over += 1
            _save(session, folder)

        for draft in drafts:
            session.drafts.append(draft)
            draft.started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
            run(draft, session.settings, show=show, done=done)


def _input(session: _Session, size: int) -> tuple[Material, tuple[str, ...]]:
    """Return the input with its description."""
    material = prepare(
        session.request,
        size,
        folder=session.settings.workspace.inputs,
        env=session.settings.environment,
        reporter=session.reporter,
    )
    notes = [material.note]
    if session.request.cold:
        pagecache.drop(material.path)
        left = pagecache.cached_share(material.path)
        remainder = "how much of it stays is unknown" if left is None else f"{left:.0%} of it stays"
        notes.append(f"the input is dropped from memory before each run; {remainder}")
    for note in notes:
        session.reporter.say(note)
    return material, tuple(notes)


def _save(session: _Session, folder: Path) -> Experiment | Sweep | None:
    """Write results.json atomically; return None if nothing was measured."""
    results = session.results()
    if results is not None:
        atomic_write(folder / RESULTS, dump(results).encode())
    return results


@contextmanager
def _folder(session: _Session) -> Iterator[Path]:
    """Yield a new run folder with a temporary work directory; remove all if nothing was measured."""
    experiments = session.settings.workspace.experiments
    for left in experiments.glob(f"{_NAMES}/{_WORK}"):  # by a run that was killed: we hold the lock
        if not left.parent.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
            with suppress(OSError):  # results are in it
                left.parent.rmdir()
    name = time.strftime(_NAME)
    folder, times = experiments / name, 1
    while folder.exists():
        times += 1
        folder = experiments / f"{name}-{times}"
    (folder / _WORK).mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder / _WORK, ignore_errors=True)
        if not (folder / RESULTS).exists():
            shutil.rmtree(folder, ignore_errors=True)
