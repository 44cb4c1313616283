"""./inv change refresh: bring a change to another tag, or forward through all of them.

The change's folder is replaced by one rename, when everything is merged. Until then decisions are kept in a
folder of their own below build/refresh, from which --continue goes on.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nodekiln.changes import diff
from nodekiln.changes.folder import Row, replace_files
from nodekiln.changes.patchfile import parse
from nodekiln.changes.registry import FILE, Change, Registry
from nodekiln.core.edit import Plan, Read
from nodekiln.core.errors import PatchError, SourceError, UsageError
from nodekiln.core.recipe import HEADER, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.source.location import OFFICIAL, parse_location
from nodekiln.source.merge import merge
from nodekiln.source.tagset import Snapshot, TagSet
from nodekiln.verify.merging import Clash, Contents, Series, State, Step
from nodekiln.verify.ranges import Split, choose, edit_row, narrow, variant_name
from nodekiln.verify.trees import Trees

_STATE, _FILES = "refresh.json", "files"
_MARKER = re.compile(rb"^(<{7}|>{7}|\|{7}) ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class RefreshRequest:
    """The options; `tag` None: walk through all tags. `resume`: go on after decisions by hand."""

    change: str
    called: str
    """What the user typed: a name or a folder."""
    tag: Tag | None = None
    resume: bool = False
    repository: str | None = None
    accept_moved: bool = False


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The result: lines for people, and the tags that no variant fits. `folder` needs decisions."""

    lines: tuple[str, ...]
    unserved: tuple[Tag, ...] = ()
    folder: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 if done, 4 if a merge needs decisions."""
        return 0 if self.folder is None else PatchError.exit_code


@dataclass(slots=True)
class _Walk:
    """One run: the change as it is now, and the files of all tags."""

    registry: Registry
    change: Change
    available: tuple[Tag, ...]
    reads: Callable[[Tag], Read]
    settings: Settings
    called: str
    home: Path
    """Where decisions are kept."""
    resolved: Mapping[str, Contents]
    resolved_at: Tag | None
    """The tag that the decisions are for."""
    lines: list[str] = field(default_factory=list)

    @property
    def series(self) -> Series:
        return Series(self.change.entries, self.reads, partial(merge, environment=self.settings.environment))

    def reload(self) -> None:
        """Read the change again after its folder was replaced."""
        self.registry = Registry.of(self.settings)
        self.change = self.registry.get(self.change.name)


def refresh(request: RefreshRequest, settings: Settings, reporter: Reporter) -> Refreshed:
    """Refresh the change; raise PatchError, SourceError or UsageError, and then leave it as it was."""
    registry = Registry.of(settings)
    change = registry.get(request.change)
    if not change.entries:
        raise UsageError(f"{change.name} has no patches to refresh; rewrites have no lines to move.")
    home = settings.workspace.root / "refresh" / change.name
    with settings.workspace.lock(f"refresh-{change.name}", "change refresh", reporter.say):
        state = _load(home)
        repository: str | None
        if request.resume:
            if state is None:
                raise UsageError(f"There is no refresh of {change.name} to continue.")
            if state["folder"] != str(change.folder):
                raise UsageError(f"The refresh in {home} is of {state['folder']}.")
            tag = Tag.parse(state["tag"]) if state["tag"] else None
            repository = request.repository or state["repository"] or None
        else:
            if state is not None:
                raise UsageError(
                    f"A refresh of {change.name} waits for decisions in {home}.",
                    remedy=f"Run ./inv change refresh {request.called} --continue, or remove that folder.",
                )
            tag, repository = request.tag, request.repository
        named = repository or settings.repository or OFFICIAL
        walk = _open(change, registry, named, tag, state, request, settings, reporter, home)
        note = {"folder": str(change.folder), "tag": str(tag or ""), "repository": repository}
        result = _run(walk, tag, note)
        if result.folder is None and home.exists():
            shutil.rmtree(home)
        return result


def _open(
    change: Change,
    registry: Registry,
    named: str,
    tag: Tag | None,
    state: Mapping[str, str] | None,
    request: RefreshRequest,
    settings: Settings,
    reporter: Reporter,
    home: Path,
) -> _Walk:
    """Fetch the change's files of all tags that it serves."""
    resolved = {} if state is None else _resolved(home)
    location = parse_location(named, base=settings.cwd)
    tags = TagSet(settings.workspace, location, reporter)
    listed = tags.listed().tags
    bases = {entry.base for entry in change.entries if entry.base is not None}
    for wanted in {*bases, *([tag] if tag else [])} - listed.keys():
        raise SourceError(f"{location.shown} has no tag {wanted}.")
    if tag is not None and tag not in change.tags:
        raise UsageError(
            f"{change.name} serves tags {change.tags}, and {tag} is not one of them.",
            remedy=f"Widen `tags` in {change.folder / FILE}.",
        )
    commits = {each: commit for each, commit in listed.items() if each in change.tags or each in bases}
    paths = {path for entry in change.entries for path in entry.patch.paths}
    paths |= {path for contents in resolved.values() for path in contents}
    found = tags.look_up(commits, lambda _: (*sorted(paths), HEADER), accept_moved=request.accept_moved)
    for each in {*bases, *([tag] if tag else [])}:
        if isinstance(error := found[each], SourceError):
            raise error
    snapshots = {each: snapshot for each, snapshot in found.items() if isinstance(snapshot, Snapshot)}
    blobs = [blob for snapshot in snapshots.values() for blob in snapshot.blobs.values()]
    trees = Trees(tags, tags.fetch_blobs(blobs, snapshots))
    return _Walk(
        registry=registry,
        change=change,
        available=tuple(sorted(each for each in snapshots if each in change.tags)),
        reads=lambda each: trees.reader(each, snapshots[each]),
        settings=settings,
        called=request.called,
        home=home,
        resolved=resolved,
        resolved_at=None if state is None else Tag.parse(state["at"]),
    )


