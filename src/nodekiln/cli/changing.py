"""Commands for changes: list them, check them, make them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from nodekiln.cli.command import (
    FORMAT,
    MOVED,
    REPOSITORY,
    command,
    is_change_path,
    is_checkout,
    is_json,
    known_changes,
    make_reporter,
    read_settings,
    require,
)
from nodekiln.core.errors import PatchError, UsageError

if TYPE_CHECKING:
    from nodekiln.changes.registry import Change
    from nodekiln.core.settings import Settings

NAME = "name or folder of a change"


@command(name="change list", help={"format": FORMAT})
def change_list(context: Context, format: str = "text") -> None:  # noqa: A002 (the option's name)
    """List the changes that exist.

    They are in patches/, and in the folder that NODEKILN_PATCHES names.
    """
    from nodekiln.changes.registry import Registry, describe
    from nodekiln.core.reporting import show_table

    as_json, settings = is_json(format), read_settings(context)
    registry = Registry.of(settings)
    rows = [(name, summary, str(registry.folder(name))) for name, summary in describe(registry).items()]
    if as_json:
        print(
            json.dumps([dict(zip(("name", "summary", "folder"), row, strict=True)) for row in rows], indent=2)
        )
    else:
        show_table(("name", "summary", "folder"), rows)


@command(name="change show", positional=("name",), help={"name": NAME, "format": FORMAT})
def change_show(context: Context, name: str = "", format: str = "text") -> None:  # noqa: A002
    """Print what a change is: its tags, patches and rewrites.

    Reads only its folder.
    """
    from nodekiln.core.reporting import print_lines

    as_json = is_json(format)
    found = _find(context, name)[1]
    if as_json:
        print(json.dumps(_as_data(found), indent=2))
    else:
        print_lines(_lines(found))


@command(name="change check", positional=("name",), help={"name": NAME})
def change_check(context: Context, name: str = "") -> None:
    """Check that a change's folder is complete and valid.

    Exit code 4 if it is not. ./inv verify checks which releases the change fits.
    """
    from nodekiln.changes.rewrite import check_query

    found = _find(context, name)[1]
    patches, rewrites = len(found.entries), len(found.queries)
    for number, row in enumerate(found.queries, 1):
        if reason := check_query(row):
            raise PatchError(f"The change in {found.folder} is invalid: rewrite {number}: {reason}.")
    counts = f"{patches} patch{'es' * (patches != 1)}, {rewrites} rewrite{'s' * (rewrites != 1)}"
    print(f"{found.name} is valid: {counts}, sha256 {found.sha256}")


@command(
    name="change new",
    positional=("name", "commits"),
    iterable=["from_diff"],
    help={
        "name": "name of the change, made in patches/ or NODEKILN_PATCHES; or the path of its folder",
        "commits": "with --from-git, the range A..B",
        "from-diff": "file with a diff, or a mailbox of patches; repeatable, in order",
        "from-git": "git repository; the next word is the range: --from-git REPO A..B, one patch per commit",
        "from-tree": "tag: take what was edited by hand in the working tree that build made of it",
        "tag": "release that the diff or the commits were made for (commits: default A, if that is one)",
        "reverse": "undo the diff or the commits, which the tag has already",
        "summary": "one line for change.toml (default: the first patch's subject)",
        "repository": REPOSITORY,
        "accept-moved-tag": MOVED,
    },
)
def change_new(
    context: Context,
    name: str = "",
    commits: str = "",
    from_diff: Sequence[str] | None = None,
    from_git: str = "",
    from_tree: str = "",
    tag: str = "",
    reverse: bool = False,
    summary: str = "",
    repository: str = "",
    accept_moved_tag: bool = False,
) -> None:
    """Make a change from a diff, from commits or from edits by hand.

    Writes a folder with change.toml and patches, fitted to the tag, and prints its path.
    """
    from nodekiln.core.recipe import Tag
    from nodekiln.pipelines.new_change import NewChange, new_change

    word = require("--name", name, "my-change")
    if [bool(from_diff), bool(from_git), bool(from_tree)].count(True) != 1:
        raise UsageError("change new takes one of --from-diff, --from-git and --from-tree.")
    if bool(from_git) != bool(commits):
        raise UsageError("--from-git takes a repository and a range of commits: --from-git REPO A..B.")
    if from_tree and tag:
        raise UsageError("--from-tree names the tag itself: leave out --tag.")
    settings, reporter = read_settings(context), make_reporter(context)
    request = NewChange(
        folder=_new_folder(word, settings),
        tag=Tag.parse(tag) if tag else None,
        reverse=reverse,
        diffs=tuple(settings.cwd / file for file in from_diff or ()),
        git=(settings.cwd / from_git, commits) if from_git else None,
        tree=Tag.parse(from_tree) if from_tree else None,
        repository=repository or None,
        summary=summary,
        accept_moved=accept_moved_tag,
    )
    made = new_change(request, settings, reporter)
    count = len(made.patches)
    reporter.say(f"{count} patch{'es' * (count != 1)} for {made.tag}; check other releases with ./inv verify")
    print(made.folder)


@command(
    name="change refresh",
    positional=("name",),
    help={
        "name": NAME,
        "tag": "release that the change should fit",
        "all-tags": "walk forward through all tags from the oldest that a patch was made for",
        "continue": "go on after you decided the conflicts",
        "repository": REPOSITORY,
        "accept-moved-tag": MOVED,
    },
)
def change_refresh(
    context: Context,
    name: str = "",
    tag: str = "",
    all_tags: bool = False,
    continue_: bool = False,
    repository: str = "",
    accept_moved_tag: bool = False,
) -> int:
    """Bring a change's patches to another release.

    Patches that do not fit are merged three-way, and rewritten or given a variant with a range of tags. Exit
    code 4 if a merge has conflicts: the folder with them is printed, and --continue goes on from there.
    """
    from nodekiln.core.recipe import Tag
    from nodekiln.verify.refresh import RefreshRequest, refresh

    if [bool(tag), all_tags, continue_].count(True) != 1:
        raise UsageError("change refresh takes one of --tag, --all-tags and --continue.")
    settings, found = _find(context, name)
    request = RefreshRequest(
        change=found.name,
        called=name,
        tag=Tag.parse(tag) if tag else None,
        resume=continue_,
        repository=repository or None,
        accept_moved=accept_moved_tag,
    )
    reporter = make_reporter(context)
    result = refresh(request, settings, reporter)
    for line in result.lines:
        reporter.say(line)
    if result.folder is not None:
        print(result.folder)
    return result.exit_code


def _new_folder(word: str, settings: Settings) -> Path:
    """Return the folder of a new change: a path as it is, a name below the folder of changes."""
    if is_change_path(word):
        return Path(os.path.normpath(settings.cwd / word))
    own = settings.patches if is_checkout() else settings.cwd / "patches"
    return (settings.more_patches or own) / word


def _find(context: Context, word: str) -> tuple[Settings, Change]:
    """Return the change of that name or folder, with the settings that know it."""
    from nodekiln.changes.registry import Registry

    words = [require("--name", word, "usdt")]
    settings = read_settings(context, words)
    [name] = known_changes(settings, words)
    return settings, Registry.of(settings).get(name)


def _as_data(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "summary": change.summary,
        "why": change.why,
        "tags": str(change.tags),
        "folder": str(change.folder),
        "sha256": change.sha256,
        "conflicts": list(change.conflicts),
        "configure_args": list(change.configure.args),
        "patches": [
            {
                "file": entry.patch.name.partition("/")[2],
                "subject": entry.patch.subject,
                "slot": entry.slot,
                "tags": str(entry.tags),
                "base": None if entry.base is None else str(entry.base),
                "why": entry.why,
                "paths": list(entry.patch.paths),
            }
            for entry in change.entries
        ],
        "check_script": change.check.script or None,
        "failing_tests": dict(change.failing_tests),
        "rewrites": [
            {"files": list(row.files), "matches": row.matches, "why": row.why} for row in change.queries
        ],
    }


def _lines(change: Change) -> list[str]:
    facts = {
        "change": change.name,
        "is": change.summary,
        "why": change.why,
        "tags": str(change.tags),
        "folder": str(change.folder),
        "sha256": change.sha256,
    }
    lines = [f"{name:8}{value}" for name, value in facts.items()]
    for entry in change.entries:
        base = "" if entry.base is None else f", made for {entry.base}"
        lines += [f"{'patch':8}{entry.patch.name.partition('/')[2]}: {entry.patch.subject}"]
        lines += [f"{'':8}  tags {entry.tags}{base}; {', '.join(entry.patch.paths)}"]
    if change.check.script:
        lines.append(f"{'check':8}{change.check.script}")
    lines += [f"{'fails':8}{test}: {why}" for test, why in change.failing_tests.items()]
    for row in change.queries:
        lines += [f"{'rewrite':8}{', '.join(row.files)}: {row.why}"]
    return lines


TASKS = (change_list, change_show, change_check, change_new, change_refresh)
