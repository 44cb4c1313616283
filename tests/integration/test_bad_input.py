"""Everything that a user can get wrong ends in an exit code and one message, and leaves nothing half-made."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Done, Kiln

CHECKOUT = Path(__file__).resolve().parents[2]
USAGE, TOOLCHAIN, PATCH, BUILD, SOURCE, CHECK = 2, 3, 4, 5, 6, 7
STAYS: Mapping[int, frozenset[str]] = {
    USAGE: frozenset(),
    TOOLCHAIN: frozenset({"locks", "mirror.git"}),
    PATCH: frozenset({"locks", "mirror.git"}),
    SOURCE: frozenset({"locks", "mirror.git"}),
    BUILD: frozenset({"locks", "mirror.git", "trees", "binaries", "timings"}),
    CHECK: frozenset({"locks", "mirror.git", "trees", "binaries", "timings"}),
}
"""What a build folder may hold after a failure: what was fetched, and from the compilation on the tree."""
SLOW = ("tree, ", "PATH, ", "compiler, ", "tarball, ", "invoke.yaml, ", "build folder, ")
LEFTOVERS = (".new", ".staging-", ".former-", ".import-", "tmp_", ".nodekiln-", ".holder.json", "staging")


@dataclass(frozen=True)
class Row:
    """One wrong thing; {here} in words and environment is the folder with the files of `offered`."""

    name: str
    code: int
    words: tuple[str, ...]
    told: tuple[str, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    config: str | None = None
    untold: str = "Traceback"


def _tag(name: str, tag: str, *told: str, code: int = USAGE) -> Row:
    return Row(f"tag, {name}", code, ("patch", f"--tag={tag}", "--no-backpressure"), told)


def _repository(name: str, where: str, *told: str, code: int = USAGE, untold: str = "Traceback") -> Row:
    words = ("patch", "--tag=v20.1.0", f"--repository={where}")
    return Row(f"repository, {name}", code, words, told, untold=untold)


def _config(name: str, text: str, *told: str) -> Row:
    env = {"NODEKILN_REPOSITORY": None}
    return Row(f"invoke.yaml, {name}", USAGE, ("patch", "--tag=v20.1.0"), told, env, config=text)


def _build(name: str, code: int, words: str, *told: str, **more: str | None) -> Row:
    return Row(name, code, ("build", "--tag=v20.1.0", *words.split("|")), told, env=more)


def _tree(name: str, code: int, tag: str, *told: str) -> Row:
    task = "patch" if code == PATCH else "build"  # both plan first
    return Row(f"tree, {name}", code, (task, f"--tag={tag}", "--no-backpressure", "--no-probes"), told)


def _tarball(name: str, file: str, *told: str, more: tuple[str, ...] = ()) -> Row:
    words = ("import-tarball", "--tag=v20.1.0", f"--file={file}", *more)
    return Row(f"tarball, {name}", SOURCE, words, told)


def _path(name: str, code: int, without: str, *told: str, words: str = "--no-probes") -> Row:
    return Row(f"PATH, {name}", code, ("build", "--tag=v20.1.0", words), told, without=tuple(without.split()))


ROWS = (
    _tag("garbage", "newest", "'newest' is not a tag", "v22.20.0"),
    _tag("an option", "--upload-pack=id", "'--upload-pack=id' is not a tag"),
    _tag("a path", "../../etc/passwd", "is not a tag"),
    _tag("a ref", "refs/tags/v20.1.0", "is not a tag"),
    _tag("a candidate", "v20.1.0-rc.1", "is not a tag"),
    _tag("major without releases", "v77", "'v77'", code=SOURCE),
    _tag("a leading zero", "v20.01.0", "is not a tag"),
    _tag("other digits", "v\uff12\uff10.1.0", "is not a tag"),
    _tag("a line end", "v20.1.0\n", "'v20.1.0\\n' is not a tag"),
    _tag("a terminal's escape", "\x1b[31mv20", "'\\x1b[31mv20' is not a tag"),
    _tag("bytes that are no text", os.fsdecode(b"v\xff\xfe"), "is not a tag"),
    _tag("very long", "v" + "1" * 5000, "is not a tag"),
    _tag("absent", "v20.1.9", "no tag v20.1.9", "v20.1.1", code=SOURCE),
    _tag("on a file", "v20.9.8", "names a blob, not a commit", code=SOURCE),
    _tag("on a folder", "v20.9.9", "names a tree, not a commit", code=SOURCE),
    Row("tag, missing", USAGE, ("patch",), ("--tag is required", "--tag v22.20.0")),
    Row("tag, without value", USAGE, ("patch", "--tag"), ("--tag requires a value", "--tag=VALUE")),
    _repository("that runs a command", "ext::touch {here}/owned", "Invalid repository"),
    _repository("an option", "--upload-pack=touch owned", "Invalid repository"),
    _repository("http", "http://127.0.0.1:1/node.git", "Invalid repository", "https://"),
    _repository("git://", "git://127.0.0.1:1/node.git", "Invalid repository"),
    _repository("a host that is an option", "ssh://-oProxyCommand=id/node", "Invalid repository"),
    _repository("user@host with an option", "git@-oProxyCommand=id:node", "Invalid repository"),
    _repository("no folder", "nowhere", "nowhere is not a folder"),
    _repository("a path that is gone", "{here}/nowhere", "nowhere does not exist", code=SOURCE),
    _repository("a file", "{here}/words.txt", "words.txt is not a folder"),
    _repository("a file URL to nothing", "file:///nowhere/node.git", "/nowhere/node.git", code=SOURCE),
    _repository("an empty folder", "{here}/empty", "is not a git repository", code=SOURCE),
    _repository("an empty repository", "{here}/new.git", "no tag v20.1.0", "no release tags", code=SOURCE),
    _repository(
        "not to be reached", "https://127.0.0.1:1/n.git", "Fetching v20.1.0 from", "tarball", code=SOURCE
    ),
    _repository("a port that is none", "https://localhost:99999/node.git", "Invalid repository"),
    _repository("with a line end", "https://localhost/\nnode.git", "Invalid repository"),
    _repository("white space", " ", "Invalid repository"),
    _repository(
        "with a password",
        "https://me:hunter2@127.0.0.1:1/node.git",
        "https://127.0.0.1:1/node.git",
        code=SOURCE,
        untold="hunter2",
    ),
    _repository(
        "refused, with a password",
        "http://me:hunter2@127.0.0.1:1/node.git",
        "http://***@127.0.0.1:1",
        untold="hunter2",
    ),
    Row(
        "NODEKILN_REPOSITORY, bad",
        USAGE,
        ("patch", "--tag=v20.1.0"),
        ("Invalid repository 'ext::id'",),
        env={"NODEKILN_REPOSITORY": "ext::id"},
    ),
    _config("broken", "nodekiln: [", "invoke.yaml"),
    _config("no mapping", "- nodekiln\n", "invoke.yaml"),
    _config("empty text for a mapping", "nodekiln: yes please\n", "invoke.yaml", "must be a mapping"),
    _config(
        "unknown key", "nodekiln:\n  repo: x\n", "Unknown settings in invoke.yaml: repo.", "`repository`"
    ),
    _config("repository a number", "nodekiln:\n  repository: 5\n", "Invalid repository in invoke.yaml: 5"),
    _config("repository a command", "nodekiln:\n  repository: 'ext::id'\n", "Invalid repository 'ext::id'"),
    _config("arguments a text", "nodekiln:\n  configure_args: --debug\n", "should be a list"),
    _config("arguments no options", "nodekiln:\n  configure_args: [debug]\n", "'debug' is not an option"),
    _config("arguments numbers", "nodekiln:\n  configure_args: [5]\n", "5 is not an option"),
    _build("configure file, missing", USAGE, "", "nofile", NODEKILN_CONFIGURE_FILE="{here}/nofile"),
    _build("configure file, binary", USAGE, "", "not a text file", NODEKILN_CONFIGURE_FILE="{here}/binary"),
    _build("configure file, a folder", USAGE, "--configure-file={here}/empty", "Is a directory"),
    _build("configure file, words", USAGE, "--configure-file={here}/words.txt", "'some words'"),
    _build("configure arguments, quote", USAGE, "--configure-args=--x='", "can't be split", "quot"),
    _build("configure arguments, word", USAGE, "--configure-args=--prefix /opt", "'/opt' is not an option"),
    _build("configure arguments, escape", USAGE, "--configure-args=--x=\x1b[0m", "is not an option"),
    _build("name, a path", USAGE, "--name=../up", "'../up' can't be part"),
    _build("name, taken", USAGE, "--name=usdt", "'usdt' can't be part"),
    _build("name, capitals", USAGE, "--name=Debug", "a-z"),
    _build("jobs, none", USAGE, "--jobs=0", "--jobs takes a number", "'0'"),
    _build("jobs, negative", USAGE, "--jobs=-1", "'-1'"),
    _build("jobs, no number", USAGE, "--jobs=x", "'x'"),
    _build("jobs, too many", USAGE, "--jobs=1000000000", "'1000000000'"),
    _build("jobs, a float", USAGE, "--jobs=1e9", "'1e9'"),
    Row("format, unknown", USAGE, ("list", "--format=xml"), ("text or json", "'xml'")),
    Row("format of doctor, unknown", USAGE, ("doctor", "--format=yaml"), ("text or json", "'yaml'")),
    Row("task, unknown", USAGE, ("bild",), ("bild", "Did you mean build?", "--list")),
    Row("option, unknown", USAGE, ("build", "--tga=v20.1.0"), ("--tga", "Did you mean --tag?", "--help")),
    Row("word, superfluous", USAGE, ("list", "everything"), ("everything", "list --help")),
    Row("path, a path", USAGE, ("path", "../../etc"), ("'../../etc' is not the name",)),
    Row("path, absent", USAGE, ("path", "v1.2.3"), ("v1.2.3 not found", "none yet", "./inv build")),
    Row("path, without name", USAGE, ("path",), ("name", "--help")),
    Row("option of invoke", USAGE, ("--dry", "list"), ("--dry is not supported", "--dry-run")),
    Row("clean, bad tag", USAGE, ("clean", "--tag=all"), ("'all' is not a tag",)),
    _tarball("missing", "nothing.tar.gz", "nothing.tar.gz", "does not exist"),
    _tarball("a folder", "empty", "is a folder"),
    _tarball("nothing in it", "zero.tar.gz", "is empty"),
    _tarball("a web page", "page.tar.gz", "a web page"),
    _tarball("truncated", "short.tar.gz", "damaged or cut short"),
    _tarball("another version", "other.tar.gz", "sources of v20.1.1, not of v20.1.0", "--tag v20.1.1"),
    _tarball("a way out", "dots.tar.gz", "leaves its folder"),
    _tarball("a link outside", "link.tar.gz", "leads out of its folder"),
    _tarball("other checksum", "good.tar.gz", "has sha256", more=("--shasums=SHASUMS256.txt",)),
    _tarball("no such checksum", "other.tar.gz", "has no line for", more=("--shasums=SHASUMS256.txt",)),
    _tarball("no checksums", "good.tar.gz", "can't be read", more=("--shasums=nothing",)),
    Row("tarball, no file named", USAGE, ("import-tarball", "--tag=v20.1.0"), ("--file is required",)),
    _tree("no writable.js", PATCH, "v20.2.0", "writable.js", "there is no such file"),
    _tree("two functions", PATCH, "v20.2.1", "declared 2 times, lines 3, 13"),
    _tree("a syntax error", PATCH, "v20.2.2", "writable.js: line 5", "does not parse"),
    _tree("rewritten before", PATCH, "v20.2.3", "returns true already"),
    _tree("junk", PATCH, "v20.2.4", "writable.js: line 1"),
    _tree("another adapter", PATCH, "v20.2.5", "adapters.js", "declared 0 times"),
    _tree("an empty file", PATCH, "v20.2.6", "no function of that name"),
    _tree("another function", PATCH, "v20.2.7", "no function of that name"),
    _tree("no configure", BUILD, "v99.3.0", "./configure failed: No such file"),
    _tree("configure fails", BUILD, "v20.3.1", "exit code 1", "| ERROR: no luck", "configure.log"),
    _tree("configure writes nothing", BUILD, "v20.3.2", "config.gypi", "configure.log"),
    _tree("configure writes junk", BUILD, "v20.3.3", "config.gypi failed"),
    _tree("the link fails", BUILD, "v20.3.4", "ninja failed", "| ERROR: can not link", "build.log"),
    _tree("the compiler fails", BUILD, "v20.3.5", "ninja failed", "main.c:1:", "build.log"),
    _tree(
        "a known symptom", BUILD, "v20.3.6", "ninja failed", "does not support the C++ standard", "build.log"
    ),
    _tree("no target", BUILD, "v20.3.7", "ninja failed", "unknown target 'node'"),
    _tree("no headers", BUILD, "v20.3.8", "install.py", "no headers"),
    _tree("no installer", BUILD, "v20.3.9", "install.py"),
    _tree("node can't be run", CHECK, "v20.4.0", "can't be run: Permission denied"),
    _tree("node says junk", CHECK, "v20.4.1", "something else"),
    _tree("another version", CHECK, "v20.4.2", "process.version is 'v920.4.2', and should be 'v20.4.2'"),
    _tree("write() waits", CHECK, "v20.4.3", "write() on a full stream is False, and should be True"),
    _tree("node fails", CHECK, "v20.4.4", "exit code 8: no"),
    _tree("node loses data", CHECK, "v20.4.5", "lost data: 1 of 2 bytes"),
    _tree("no node", CHECK, "v20.4.6", "can't be run: No such file"),
    _tree("another plan", CHECK, "v20.4.7", "the plan in process.config is 'other'"),
    _build("configure refuses", BUILD, "--no-probes|--configure-args=--without-luck", "| ERROR: no luck"),
    _build("compiler, absent", TOOLCHAIN, "--no-probes", "CXX is 'g++-99'", "unset CXX", CXX="g++-99"),
    _build("compiler, empty", TOOLCHAIN, "--no-probes", "CXX is set, but empty", CXX=""),
    _build("compiler, a file", TOOLCHAIN, "--no-probes", "CC is '/etc/passwd'", CC="/etc/passwd"),
    _build("compiler, mute", TOOLCHAIN, "--no-probes", "CC is 'uname'", CC="uname"),
    _build("build folder, a space", TOOLCHAIN, "--no-probes", "a space", NODEKILN_BUILD="{here}/my build"),
    _build("build folder, a file", TOOLCHAIN, "", "words.txt", NODEKILN_BUILD="{here}/words.txt"),
    _build("build folder, not to be made", TOOLCHAIN, "", "/proc/kiln", NODEKILN_BUILD="/proc/kiln"),
    _build("TMPDIR, nowhere", TOOLCHAIN, "--no-probes", "nowhere", "TMPDIR", TMPDIR="{here}/nowhere"),
    _path("no ninja", TOOLCHAIN, "ninja", "ninja was not found on PATH", words="--configure-args=--ninja"),
    _path("neither ninja nor make", TOOLCHAIN, "ninja make", "ninja and make were not found on PATH"),
    _path(
        "no compiler", TOOLCHAIN, "gcc g++ cc c++", "g++ was not found on PATH", "gcc was not found on PATH"
    ),
    _path("no linker", TOOLCHAIN, "ld", "compiling, linking and running a small program failed"),
    _path("no Python", TOOLCHAIN, "python3", "python3 was not found on PATH"),
    _path("no git", SOURCE, "git", "git not found on the PATH", "apt install git"),
)


@pytest.fixture(scope="session")
def offered(tmp_path_factory: pytest.TempPathFactory, tiny_node: Path) -> Path:
    """The files that rows name; each test gets a copy."""
    folder = tmp_path_factory.mktemp("offered")
    _offer(folder, tiny_node)
    return folder


@pytest.mark.parametrize(
    "row",
    [
        # Mistakes within a tree are found last, after most of a build; the others start 30 programs.
        pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.name.startswith(SLOW) else [])
        for row in ROWS
    ],
)
def test_mistake_is_reported_in_one_message(row: Row, kiln: Kiln, tmp_path: Path, offered: Path) -> None:
    shutil.copytree(offered, kiln.here, dirs_exist_ok=True)
    env = {name: value and value.format(here=kiln.here) for name, value in row.env.items()}
    env = {"PATH": kiln.path(*row.without), **env}
    words = [word.replace("{here}", str(kiln.here)) for word in row.words if word]
    program = CHECKOUT / "src" / "nodekiln" / "__main__.py"
    if row.config is not None:
        (kiln.here / "invoke.yaml").write_text(row.config)
        program = _program(tmp_path)
    before = _everything(kiln.here)
    done = kiln.run(*words, env=env, program=program)
    assert (done.code, done.stdout) == (row.code, "")
    _is_one_message(done)
    for told in row.told:
        assert told in done.stderr
    assert row.untold not in done.stderr
    assert _everything(kiln.here) == before
    assert _everything(kiln.temporary) == set()
    assert {path.name for path in kiln.build.glob("*")} <= STAYS[row.code]
    assert _everything(kiln.build / "binaries") == set()
    assert _half_made(kiln.build) == set()


def test_clean_without_a_terminal_does_not_ask(kiln: Kiln) -> None:
    (kiln.build / "binaries" / "v20.1.0").mkdir(parents=True)
    done = kiln.run("clean")
    assert (done.code, done.stdout) == (USAGE, "")
    assert "Add --yes" in done.stderr
    assert (kiln.build / "binaries" / "v20.1.0").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into folders that are read-only")
def test_build_folder_that_is_read_only_is_reported(kiln: Kiln) -> None:
    kiln.build.mkdir(mode=0o500)
    done = kiln.run("build", "--tag=v20.1.0")
    assert (done.code, done.stdout) == (TOOLCHAIN, "")
    _is_one_message(done)
    assert f"{kiln.build} can't be written" in done.stderr


@pytest.mark.parametrize("size", ["8k", "24k"])
@pytest.mark.parametrize("words", [("build", "--no-probes"), ("patch",)], ids=lambda words: words[0])
def test_full_disk_is_reported(kiln: Kiln, tmp_path: Path, size: str, words: tuple[str, ...]) -> None:
    if not _can_mount(tmp_path):
        pytest.skip("mounting a small disk needs root and its own mount namespace")
    kiln.build.mkdir()
    done = _run_on_small_disk(kiln, size, *words, "--tag=v20.1.0", "--no-backpressure")
    assert (done.code, done.stdout) == (TOOLCHAIN if words[0] == "build" else SOURCE, "")
    _is_one_message(done)
    assert _everything(kiln.temporary) == set()


def _is_one_message(done: Done) -> None:
    lines = done.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert "Traceback" not in done.stderr
    message = lines[next(index for index, line in enumerate(lines) if line.startswith("error: ")) :]
    assert message[0].endswith("problems prevent a build:") or all(
        line.startswith("  ") for line in message[1:]
    )
    assert all(letter.isprintable() or letter == "\n" for letter in done.stderr)


def _everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _half_made(build: Path) -> set[str]:
    """What an interrupted step would leave: a git's lock too, but not the lock files of ours, which stay."""
    return {
        path
        for path in _everything(build)
        if any(mark in path for mark in LEFTOVERS)
        or (path.endswith(".lock") and not path.startswith("locks/"))
    }