def _run(walk: _Walk, tag: Tag | None, note: Mapping[str, str | None]) -> Refreshed:
    if tag is not None:
        clash = _bring(walk, tag)
        if clash is not None:
            return _stop(walk, tag, clash, note)
        return _done(walk)
    start = min((entry.base for entry in walk.change.entries if entry.base is not None), default=None)
    for each in walk.available:
        if start is not None and each < start:
            continue
        clash = _bring(walk, each)
        if clash is not None:
            return _stop(walk, each, clash, note)
    return _done(walk)


def _bring(walk: _Walk, tag: Tag) -> Clash | None:
    """Bring the change to one tag, and write it; return what needs decisions."""
    steps, clash = walk.series.bring(tag, walk.resolved if tag == walk.resolved_at else {})
    if clash is not None:
        walk.lines += [_line(tag, step) for step in steps]
        return clash
    moved = [step for step in steps if step.state is not State.FITS]
    if moved:
        walk.lines += [_line(tag, step) for step in steps]
        _write(walk, tag, moved)
        walk.reload()
    return None


def _line(tag: Tag, step: Step) -> str:
    return f"{tag}: {step.entry.patch.name}: {step.state} ({step.summary})"


def _write(walk: _Walk, tag: Tag, moved: Sequence[Step]) -> None:
    """Replace the change's folder with one in which the steps' patches serve `tag`."""
    change = walk.change
    names = [step.entry.patch.name for step in moved]
    variants = {
        name: None if step.content is None else parse(name, step.content)
        for name, step in zip(names, moved, strict=True)
    }
    fits: dict[str, list[tuple[Tag, bool, bool]]] = {name: [] for name in variants}
    for each in walk.available:
        for name, (is_old, is_new) in walk.series.fitting(each, variants).items():
            fits[name].append((each, is_old, is_new))
    text = (change.folder / FILE).read_text(encoding="utf-8")
    files: dict[str, bytes | None] = {}
    for step in moved:
        entry, file = step.entry, step.entry.patch.name.partition("/")[2]
        split = choose(fits[entry.patch.name], entry.base or tag, tag)
        why = f"{'Upstream has it' if step.content is None else 'Merged'} at {tag}."
        if split.at is None and step.content is not None:
            text = edit_row(text, file, {"base": str(tag)})
            files[file] = step.content
            walk.lines.append(f"{file} is rewritten: it fits every tag that it fitted before")
            continue
        at = split.at or tag
        split = Split(at, split.is_above, split.gap)
        new = variant_name(file, split) if step.content is not None else ""
        above, below = narrow(entry.tags, lower=at), narrow(entry.tags, upper=at)
        mine, others = (above, below) if split.is_above else (below, above)
        slot = entry.slot.removesuffix(".patch")
        row = Row(new, mine, why, slot=slot, base=tag if new else None)
        text = edit_row(text, file, {"tags": others, "slot": slot}, row)
        if step.content is not None:
            files[new] = step.content
        walk.lines.append(f"{new or 'no patch'} serves {mine}, and {file} {others}")
    files[FILE] = text.encode()
    replace_files(change.folder, files)


