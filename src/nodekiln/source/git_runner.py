"""Run git on the mirror through GitPython, with settings that no user's configuration can change.

The caller's GIT_* variables are removed from the process at startup (cli), because GitPython passes this
process's environment to its children.
"""

from __future__ import annotations

import io
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import cast

import git

from nodekiln.core.errors import ToolchainError
from nodekiln.core.process import end_group

OLDEST_GIT = (2, 36)
"""fetch --refetch came with it; init --object-format with 2.29."""
_SETTINGS = {
    "core.autocrlf": "false",  # carriage returns break gyp's arguments (nodejs/node#41476)
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",  # a concurrent fetch may use objects that no ref names yet
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    # Give up on a server that is silent for a minute: git sends a keep-alive every 5 s.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
}

_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    # Not protocol.allow=never: a user's protocol.ext.allow=always would win, and ext:: runs commands.
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",
}

_RECEIVING = re.compile(r"Receiving objects: +\d+% \((\d+)/(\d+)\)(?:, ([^,]+))?")


@cache
def check_version() -> None:
    """Raise ToolchainError if git is older than OLDEST_GIT."""
    if (found := git.Git().version_info) and found[:2] < OLDEST_GIT:
        oldest, version = (".".join(map(str, each)) for each in (OLDEST_GIT, found))
        raise ToolchainError(
            f"git {version} is too old: nodekiln requires {oldest} or later.",
            remedy="Install a newer git, and put it first on the PATH.",
        )


class GitError(Exception):
    """git failed: `status` is its exit code, `stderr` its output."""

    def __init__(self, arguments: tuple[str, ...], status: int, stderr: str) -> None:
        super().__init__(f"git {' '.join(arguments[:3])}: {stderr.strip()}")
        self.status = status
        self.stderr = stderr.strip()


