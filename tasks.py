"""The tasks, as invoke finds them in a checkout. They are defined in src/nodekiln/cli."""

from nodekiln.cli.changing import change_check, change_list, change_new, change_refresh, change_show
from nodekiln.cli.inspection import doctor, inspect, list_binaries, path, probes, timings, verify
from nodekiln.cli.making import build, graft, import_tarball, patch
from nodekiln.cli.measuring import compare, report, trace
from nodekiln.cli.upkeep import check, clean, test

__all__ = [
    "build",
    "change_check",
    "change_list",
    "change_new",
    "change_refresh",
    "change_show",
    "check",
    "clean",
    "compare",
    "doctor",
    "graft",
    "import_tarball",
    "inspect",
    "list_binaries",
    "patch",
    "path",
    "probes",
    "report",
    "test",
    "timings",
    "trace",
    "verify",
]
