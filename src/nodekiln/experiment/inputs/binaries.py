"""Choose the binaries to compare: named ones, or two grafts of one release."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodekiln.changes.hooks import NO_BACKPRESSURE, USDT
from nodekiln.changes.registry import Registry
from nodekiln.core.errors import CheckError, KilnError, PatchError, UsageError
from nodekiln.core.files import hash_file
from nodekiln.core.process import capture
from nodekiln.core.recipe import Recipe, is_name
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.experiment.inputs.workloads import child_environment
from nodekiln.experiment.model.naming import as_text
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import Binary
from nodekiln.grafting.download import Server
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import check_given, obtain
from nodekiln.pipelines.graft import GraftRequest, graft
from nodekiln.pipelines.inspect import find_binary, inspect

_MAX_LABEL = 80
_VERSION = re.compile(r"v\d+\.\d+\.\d+\S*$")


@dataclass(frozen=True, slots=True)
class Named:
    """A binary to compare, before it is made or run."""

    label: str
    """Its future name."""
    word: str
    """Name or path; "" for a graft that is made when needed."""
    backpressure: bool | None
    """None: unknown."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A binary to run."""

    path: Path
    facts: Binary


def name_subjects(request: CompareRequest, settings: Settings) -> tuple[Named, ...]:
    """Return the binaries to compare, without making or running any.

    Raises UsageError for a binary that isn't there and for a mirror that is none, SourceError for a release
    that can't be read or is no program.
    """
    if not request.binaries:
        _check_origin(request, settings)
        return tuple(
            _named(recipe)
            for recipe in (_stock(request, _takes_probes()), _changed(request, _takes_probes()))
        )
    labels = make_labels([_name(word, settings) for word in request.binaries])
    return tuple(
        Named(label, word, _backpressure(find_binary(word, settings), settings))
        for label, word in zip(labels, request.binaries, strict=True)
    )


def make_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct names: repeated ones get a number."""
    labels: list[str] = []
    for name in names:
        label, times = name[:_MAX_LABEL], 1
        while label in labels:
            times += 1
            ending = f" ({times})"
            label = name[: _MAX_LABEL - len(ending)] + ending
        labels.append(label)
    return tuple(labels)


def obtain_subjects(
    named: Sequence[Named], request: CompareRequest, settings: Settings, reporter: Reporter
) -> tuple[Subject, ...]:
    """Return the binaries, grafted if needed, each with its version.

    Raises what grafting raises, UsageError for a file that can't be run, CheckError for one that is no Node.
    """
    found = (
        [(one, find_binary(one.word, settings)) for one in named]
        if request.binaries
        else _graft(request, settings, reporter)
    )
    return tuple(_subject(one, path.resolve(), settings) for one, path in found)


def _subject(named: Named, path: Path, settings: Settings) -> Subject:
    if not os.access(path, os.X_OK):
        raise UsageError(f"{path} can't be run.", remedy="chmod +x makes it executable.")
    try:
        answer = capture([str(path), "--version"], env=child_environment(settings.environment), timeout=30)
    except OSError as error:
        raise UsageError(f"{path} can't be run here: {error.strerror}.") from None
    version = answer.stdout.decode(errors="replace").strip()
    if answer.returncode != 0 or not _VERSION.match(version):
        shown = version.splitlines()[0][:80] if version else f"nothing, and ends with {answer.returncode}"
        raise CheckError(f"{path} is no Node that runs here: --version answers {shown}.")
    try:
        seen = inspect(path, Registry.of(settings))
        sha256, backpressure, probes = seen.sha256, seen.backpressure, seen.probes or ()
    except KilnError:  # a wrapper script, say: it can be measured all the same
        sha256, backpressure, probes = hash_file(path), None, ()
    name = as_text(named.word.rpartition("/")[2]) if named.word else named.label
    return Subject(
        path,
        Binary(
            label=named.label,
            name=name,
            sha256=sha256,
            version=version,
            backpressure=backpressure,
            probes=probes,
        ),
    )


def _name(word: str, settings: Settings) -> str:
    """Return a published binary's name, or a file's name; for a file called node, its folder's name."""
    path = find_binary(word, settings)
    if is_name(word):
        return word
    return as_text(path.name if path.name != "node" else f"{path.resolve().parent.name}/node")