def _program(folder: Path) -> Path:
    """Return the installed program, which reads the invoke.yaml of the current folder."""
    program = folder / "nodekiln"
    program.write_text("from nodekiln.__main__ import main\n\nmain()\n")
    return program


def _offer(here: Path, repository: Path) -> None:
    (here / "empty").mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", here / "new.git"], check=True)
    (here / "words.txt").write_text("some words\n")
    (here / "binary").write_bytes(b"\xff\xfe\x00--debug")
    (here / "zero.tar.gz").touch()
    (here / "page.tar.gz").write_text("<!doctype html><title>404</title>\n")
    for name, tag in (("good", "v20.1.0"), ("other", "v20.1.1")):
        argv = ["git", "--git-dir", str(repository), "archive", "--format=tar.gz", f"--prefix={tag}/", tag]
        (here / f"{name}.tar.gz").write_bytes(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    whole = (here / "good.tar.gz").read_bytes()
    (here / "short.tar.gz").write_bytes(whole[: len(whole) // 2])
    _pack(here / "dots.tar.gz", tarfile.TarInfo("node/../../owned"))
    link = tarfile.TarInfo("node/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    _pack(here / "link.tar.gz", link)
    (here / "SHASUMS256.txt").write_text(f"{'0' * 64}  good.tar.gz\n")


def _pack(file: Path, *members: tarfile.TarInfo) -> None:
    header = b"#define NODE_MAJOR_VERSION 20\n#define NODE_MINOR_VERSION 1\n#define NODE_PATCH_VERSION 0\n"
    version = tarfile.TarInfo("node/src/node_version.h")
    version.size = len(header)
    with tarfile.open(file, "w:gz") as archive:
        for member in members:
            archive.addfile(member)
        archive.addfile(version, io.BytesIO(header))


def _can_mount(folder: Path) -> bool:
    unshare = shutil.which("unshare")
    argv = [unshare or "", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return unshare is not None and subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _run_on_small_disk(kiln: Kiln, size: str, *words: str) -> Done:
    """Runs in a mount namespace of its own, in which the build folder is a disk of that size."""
    script = f'mount -t tmpfs -o size={size} tmpfs "$1" && shift && exec "$@"'
    return kiln.run(*words, prefix=("unshare", "--mount", "sh", "-c", script, "sh", str(kiln.build)))
