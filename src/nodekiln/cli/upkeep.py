"""Commands that keep this checkout in order: what was made, and its tests."""

from __future__ import annotations

import sys

from invoke.context import Context

from nodekiln.cli.options import HERE, TAG, command, read_settings


@command(
    help={
        "tag": TAG + "; without it, everything",
        "binaries": "with --no-binaries, published binaries stay",
        "yes": "don't ask",
        "dry-run": "only say what would be removed",
    }
)
def clean(
    context: Context, tag: str = "", binaries: bool = True, yes: bool = False, dry_run: bool = False
) -> None:
    """Remove working trees and binaries, after saying how much and asking."""
    from nodekiln.core.recipe import Tag
    from nodekiln.core.reporting import Reporter, confirm, format_size
    from nodekiln.pipelines.cleaning import find, remove

    settings, reporter = read_settings(context), Reporter()
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
    help={
        "slow": "run the slower ones, which are left out otherwise",
        "real": "run the tests on real Node trees and builds as well (NODEKILN_REPOSITORY has to name some)",
        "only": "pytest's -k: run the tests whose names match",
    }
)
def test(context: Context, slow: bool = False, real: bool = False, only: str = "") -> int:
    """Run the tests; the fast ones unless told otherwise."""
    from nodekiln.core.platform import cores
    from nodekiln.core.process import follow

    del context
    if real:  # a file's tests share builds that a second worker would make once more
        words = ["-n", str(cores()), "--dist", "loadfile", "tests"]
    else:  # tests wait for processes: a worker more than there are cores takes a sixth less time
        words = ["-n", str(cores() + 1), "tests/unit", "tests/integration"]
        words += ["-m", "slow" if slow else "not slow"]
    words += ["-k", only] if only else []
    return follow([sys.executable, "-m", "pytest", *words], cwd=HERE)


@command()
def check(context: Context) -> int:
    """Run the linter, the formatter and the type checker over everything."""
    from nodekiln.core.process import follow

    del context
    for words in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        if code := follow([sys.executable, "-m", *words], cwd=HERE):
            return code
    return 0
