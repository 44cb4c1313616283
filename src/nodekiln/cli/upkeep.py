"""Commands that maintain a checkout: remove what was made, run the tests and checks."""

from __future__ import annotations

import sys

from invoke.context import Context

from nodekiln.cli.command import CHECKOUT, command, make_reporter, read_settings


@command(
    positional=("tag",),
    help={
        "tag": "release, as v22.20.0 (default: everything)",
        "binaries": "keep published binaries",
        "yes": "do not ask",
        "dry-run": "only print what would be removed",
    },
)
def clean(
    context: Context, tag: str = "", binaries: bool = True, yes: bool = False, dry_run: bool = False
) -> None:
    """Remove working trees and binaries, after asking.

    Lists their sizes first. Inputs of comparisons are removed too, reports are kept.
    """
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import confirm, format_size
    from nodekiln.pipelines.cleaning import find, remove

    settings, reporter = read_settings(context), make_reporter(context)
    found = find(settings.workspace, Tag.parse(tag) if tag else None, binaries=binaries)
    if not found:
        reporter.say("nothing to remove")
        return
    for item in found:
        reporter.say(f"{format_size(item.size):>10}  {item.folder}")
    total = format_size(sum(item.size for item in found))
    if dry_run:
        reporter.say(f"would remove {total}")
    elif yes or confirm(f"Remove these {total}?"):
        remove(settings.workspace, found, reporter)
        reporter.say(f"removed {total}")
    else:
        reporter.say("nothing was removed")


@command(
    only_in_checkout=True,
    help={
        "slow": "run the slow tests instead of the fast ones",
        "real": "also run the tests on real Node trees and builds (NODEKILN_REPOSITORY names the repository)",
        "only": "run the tests whose names match (pytest -k)",
    },
)
def test(context: Context, slow: bool = False, real: bool = False, only: str = "") -> int:
    """Run the fast tests."""
    from nodekiln.core.platform import cores
    from nodekiln.core.process import follow

    del context
    if real:  # tests of one file share builds, which a second worker would make again
        words = ["-n", str(cores()), "--dist", "loadfile", "tests"]
    else:  # tests wait for processes: one worker more than cores takes a sixth less time
        words = ["-n", str(cores() + 1), "tests/unit", "tests/integration", *(["tests/fuzz"] if slow else [])]
        words += ["-m", "slow" if slow else "not slow"]
    words += ["-k", only] if only else []
    return follow([sys.executable, "-m", "pytest", *words], cwd=CHECKOUT)


@command(only_in_checkout=True)
def check(context: Context) -> int:
    """Run linter, formatter and type checker."""
    from nodekiln.core.process import follow

    del context
    for words in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        if code := follow([sys.executable, "-m", *words], cwd=CHECKOUT):
            return code
    return 0


TASKS = (clean, test, check)
