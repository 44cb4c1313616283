"""./inv change new: make a change's folder from a diff, from commits, or from edits in a working tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.changes import diff, planner
from nodekiln.changes.folder import check_new, write_change
from nodekiln.changes.intake import (
    Draft,
    Fitted,
    file_name,
    fit,
    possible_paths,
    read_drafts,
    render,
    reverse,
)
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Edit, Plan
from nodekiln.core.errors import PatchError, SourceError, UsageError
from nodekiln.core.process import capture
from nodekiln.core.recipe import HEADER, Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.planning import check_version, open_tag
from nodekiln.source.merge import Labels, merge
from nodekiln.source.repository import Source
from nodekiln.source.tree import WorkingTree

_MAX_DIFF = 16 << 20
"""Bytes; Electron's 60 patches together have 0.4 MB."""
_TIMEOUT = 60.0
_ALL_TAGS = ">=0"
"""A hunk fits exactly or is refused, so a new change may be tried on any tag."""
_FORMAT = (
    *("format-patch", "--stdout", "--no-renames", "--no-ext-diff", "--no-textconv", "--full-index"),
    *("--no-signature", "--no-attach", "--no-thread", "--no-cover-letter", "--no-base", "--no-notes"),
    *("--no-to", "--no-cc", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--diff-algorithm=myers"),
)
_SEALED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


@dataclass(frozen=True, kw_only=True)
class NewChange:
    """The options: exactly one of `diffs`, `git` and `tree`. Diffs and commits were made for `tag`."""

    folder: Path
    tag: Tag | None = None
    diffs: tuple[Path, ...] = ()
    reverse: bool = False
    """Undo the diff or the commits, which the tag has."""
    git: tuple[Path, str] | None = None
    """A repository and a range of its commits."""
    tree: Tag | None = None
    repository: str | None = None
    summary: str = ""
    accept_moved: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A new change, its patches, and the tag that they were fitted to."""

    folder: Path
    tag: Tag
    patches: tuple[Fitted, ...]


def new_change(request: NewChange, settings: Settings, reporter: Reporter) -> Made:
    """Write the change's folder; raise UsageError, SourceError or PatchError, and then write nothing."""
    check_new(request.folder)
    if request.tree is not None:
        tag, patches, why = _from_tree(request, request.tree, settings, reporter)
    else:
        tag, patches, why = _from_drafts(request, settings, reporter)
    summary = " ".join((request.summary or patches[0].subject).split())
    write_change(request.folder, summary, why, _ALL_TAGS, tag, patches)
    return Made(request.folder, tag, patches)


def _from_drafts(
    request: NewChange, settings: Settings, reporter: Reporter
) -> tuple[Tag, tuple[Fitted, ...], str]:
    if request.git is not None:
        repository, commits = request.git
        drafts = _commits(repository, commits, settings.environment)
        tag, origin = (
            request.tag or _release_of(repository, commits, settings.environment),
            f"{repository.name} {commits}",
        )
    elif request.diffs and request.tag is not None:
        drafts = tuple(draft for file in request.diffs for draft in _read_diff(file))
        tag, origin = request.tag, ", ".join(file.name for file in request.diffs)
    else:
        raise UsageError("--from-diff requires --tag, the release that the diff was made for.")
    if request.reverse:
        drafts = tuple(map(reverse, reversed(drafts)))
    source = _open(tag, request, settings, reporter)
    paths = dict.fromkeys(path for draft in drafts for path in possible_paths(draft))
    source.need((HEADER, *paths))
    check_version(tag, source)
    patches = fit(drafts, tag, source.read)
    moved = [hunk.offset for patch in patches for hunk in patch.hunks if hunk.offset]
    if moved:
        furthest = max(moved, key=abs)
        reporter.say(f"{len(moved)} hunks were moved to their lines in {tag}, by {furthest:+d} at most")
    return tag, patches, f"Made from {origin}, for {tag}."


def _open(tag: Tag, request: NewChange, settings: Settings, reporter: Reporter) -> Source:
    recipe = Recipe(tag=tag)
    return open_tag(recipe, request.repository, settings, reporter, accept_moved=request.accept_moved)


def _read_diff(file: Path) -> tuple[Draft, ...]:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_DIFF + 1)
    except OSError as error:
        raise UsageError(f"--from-diff: reading {file} failed: {error.strerror}.") from None
    if len(content) > _MAX_DIFF:
        raise UsageError(f"--from-diff: {file} has more than {_MAX_DIFF >> 20} MiB.")
    return read_drafts(content, file.name)


