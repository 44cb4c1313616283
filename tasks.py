"""The commands, as invoke finds them; they stand in commands/, and what they do in src/nodekiln."""

from commands.keeping import check, clean, test
from commands.looking import doctor, inspect, list_binaries, path, probes, timings, verify
from commands.making import build, graft, import_tarball, patch
from commands.measuring import compare, report, trace

__all__ = [
    "build",
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
