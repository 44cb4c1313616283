"""Runs git on the mirror through GitPython, with settings that no user's configuration can change.

The caller's GIT_* variables are scrubbed from the process at the edge (tasks.py), because GitPython hands its
children this process's environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from nodekiln.errors import SourceError

try:
    import git
except ImportError:  # GitPython looks for git when it is imported
    raise SourceError(
        "There is no git on the PATH.",
        remedy="Install git (apt install git, dnf install git, brew install git).",
    ) from None

_SETTINGS = {
    "core.autocrlf": "false",  # carriage returns break gyp's arguments (nodejs/node#41476)
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",  # objects that no ref names yet are in use by a fetch in the next process
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.ssh.allow": "always",
    "protocol.file.allow": "always",
}


class GitError(Exception):
    """git ended with an error: `status` is its exit code, `stderr` what it said."""

    def __init__(self, arguments: tuple[str, ...], status: int, stderr: str) -> None:
        super().__init__(f"git {' '.join(arguments[:3])}: {stderr.strip()}")
        self.status = status
        self.stderr = stderr.strip()


@dataclass(frozen=True)
class GitRunner:
    """Runs git commands on `git_dir`, with `environment` added (GIT_INDEX_FILE, GIT_WORK_TREE, ...)."""

    git_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
        """Returns what the command prints, as bytes; raises GitError where it fails or takes too long."""
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with TemporaryFile() as stream:  # GitPython takes files, and a pipe could fill up before git reads it
            stream.write(stdin)
            stream.seek(0)
            status, stdout, stderr = git.Git().execute(
                ["git", "--git-dir", str(self.git_dir), *settings, *arguments],
                istream=stream,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                kill_after_timeout=timeout,
                env={"GIT_TERMINAL_PROMPT": "0", **self.environment},
            )
        said = stderr if isinstance(stderr, str) else bytes(stderr).decode(errors="backslashreplace")
        if status != 0:
            raise GitError(arguments, int(status), said)
        assert isinstance(stdout, bytes)  # noqa: S101 (stdout_as_string=False; this tells mypy)
        return stdout
