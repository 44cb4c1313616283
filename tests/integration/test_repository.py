"""Resolving, pinning, fetching and reading, on tiny real repositories."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.git_runner import GitError, GitRunner
from nodekiln.source.location import parse_location
from nodekiln.source.mirror import Objects, make_mirror, remove_leftovers
from nodekiln.source.repository import Repository, Revision

_TAG = Tag(20, 1, 0)
_FILES = {
    "lib/net.js": b"net\n",
    "lib/internal/deep/er.js": b"deep\r\n\0",
    "lib/same.js": b"net\n",
    "README.md": b"read\n",
    "src/large.cc": b"x" * 5000,
}


@dataclass(frozen=True)
class Upstream:
    """A repository that somebody else owns."""

    folder: Path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.folder, *arguments], capture_output=True, check=True, text=True
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change", "--allow-empty")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """Two commits, the second of them v20.1.0; filters are allowed, as at GitHub."""
    made = Upstream(tmp_path / "upstream")
    made.folder.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("config", "uploadpack.allowFilter", "true")
    made.commit({"README.md": b"before\n"})
    made.commit(_FILES)
    made.git("tag", str(_TAG))
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "build")


@dataclass(frozen=True)
class Opened:
    repository: Repository
    said: io.StringIO


@pytest.fixture
def opened(upstream: Upstream, workspace: Workspace) -> Opened:
    return _open(workspace, str(upstream.folder))


def _open(workspace: Workspace, text: str) -> Opened:
    said = io.StringIO()
    location = parse_location(text, base=Path("/"))
    return Opened(Repository(workspace, location, Reporter(Console(file=said, width=500))), said)


@pytest.fixture
def packs_sent(tmp_path: Path) -> Callable[[], int]:
    """Counts the packs that upstreams send from here on, as told by their own hook."""
    hook, log = tmp_path / "hook", tmp_path / "packs"
    log.touch()
    hook.write_text(f'#!/bin/sh\necho pack >> "{log}"\nexec "$@"\n')
    hook.chmod(0o755)
    _user_config("uploadpack.packObjectsHook", str(hook))
    return lambda: log.read_text().count("pack")


def _user_config(name: str, value: str) -> None:
    subprocess.run(["git", "config", "--global", name, value], check=True)


def _put_before_git(folder: Path, patch: pytest.MonkeyPatch, command: str, script: str) -> None:
    """git on the PATH runs `script` where it is told `command`."""
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" {command} "*)\n{script}\n;; esac\nexec "{shutil.which("git")}" "$@"\n'
    )
    program.chmod(0o755)
    patch.setenv("PATH", str(program.parent), prepend=os.pathsep)


def _blobs(workspace: Workspace) -> int:
    """How many contents the mirror holds."""
    told = GitRunner(workspace.mirror).run(
        "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)", "--unordered"
    )
    return told.split().count(b"blob")


def _on_disk(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# resolve


@pytest.mark.parametrize("annotation", [(), ("--annotate", "--message=release")], ids=["light", "annotated"])
def test_tag_becomes_its_commit(
    annotation: tuple[str, ...], upstream: Upstream, workspace: Workspace, opened: Opened
) -> None:
    commit = upstream.commit({"lib/net.js": b"newer\n"})
    upstream.git("tag", *annotation, "v20.2.0")

    revision = opened.repository.resolve(Tag(20, 2, 0))

    assert revision == Revision(Tag(20, 2, 0), str(upstream.folder), commit)


def test_tag_of_a_tag_becomes_its_commit(upstream: Upstream, opened: Opened) -> None:
    upstream.git("tag", "--annotate", "--message=inner", "inner")
    upstream.git("tag", "--annotate", "--message=outer", "v20.2.0", "inner")

    assert opened.repository.resolve(Tag(20, 2, 0)).commit == upstream.git("rev-parse", "HEAD")


def test_resolving_fetches_no_contents(upstream: Upstream, workspace: Workspace, opened: Opened) -> None:
    opened.repository.resolve(_TAG)

    assert _blobs(workspace) == 0


def test_resolving_again_fetches_nothing(opened: Opened, packs_sent: Callable[[], int]) -> None:
    first = opened.repository.resolve(_TAG)
    assert packs_sent() == 1

    assert opened.repository.resolve(_TAG) == first
    assert packs_sent() == 1


def test_second_location_of_the_same_commit_is_pinned_without_a_fetch(
    upstream: Upstream, workspace: Workspace, opened: Opened, packs_sent: Callable[[], int]
) -> None:
    first = opened.repository.resolve(_TAG)

    second = _open(workspace, f"file://{upstream.folder}").repository.resolve(_TAG)

    assert (second.commit, second.location) == (first.commit, f"file://{upstream.folder}")
    assert packs_sent() == 1


def test_moved_tag_is_refused_until_it_is_accepted(upstream: Upstream, opened: Opened) -> None:
    before = opened.repository.resolve(_TAG).commit
    after = upstream.commit({"lib/net.js": b"other\n"})
    upstream.git("tag", "--force", str(_TAG))

    with pytest.raises(SourceError, match=f"{before[:12]} and is now {after[:12]}") as refusal:
        opened.repository.resolve(_TAG)
    assert "--accept-moved-tag" in str(refusal.value.remedy)

    assert opened.repository.resolve(_TAG, accept_moved=True).commit == after
    assert opened.repository.resolve(_TAG).commit == after


def test_missing_tag_is_reported_with_its_nearest(upstream: Upstream, opened: Opened) -> None:
    for name in ("v18.0.0", "v20.3.1", "v20.3.2", "v20.4.0", "v20.9.0", "v22.0.0", "v20.3.9-rc.1", "v8-x"):
        upstream.git("tag", "--annotate", "--message=release", name)

    with pytest.raises(SourceError) as refusal:
        opened.repository.resolve(Tag(20, 3, 3))

    assert "has no tag v20.3.3" in refusal.value.message
    assert re.findall(r"v[\d.]+\d", refusal.value.message.partition("nearest")[2]) == [
        "v20.1.0",
        "v20.3.1",
        "v20.3.2",
        "v20.4.0",
        "v20.9.0",
    ]


def test_partial_clone_that_lacks_the_files_is_named_as_the_reason(
    upstream: Upstream, workspace: Workspace, tmp_path: Path
) -> None:
    upstream.git("config", "uploadpack.allowFilter", "true")
    whole = upstream.git("rev-parse", "--absolute-git-dir")
    words = ["git", "clone", "--quiet", "--bare", "--filter=blob:none", f"file://{whole}"]
    subprocess.run([*words, str(tmp_path / "part")], check=True, capture_output=True)
    opened = _open(workspace, str(tmp_path / "part"))
    with pytest.raises(SourceError, match="is a partial clone"):
        opened.repository.fetch_all(opened.repository.resolve(_TAG))


def test_repository_without_release_tags_reports_it(upstream: Upstream, opened: Opened) -> None:
    upstream.git("tag", "--delete", str(_TAG))

    with pytest.raises(SourceError, match="it has no release tags"):
        opened.repository.resolve(_TAG)


@pytest.mark.parametrize(("kind", "named"), [("blob", "HEAD:README.md"), ("tree", "HEAD:lib")])
@pytest.mark.parametrize("annotation", [(), ("--annotate", "--message=odd")], ids=["light", "annotated"])
def test_tag_that_names_no_commit_is_refused(
    kind: str, named: str, annotation: tuple[str, ...], upstream: Upstream, opened: Opened
) -> None:
    upstream.git("tag", *annotation, "v20.2.0", named)

    with pytest.raises(SourceError, match=f"names a {kind}, not a commit"):
        opened.repository.resolve(Tag(20, 2, 0))


def test_unreachable_repository_without_a_pin_suggests_alternatives(
    upstream: Upstream, workspace: Workspace
) -> None:
    with pytest.raises(SourceError, match=r"refused|connect") as refusal:
        _open(workspace, "https://me:geheim@127.0.0.1:1/node.git?token=3").repository.resolve(_TAG)

    assert "\n" not in refusal.value.message
    assert "geheim" not in str(refusal.value)
    assert "token" not in str(refusal.value)
    assert "./inv import-tarball --tag v20.1.0" in str(refusal.value.remedy)
    assert "--repository" in str(refusal.value.remedy)


def test_unreachable_repository_with_a_pin_is_a_warning(
    upstream: Upstream, workspace: Workspace, opened: Opened
) -> None:
    first = opened.repository.resolve(_TAG)
    opened.repository.fetch_all(first)
    upstream.folder.rename(upstream.folder.with_name("gone"))

    again = opened.repository.resolve(_TAG)
    opened.repository.fetch_all(again)

    assert again == first
    assert opened.repository.read(again, "lib/net.js") == b"net\n"
    assert "warning: " in opened.said.getvalue()
    assert first.commit[:12] in opened.said.getvalue()


def test_folder_that_is_gone_before_we_start_is_a_repository_that_cannot_be_reached(
    upstream: Upstream, workspace: Workspace, opened: Opened
) -> None:
    first = opened.repository.resolve(_TAG)
    opened.repository.fetch_all(first)
    upstream.folder.rename(upstream.folder.with_name("gone"))

    later = _open(workspace, str(upstream.folder))

    assert later.repository.resolve(_TAG) == first
    assert f"{upstream.folder} is unreachable" in later.said.getvalue()


def test_folder_that_was_never_there_is_named(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(SourceError, match=rf"{tmp_path}/unmounted/node\.git does not exist") as refusal:
        _open(workspace, str(tmp_path / "unmounted" / "node.git")).repository.resolve(_TAG)

    assert "--repository" in str(refusal.value.remedy)


def test_tag_that_was_removed_after_it_was_pinned_is_a_warning(upstream: Upstream, opened: Opened) -> None:
    first = opened.repository.resolve(_TAG)
    upstream.git("tag", "--delete", str(_TAG))

    assert opened.repository.resolve(_TAG) == first
    assert "no longer has tag v20.1.0" in opened.said.getvalue()


def test_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    _user_config("core.sshCommand", str(program))
    repository = tmp_path / "r.git"
    subprocess.run(["git", "init", "--quiet", "--bare", repository], check=True)
    begun = time.monotonic()

    with pytest.raises(GitError, match="no answer within 1 seconds"):
        GitRunner(repository).run("ls-remote", "git@example.org:node.git", timeout=1)

    assert time.monotonic() - begun < 20


def test_folder_that_is_no_repository_is_named(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "plain").mkdir()

    with pytest.raises(SourceError, match=r"/plain is not a git repository"):
        _open(workspace, str(tmp_path / "plain")).repository.resolve(_TAG)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_repository_of_another_user_reports_what_to_type(upstream: Upstream, opened: Opened) -> None:
    for path in (upstream.folder, upstream.folder / ".git"):
        os.chown(path, 12345, 12345)

    with pytest.raises(SourceError, match="another user") as refusal:
        opened.repository.resolve(_TAG)

    command = str(refusal.value.remedy).split()
    assert command[:5] == ["git", "config", "--global", "--add", "safe.directory"]
    subprocess.run(command, check=True)
    assert opened.repository.resolve(_TAG).tag == _TAG


def test_mirror_that_git_cannot_create_leaves_nothing(
    workspace: Workspace, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as failing:
        _put_before_git(tmp_path, failing, "init", "echo 'fatal: no' >&2; exit 128")
        with pytest.raises(SourceError, match=r"Creating the mirror .*mirror\.git failed: .*fatal: no"):
            opened.repository.resolve(_TAG)

    assert [path.name for path in workspace.root.iterdir()] == ["locks"]
    assert opened.repository.resolve(_TAG).tag == _TAG


def test_half_made_mirror_of_a_killed_run_is_removed(workspace: Workspace, opened: Opened) -> None:
    half = workspace.root / "mirror.git.new-killed"
    half.mkdir(parents=True)

    opened.repository.resolve(_TAG)

    assert not half.exists()


# fetch_files and read


def test_new_mirror_can_be_opened_by_several_at_once(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.git"
    make_mirror(mirror)
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(Objects, [mirror] * 8))
    assert [each.kind("1" * 40) for each in opened] == [None] * 8
    assert not list(mirror.glob("reading.git.new-*"))


def test_mirror_that_cannot_be_read_reports_what_to_remove(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.git"
    make_mirror(mirror)
    (mirror / "reading.git").write_text("a file")
    with pytest.raises(SourceError, match=r"remove .*/reading\.git, and run"):
        Objects(mirror)


def test_only_the_files_asked_for_are_fetched_in_one_request(
    workspace: Workspace, opened: Opened, packs_sent: Callable[[], int]
) -> None:
    revision = opened.repository.resolve(_TAG)
    before = packs_sent()

    opened.repository.fetch_files(revision, ["lib/net.js", "lib/internal/deep/er.js", "no/such.js", "lib"])

    assert packs_sent() == before + 1
    assert _blobs(workspace) == 2
    assert opened.repository.read(revision, "lib/internal/deep/er.js") == b"deep\r\n\0"
    assert opened.repository.read(revision, "lib/same.js") == b"net\n"


def test_files_that_are_here_are_not_fetched_again(
    workspace: Workspace, opened: Opened, packs_sent: Callable[[], int]
) -> None:
    revision = opened.repository.resolve(_TAG)
    opened.repository.fetch_files(revision, ["lib/net.js"])
    before = packs_sent()

    opened.repository.fetch_files(revision, ["lib/net.js", "lib/same.js", "no/such.js"])
    opened.repository.fetch_files(revision, [])

    assert packs_sent() == before


def test_reading_what_was_not_fetched_is_an_error_and_no_request(
    workspace: Workspace, opened: Opened, packs_sent: Callable[[], int]
) -> None:
    revision = opened.repository.resolve(_TAG)
    before = packs_sent()

    with pytest.raises(SourceError, match=r"lib/net\.js of commit [0-9a-f]{12} has not been fetched"):
        opened.repository.read(revision, "lib/net.js")

    assert packs_sent() == before


def test_other_than_regular_files_read_as_none(upstream: Upstream, opened: Opened) -> None:
    (upstream.folder / "link").symlink_to("README.md")
    (upstream.folder / "linked").symlink_to("lib")
    head = upstream.git("rev-parse", "HEAD")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{head},module")
    upstream.commit({"exec.sh": b"#!/bin/sh\n"})
    upstream.git("tag", "v20.2.0")
    revision = opened.repository.resolve(Tag(20, 2, 0))
    opened.repository.fetch_all(revision)

    found = {
        path: opened.repository.read(revision, path)
        for path in (
            *("link", "linked/net.js", "module", "lib", "lib/", "/lib/net.js", "lib/../README.md", ""),
            *("README.md/x", "lib/Net.js", "exec.sh"),
        )
    }

    assert {path for path, content in found.items() if content is not None} == {"exec.sh"}


def test_two_tags_are_read_side_by_side(upstream: Upstream, opened: Opened) -> None:
    upstream.commit({"lib/net.js": b"newer\n"})
    upstream.git("tag", "v20.2.0")
    old, new = (opened.repository.resolve(tag) for tag in (_TAG, Tag(20, 2, 0)))
    for revision in (old, new):
        opened.repository.fetch_files(revision, ["lib/net.js"])

    assert [opened.repository.read(each, "lib/net.js") for each in (old, new, old)] == [
        b"net\n",
        b"newer\n",
        b"net\n",
    ]


# fetch_all and sizes


def test_all_files_are_fetched_in_one_request(
    workspace: Workspace, opened: Opened, packs_sent: Callable[[], int]
) -> None:
    revision = opened.repository.resolve(_TAG)
    opened.repository.fetch_files(revision, ["lib/net.js"])
    before = packs_sent()

    opened.repository.fetch_all(revision)
    opened.repository.fetch_all(revision)

    assert packs_sent() == before + 1
    assert {path: opened.repository.read(revision, path) for path in _FILES} == _FILES
    assert _blobs(workspace) == len(set(_FILES.values()))
    assert "fetching 3 files of v20.1.0 from /" in opened.said.getvalue()


def test_revision_is_fetched_into_a_mirror_that_has_nothing(upstream: Upstream, tmp_path: Path) -> None:
    commit = upstream.git("rev-parse", "HEAD")
    repository = _open(Workspace(tmp_path / "elsewhere"), str(upstream.folder)).repository

    repository.fetch_all(Revision(_TAG, str(upstream.folder), commit))

    revision = Revision(_TAG, str(upstream.folder), commit)
    assert {path: repository.read(revision, path) for path in _FILES} == _FILES


@pytest.mark.parametrize("paths", [None, ["lib/net.js"]], ids=["all", "some"])
def test_server_without_filters_works(paths: list[str] | None, upstream: Upstream, opened: Opened) -> None:
    upstream.git("config", "--unset", "uploadpack.allowFilter")
    revision = opened.repository.resolve(_TAG)

    if paths is None:
        opened.repository.fetch_all(revision)
    else:
        opened.repository.fetch_files(revision, paths)

    assert opened.repository.read(revision, "lib/net.js") == b"net\n"


@pytest.mark.parametrize("paths", [None, ["lib/net.js"]], ids=["all", "some"])
def test_server_that_gives_nothing_by_id_is_asked_for_the_whole_tag(
    paths: list[str] | None, opened: Opened, packs_sent: Callable[[], int]
) -> None:
    _user_config("protocol.version", "0")
    revision = opened.repository.resolve(_TAG)
    assert packs_sent() == 1

    if paths is None:
        opened.repository.fetch_all(revision)
    else:
        opened.repository.fetch_files(revision, paths)

    assert packs_sent() == 2
    assert opened.repository.read(revision, "lib/net.js") == b"net\n"


def test_files_of_a_tag_that_moved_meanwhile_still_come_by_their_ids(
    upstream: Upstream, opened: Opened
) -> None:
    revision = opened.repository.resolve(_TAG)
    upstream.commit({"lib/net.js": b"other\n"})
    upstream.git("tag", "--force", str(_TAG))

    opened.repository.fetch_all(revision)

    assert opened.repository.read(revision, "lib/net.js") == b"net\n"


def test_server_that_lost_the_files_is_an_error(upstream: Upstream, opened: Opened) -> None:
    revision = opened.repository.resolve(_TAG)
    upstream.git("checkout", "--quiet", "--orphan", "fresh")
    upstream.git("rm", "-r", "--quiet", "--force", ".")
    upstream.commit({"other": b"other\n"})
    upstream.git("tag", "--force", str(_TAG))
    upstream.git("branch", "-D", "main")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "--quiet", "--prune=now")

    with pytest.raises(SourceError, match=r"did not send 4 of 4 files of v20\.1\.0"):
        opened.repository.fetch_all(revision)


# What a full disk and a killed git leave


def test_leftovers_of_a_killed_fetch_are_harmless(workspace: Workspace, opened: Opened) -> None:
    revision = opened.repository.resolve(_TAG)
    left = ["objects/pack/tmp_pack_1", "objects/pack/tmp_idx_2", "shallow.lock", "config.lock"]
    for name in left:
        (workspace.mirror / name).write_bytes(b"half")

    opened.repository.fetch_all(revision)

    assert opened.repository.read(revision, "lib/net.js") == b"net\n"
    assert not _on_disk(workspace.mirror) & set(left)


def test_stale_lock_of_a_pin_is_harmless(workspace: Workspace, opened: Opened, upstream: Upstream) -> None:
    commit = opened.repository.resolve(_TAG).commit
    lock = next(workspace.mirror.glob("refs/kiln/*")) / "v20.2.0.lock"
    lock.touch()

    remove_leftovers(workspace.mirror)

    upstream.git("tag", "v20.2.0", commit)
    assert opened.repository.resolve(Tag(20, 2, 0)).commit == commit


def test_full_disk_is_reported_and_leaves_nothing_half_made(
    workspace: Workspace, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = opened.repository.resolve(_TAG)
    half = workspace.mirror / "objects" / "pack" / "tmp_pack_1"
    script = (
        f"echo half > '{half}'\n"
        "echo 'remote: Counting objects:  50% (1/2)' >&2\n"
        "echo 'fatal: write error: No space left on device' >&2\n"
        "echo 'fatal: fetch-pack: invalid index-pack output' >&2\nexit 128\n"
    )

    with monkeypatch.context() as full:
        _put_before_git(tmp_path, full, "fetch", script)
        with pytest.raises(SourceError, match=r"The disk is full: .*v20\.1\.0 needs more") as refusal:
            opened.repository.fetch_files(revision, ["lib/net.js"])

    assert refusal.value.exit_code == 6
    assert not half.exists()
    opened.repository.fetch_files(revision, ["lib/net.js"])
    assert opened.repository.read(revision, "lib/net.js") == b"net\n"


# What a user's configuration can't change


def test_transports_that_run_commands_stay_off(tmp_path: Path, workspace: Workspace) -> None:
    _user_config("protocol.ext.allow", "always")
    _user_config("protocol.allow", "always")
    _user_config(f"url.ext::touch {tmp_path}/ran #.insteadOf", "https://example.org/")

    with pytest.raises(SourceError, match="by ext, not as https"):
        _open(workspace, "https://example.org/node.git").repository.resolve(_TAG)

    assert not (tmp_path / "ran").exists()
