"""The commands, as invoke finds them; they stand in commands/, and what they do in src/nodekiln."""

from commands.keeping import check, clean, test
from commands.looking import doctor, inspect, list_binaries, path, probes
from commands.making import build, graft, import_tarball, patch
from commands.measuring import trace

__all__ = [
    "build",
    "check",
    "clean",
    "doctor",
    "graft",
    "import_tarball",
    "inspect",
    "list_binaries",
    "patch",
    "path",
    "probes",
    "test",
    "trace",
]