@dataclass(frozen=True)
class GitRunner:
    """Run git commands on `git_dir`, with `environment` added (GIT_INDEX_FILE, GIT_WORK_TREE, ...)."""

    git_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
        """Return the command's stdout; raise GitError if it fails or takes over `timeout` seconds."""
        with self._started(arguments, stdin, with_stdout=True) as child:
            try:
                stdout, stderr = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise GitError(
                    arguments, -signal.SIGTERM, f"no answer within {timeout:.0f} seconds"
                ) from None
        if child.returncode != 0:
            raise GitError(arguments, child.returncode, stderr.decode(errors="backslashreplace"))
        return bytes(stdout)

    def fetch(self, *arguments: str, on_objects: Callable[[int, int, str], None], stdin: bytes) -> None:
        """Run a fetch; pass received and expected objects, and the size so far, to `on_objects`.

        Raises GitError if it fails, with git's output minus the progress lines.
        """
        output: list[str] = []
        with self._started(arguments, stdin, with_stdout=False) as child:
            assert child.stderr is not None  # noqa: S101 (GitPython pipes it; this tells mypy)
            # Universal newlines: git ends a line that it will overwrite with a carriage return.
            with io.TextIOWrapper(
                cast(io.BufferedReader, child.stderr), "utf-8", "backslashreplace"
            ) as lines:
                for line in lines:
                    if match := _RECEIVING.search(line):
                        on_objects(int(match[1]), int(match[2]), match[3] or "")
                    elif "% (" not in line:
                        output.append(line)
            child.wait()
        if child.returncode != 0:
            raise GitError(arguments, child.returncode, "".join(output))

    @contextmanager
    def feed(self, *arguments: str) -> Iterator[Callable[[bytes], object]]:
        """Run a command and yield a function that writes to its stdin, which is closed at the end of the
        block.

        Raises GitError if the command fails, also from inside the block if it exits before reading
        everything.
        """
        with self._started(arguments, None, with_stdout=False) as child:
            stdin, stderr = child.stdin, child.stderr
            assert stdin is not None  # noqa: S101 (a pipe was asked for; this tells mypy)
            assert stderr is not None  # noqa: S101 (GitPython pipes it; this tells mypy)

            def ended() -> GitError:
                output = stderr.read().decode(errors="backslashreplace")
                return GitError(arguments, child.wait(), output or "exited early")

            def write(piece: bytes) -> None:
                try:
                    stdin.write(piece)
                except BrokenPipeError:
                    raise ended() from None

            yield write
            try:
                stdin.close()
            except BrokenPipeError:
                raise ended() from None
            if child.wait() != 0:
                raise ended()

    @contextmanager
    def _started(
        self, arguments: tuple[str, ...], stdin: bytes | None, *, with_stdout: bool
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Yield the running command, which reads `stdin` (None: a pipe); terminate it if the block fails."""
        check_version()
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with TemporaryFile() as stream:  # GitPython takes files, and a pipe could fill up before git reads it
            stream.write(stdin or b"")
            stream.seek(0)
            # A session of its own: git's children (ssh, upload-pack) hold its pipes open and have to end with
            # it, and ssh without a terminal fails where it would ask for a password.
            started = git.Git().execute(
                ["git", "--git-dir", str(self.git_dir), *settings, *arguments],
                istream=subprocess.PIPE if stdin is None else stream,
                as_process=True,
                with_stdout=with_stdout,
                env={**_ENVIRONMENT, **self.environment},
                start_new_session=True,
            )
            child = started.proc
            assert child is not None  # noqa: S101 (it has just been started; this tells mypy)
            try:
                yield child
            except BaseException:
                end_group(child, (signal.SIGTERM,))
                raise
            finally:
                for pipe in (child.stdin, child.stdout, child.stderr):
                    if pipe is not None:
                        with suppress(BrokenPipeError):  # what git left unread
                            pipe.close()


# By default git unpacks fewer than 100 objects to loose ones, and there would be no single pack to move.
# Level 1 without deltas: v20 takes 3 s and 45 MB; with git's defaults 6 s and 35 MB.
_FAST_IMPORT_SETTINGS = (
    "-c",
    "fastimport.unpackLimit=0",
    "-c",
    "pack.compression=1",
    "-c",
    "core.compression=1",
)
_FAST_IMPORT = ("fast-import", "--quiet", "--done", "--depth=0", "--date-format=raw")


class Stream:
    """A fast-import stream. Each call raises GitError if git has exited."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def blob(self, mark: int, size: int, pieces: Iterable[bytes]) -> None:
        """Write a blob of `size` bytes that later commands refer to by `mark` (1 or more)."""
        self._write(b"blob\nmark :%d\ndata %d\n" % (mark, size))
        for piece in pieces:
            self._write(piece)

    def commit(self, ref: str, message: str, files: Iterable[tuple[str, str, int]]) -> None:
        """Write a commit without parents to `ref`; `files` are paths, modes and marks of blobs.

        Date and committer are fixed, so that the same content gives the same commit on every machine.
        """
        text = message.encode()
        self._write(f"commit {ref}\ncommitter nodekiln <nodekiln@localhost> 0 +0000\n".encode())
        self._write(b"data %d\n%s" % (len(text), text))
        for path, mode, mark in files:
            quoted = path.replace("\\", "\\\\").replace('"', '\\"')
            self._write(f'M {mode} :{mark} "{quoted}"\n'.encode())
        self._write(b"\n")


@contextmanager
def fast_import(repository: Path) -> Iterator[Stream]:
    """Yield a stream whose content is in the repository once the block has ended without an error.

    Raises GitError if git fails, with the line that gives the reason.
    """
    try:
        with GitRunner(repository).feed(*_FAST_IMPORT_SETTINGS, *_FAST_IMPORT) as write:
            yield Stream(write)
            write(b"done\n")
    except GitError as error:
        # The other lines are about a crash report in the repository.
        fatal = next((line for line in error.stderr.splitlines() if line.startswith("fatal:")), error.stderr)
        raise GitError(_FAST_IMPORT[:1], error.status, fatal) from None