def _commits(repository: Path, commits: str, environment: Mapping[str, str]) -> tuple[Draft, ...]:
    """Return one draft for each commit of A..B, in order; raise UsageError for another range or a merge."""
    first, dots, last = commits.partition("..")
    if not (first and dots and last) or commits.startswith("-") or last.startswith((".", "-")):
        raise UsageError(
            f"{commits!r} is not a range of commits.", remedy="Write A..B: the commits after A, up to B."
        )
    if not repository.is_dir():
        raise UsageError(f"--from-git: {repository} is not a folder.")
    if _git(repository, environment, "rev-list", "--min-parents=2", "--max-count=1", commits, "--").strip():
        raise UsageError(
            f"{commits} contains a merge, which is not a patch.",
            remedy="Name a range without merges: rebase it first, or make a diff and use --from-diff.",
        )
    content = _git(repository, environment, *_FORMAT, commits, "--")
    if not content:
        raise UsageError(f"{commits} contains no commits.")
    return read_drafts(content, repository.name)


def _release_of(repository: Path, commits: str, environment: Mapping[str, str]) -> Tag:
    """Return the release that the range's first side is; raise UsageError if it is none."""
    first = commits.partition("..")[0]
    names = (
        _git(repository, environment, "tag", "--points-at", f"{first}^{{commit}}")
        .decode(errors="replace")
        .split()
    )
    for name in names:
        try:
            return Tag.parse(name)
        except UsageError:
            continue
    raise UsageError(
        f"{first} of {repository} is not a release.", remedy="Name the release it is based on with --tag."
    )


def _git(repository: Path, environment: Mapping[str, str], *arguments: str) -> bytes:
    # fsmonitor is a program that the repository's own configuration may name.
    argv = ["git", "-C", str(repository), "-c", "core.fsmonitor=false", *arguments]
    done = capture(argv, env={**environment, **_SEALED}, timeout=_TIMEOUT)
    if done.returncode:
        reason = done.stderr.decode(errors="backslashreplace").strip().splitlines() or ["git failed"]
        raise UsageError(f"--from-git {repository}: {reason[0].removeprefix('fatal: ')}.")
    return done.stdout


def _from_tree(
    request: NewChange, tag: Tag, settings: Settings, reporter: Reporter
) -> tuple[Tag, tuple[Fitted, ...], str]:
    """Return one patch with what was edited by hand in the working tree of a build."""
    recipe = Recipe(tag=tag, default_args=settings.configure_args)
    tree = WorkingTree(settings.workspace, recipe.tree_name)
    with settings.workspace.lock(recipe.tree_name, "change new", reporter.say):
        found = tree.hand_edits()
    if not found.contents:
        raise PatchError(
            f"Nothing was edited by hand in {tree.source}.", remedy="Edit it, then run this again."
        )
    source = _open(tag, request, settings, reporter)
    if source.commit != found.commit:
        raise SourceError(
            f"{tree.source} is commit {found.commit[:12]}, and {tag} of {source.origin} is"
            f" {source.commit[:12]}.",
            remedy="Name the repository that the tree was built from with --repository.",
        )
    reason = request.summary or f"Edits by hand in {tag}"
    source.need((HEADER, *found.contents))
    written = {path: ids.after for path, ids in found.applied.items() if path in found.contents}
    planned = _planned(written, tag, source, settings)
    edits = []
    for path, content in found.contents.items():
        if content is None:
            raise PatchError(f"{path} was deleted by hand, and a change can't remove files.")
        base = source.read(path)
        if path in planned:
            content = _without_plan(content, planned[path], base, path, settings)
        edit = diff.compare(path, base, content, reason)
        if edit is not None:
            edits.append(edit)
    body = "Edited by hand in a working tree; replace this line with the reason."
    patch = Fitted(file_name(1, reason), reason, render(reason, body, edits), ())
    return tag, (patch,), f"Edits made by hand in the working tree of {tag}."


def _planned(written: dict[str, str], tag: Tag, source: Source, settings: Settings) -> dict[str, Edit]:
    """Return the edits that nodekiln had made in these files, found by git's ids of the results."""
    found: dict[str, Edit] = {}
    registry = Registry.of(settings)
    for changes in registry.combinations(registry.names) if written else ():
        recipe = Recipe(tag=tag, changes=changes)
        source.need(planner.paths(recipe, registry))
        plan = planner.plan(recipe, source.read, registry)
        if isinstance(plan, Plan):
            found |= {edit.path: edit for edit in plan.edits if written.get(edit.path) == edit.after_id}
    for path in written.keys() - found.keys():
        raise PatchError(
            f"{path} had been changed by a change that is no longer known, so your edits can't be separated.",
            remedy="Build the tag once more with that change, or make a diff and use --from-diff.",
        )
    return found


def _without_plan(content: bytes, edit: Edit, base: bytes | None, path: str, settings: Settings) -> bytes:
    """Return the file with only the edits by hand; raise PatchError where they touch the plan's lines."""
    labels = Labels("edited by hand", "as built", "the release")
    merged = merge(content, edit.after, base or b"", labels, settings.environment)
    if merged.conflicts:
        raise PatchError(
            f"{path}: your edits touch lines that {', '.join(edit.reasons)} changes.",
            remedy="Edit a tree without that change: ./inv build TAG --no-probes",
        )
    return merged.content