def _done(walk: _Walk) -> Refreshed:
    """Report which tags the change fits now, by trying each."""
    unserved = [tag for tag in walk.available if not walk.series.fits(tag)]
    served = len(walk.available) - len(unserved)
    lines = [*walk.lines, f"{walk.change.name} fits {served} of {len(walk.available)} tags that it serves"]
    if unserved:
        lines.append(f"it does not fit {', '.join(map(str, unserved))}")
    return Refreshed(tuple(lines), tuple(unserved))


def _stop(walk: _Walk, tag: Tag, clash: Clash, note: Mapping[str, str | None]) -> Refreshed:
    """Write the folder with what needs decisions."""
    patch = clash.entry.patch.name.partition("/")[2]
    if tag != walk.resolved_at and (walk.home / "patches").exists():
        shutil.rmtree(walk.home / "patches")  # of a tag that is done
    folder = walk.home / "patches" / patch
    files = {f"{_FILES}/{path}": content for path, content in clash.contents.items()}
    files["wanted.patch"] = (walk.change.folder / patch).read_bytes()
    files["upstream.diff"] = _upstream(clash)
    if folder.exists():
        shutil.rmtree(folder)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    state = {**note, "at": str(tag), "patch": patch}
    (walk.home / _STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    lines = [*walk.lines]
    for path in clash.paths:
        missing = clash.theirs[path] is None
        what = f"is not in {tag} any more" if missing else "has conflicts"
        lines.append(f"{tag}: {clash.entry.patch.name}: {path} {what}")
    lines += [
        f"edit the files below {folder / _FILES} until no markers (<<<<<<<) are left;",
        "a file that is gone upstream: delete it there, or put the edited file at its new path",
        f"upstream.diff beside them is what upstream did since {clash.entry.base}, wanted.patch the patch",
        f"then: ./inv change refresh {walk.called} --continue",
    ]
    return Refreshed(tuple(lines), (tag,), folder)


def _upstream(clash: Clash) -> bytes:
    """Return what upstream did to the files that have conflicts, as a diff."""
    edits = []
    for path in clash.paths:
        base, theirs = clash.base[path], clash.theirs[path]
        if theirs is None:
            continue
        edit = diff.compare(path, base, theirs, "upstream")
        edits += [] if edit is None else [edit]
    return diff.render(Plan.of(edits))


def _load(home: Path) -> dict[str, str] | None:
    try:
        state = json.loads((home / _STATE).read_bytes())
        return {name: str(value) if value is not None else "" for name, value in state.items()}
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        raise UsageError(f"{home / _STATE} is damaged.", remedy=f"Remove {home}, and start again.") from None


def _resolved(home: Path) -> dict[str, Contents]:
    """Return the decided files of each patch; raise PatchError for markers that are left."""
    found: dict[str, Contents] = {}
    name = home.name
    for folder in sorted((home / "patches").iterdir()):
        top = folder / _FILES
        contents = {}
        for path in sorted(top.rglob("*")):
            if path.is_symlink():
                raise PatchError(f"{path} is a symbolic link; use a copy of the file.")
            if path.is_file():
                contents[path.relative_to(top).as_posix()] = path.read_bytes()
        left = [path for path, content in contents.items() if _MARKER.search(content)]
        if left:
            raise PatchError(
                f"Conflict markers are left in {', '.join(left)}, below {top}.",
                remedy="Decide each, remove the markers, and run this again.",
            )
        found[f"{name}/{folder.name}"] = contents
    return found