def _backpressure(path: Path, settings: Settings) -> bool | None:
    try:
        return inspect(path, Registry.of(settings)).backpressure
    except KilnError:
        return None


def _check_origin(request: CompareRequest, settings: Settings) -> None:
    """Refuses what grafting would, before anything is made; a download can't be looked at yet."""
    file = request.release
    if file is None:
        if request.mirror is not None:
            Server(request.mirror, env=settings.environment)
        return
    check_given(file)


def _graft(
    request: CompareRequest, settings: Settings, reporter: Reporter
) -> tuple[tuple[Named, Path], tuple[Named, Path]]:
    """Raises PatchError for a release that can't be grafted: what to do is another thing here than there."""
    try:
        return _with_probes_or_without(request, settings, reporter)
    except PatchError as error:
        stock, changed = (
            Recipe(tag=request.tag, changes=changes).name for changes in ((USDT,), (NO_BACKPRESSURE, USDT))
        )
        start = "" if request.release is None else "Take --release as it was downloaded. "
        raise PatchError(
            error.message,
            remedy=f"{start}Builds can be compared: ./inv build --tag {request.tag}, the same with"
            f" --no-backpressure, then ./inv compare --binaries {stock},{changed}",
        ) from None


def _with_probes_or_without(
    request: CompareRequest, settings: Settings, reporter: Reporter
) -> tuple[tuple[Named, Path], tuple[Named, Path]]:
    """With probes where the release can have them: without, collections are measured in two ways of three."""
    if not _takes_probes():
        return _pair(request, False, settings, reporter)
    try:
        return _pair(request, True, settings, reporter)
    except (PatchError, CheckError) as error:
        pair = _pair(request, False, settings, reporter)  # raises where it was not the probes
        reporter.say(f"compared without probes: {error.message}")
        return pair


def _pair(
    request: CompareRequest, probes: bool, settings: Settings, reporter: Reporter
) -> tuple[tuple[Named, Path], tuple[Named, Path]]:
    """Make the changed one first: if that fails, nothing is made."""
    stock, changed = _stock(request, probes), _changed(request, probes)
    changed_path = _make(changed, request, settings, reporter)
    stock_path = (
        _make(stock, request, settings, reporter) if stock.graft else _release(request, settings, reporter)
    )
    return (_named(stock), stock_path), (_named(changed), changed_path)


def _make(recipe: Recipe, request: CompareRequest, settings: Settings, reporter: Reporter) -> Path:
    wanted = GraftRequest(
        tag=request.tag,
        changes=recipe.changes,
        file=request.release,
        mirror=request.mirror,
    )
    return graft(wanted, settings, reporter)


def _release(request: CompareRequest, settings: Settings, reporter: Reporter) -> Path:
    here = Platform.of_machine(sys.platform, platform.machine())
    if here is None:
        raise UsageError(
            f"There is no release to graft for this machine ({sys.platform}, {platform.machine()}).",
            remedy="--binaries A,B compares binaries that are there; ./inv build makes some.",
        )
    return obtain(
        request.tag,
        here,
        folder=settings.workspace.releases,
        file=request.release,
        mirror=request.mirror,
        env=settings.environment,
        reporter=reporter,
    ).path


def _named(recipe: Recipe) -> Named:
    return Named(recipe.name, "", NO_BACKPRESSURE not in recipe.changes)


def _stock(request: CompareRequest, probes: bool) -> Recipe:
    """Without probes it is the release itself."""
    return Recipe(tag=request.tag, changes=(USDT,) if probes else (), graft=probes)


def _changed(request: CompareRequest, probes: bool) -> Recipe:
    return Recipe(tag=request.tag, changes=(NO_BACKPRESSURE, *((USDT,) if probes else ())), graft=True)


def _takes_probes() -> bool:
    return sys.platform not in ("darwin", "win32")
