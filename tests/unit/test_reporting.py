"""What is said while something runs, and how often."""

from __future__ import annotations

import io

from rich.console import Console

from nodekiln.reporting import Reporter


def test_a_warning_is_told_once_and_a_note_each_time() -> None:
    said = io.StringIO()
    reporter = Reporter(Console(file=said, soft_wrap=True))
    for _ in range(2):
        reporter.warn("ccache keeps 5 GB.")
        reporter.say("v20.1.0 is built")
    reporter.warn("ccache keeps 6 GB.")
    assert said.getvalue().splitlines() == [
        "warning: ccache keeps 5 GB.",
        "v20.1.0 is built",
        "v20.1.0 is built",
        "warning: ccache keeps 6 GB.",
    ]
