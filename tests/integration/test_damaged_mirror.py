"""A mirror that lost some of its bytes: that is what is said, and neither another's fault nor nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.planning import make_plan, open_tag
from nodekiln.source.mirror import Objects
from tests.change_folders import PATCHES

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

TAG = "v20.1.0"
WRITABLE = "lib/internal/streams/writable.js"
ADAPTERS = "lib/internal/webstreams/adapters.js"
SOURCE, TOOLCHAIN = 6, 3


def plan(kiln: Kiln, *, named: bool = True) -> None:
    """What patch and build do before anything else, with --repository or without."""
    settings = Settings.read(
        environ=kiln.environment(), config=None, root=kiln.folder, patches=PATCHES, cwd=kiln.here, venv=None
    )
    recipe = Recipe(
        tag=Tag.parse(TAG),
        changes=("no-backpressure",),
    )
    reporter = Reporter(Console(file=io.StringIO()))
    source = open_tag(recipe, str(kiln.repository) if named else None, settings, reporter, accept_moved=False)
    make_plan(recipe, source, settings, reporter)


@pytest.fixture
def planned(kiln: Kiln) -> Kiln:
    """The command line on a mirror that a plan has filled."""
    plan(kiln)
    return kiln


def mirror_of(kiln: Kiln) -> Path:
    return kiln.build / "mirror.git"


def find(kiln: Kiln, what: str) -> tuple[str, Path, int]:
    """The id of what git calls so, the index of the pack that has it here, and its place in that pack."""
    words = ["git", f"--git-dir={kiln.repository}", "rev-parse", what]
    wanted = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    for index in mirror_of(kiln).glob("objects/pack/*.idx"):
        with index.open("rb") as stream:
            told = subprocess.run(["git", "show-index"], stdin=stream, capture_output=True, check=True).stdout
        for line in told.decode().splitlines():
            offset, object_id, _ = line.split()
            if object_id == wanted:
                return wanted, index, int(offset)
    raise AssertionError(f"{what} ({wanted}) has not been fetched")


def overwrite(kiln: Kiln, what: str, skip: int) -> str:
    """Damages an object, `skip` bytes behind its start, and returns its id."""
    object_id, index, offset = find(kiln, what)
    pack = index.with_suffix(".pack")
    pack.chmod(0o644)
    with pack.open("r+b") as stream:
        stream.seek(offset + skip)
        stream.write(b"\xff" * 8)
    return object_id


def says_what_to_move(refusal: SourceError, kiln: Kiln) -> bool:
    mirror = mirror_of(kiln)
    return f"{mirror} is damaged: " in refusal.message and f"Move {mirror} out" in str(refusal.remedy)


# Objects: their content, and the first byte, by which git takes them for missing


@pytest.mark.parametrize("skip", [4, 0], ids=["content", "kind"])
@pytest.mark.parametrize(
    "what",
    [f"{TAG}:{WRITABLE}", f"{TAG}:lib/internal", f"{TAG}^{{tree}}", TAG],
    ids=["file", "folder", "top", "commit"],
)
def test_damaged_object_is_the_mirrors_fault(planned: Kiln, what: str, skip: int) -> None:
    object_id = overwrite(planned, what, skip)
    with pytest.raises(SourceError) as refusal:
        plan(planned)
    assert says_what_to_move(refusal.value, planned)
    assert object_id in refusal.value.message


def test_intact_objects_are_read_after_damaged_ones(planned: Kiln) -> None:
    """git ends at the damaged object, and the next one was asked from a process that is gone."""
    words = ["git", f"--git-dir={planned.repository}", "rev-parse", TAG]
    commit = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    overwrite(planned, f"{TAG}:{WRITABLE}", 4)
    objects = Objects(mirror_of(planned))
    for _ in range(2):
        with pytest.raises(SourceError, match="is damaged"):
            objects.read(commit, WRITABLE)
        assert objects.read(commit, "src/node_version.h") is not None
        assert objects.kind(commit) == "commit"


@pytest.mark.parametrize("name", ["HEAD", "config"])
def test_pipe_in_place_of_a_file_of_the_mirror_is_damage(planned: Kiln, name: str) -> None:
    file = mirror_of(planned) / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SourceError) as refusal:
        plan(planned)
    assert says_what_to_move(refusal.value, planned)


@pytest.mark.parametrize("setting", ["core.sshCommand=touch", "remote.x.uploadpack=touch", "include.path=/x"])
def test_foreign_setting_of_the_mirror_is_refused_before_git_obeys_it(planned: Kiln, setting: str) -> None:
    config = mirror_of(planned) / "config"
    subprocess.run(["git", "config", "--file", str(config), *setting.split("=")], check=True)
    with pytest.raises(SourceError, match=setting.partition("=")[0].lower()) as refusal:
        plan(planned)
    assert str(config) in str(refusal.value.remedy)


def test_git_that_was_killed_is_no_damage(planned: Kiln) -> None:
    words = ["git", f"--git-dir={planned.repository}", "rev-parse", TAG]
    commit = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    objects = Objects(mirror_of(planned))
    assert objects.read(commit, WRITABLE) is not None
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    asked = [child for child in alive if "cat-file" in child.cmdline()]
    for child in asked:
        child.kill()
        child.wait()
    assert objects.read(commit, "src/node_version.h") is not None
    assert asked


def test_index_that_leads_to_another_object_is_damage(planned: Kiln) -> None:
    """Every byte of git's answer is well; it is another file."""
    places = [find(planned, f"{TAG}:{path}") for path in (WRITABLE, ADAPTERS)]
    one, other = (place.to_bytes(4, "big") for _, _, place in places)
    _, index, _ = places[0]
    content = index.read_bytes()
    start = 1032 + 24 * int.from_bytes(content[1028:1032], "big")  # where the places stand, four bytes each
    table = content[start:].replace(one, b"????").replace(other, one).replace(b"????", other)
    index.chmod(0o644)
    index.write_bytes(content[:start] + table)
    with pytest.raises(SourceError, match="does not match its id") as refusal:
        plan(planned)
    assert says_what_to_move(refusal.value, planned)


# The repository around them


def _empty(name: str) -> Callable[[Path], object]:
    return lambda mirror: (mirror / name).write_bytes(b"")


def _clear(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


BROKEN: Mapping[str, Callable[[Path], object]] = {
    "no HEAD": _empty("HEAD"),
    "no HEAD to read with": _empty("reading.git/HEAD"),
    "no configuration": lambda mirror: (mirror / "config").write_text("[core\n"),
    "no objects": lambda mirror: shutil.rmtree(mirror / "objects"),
    "nothing": _clear,
}


@pytest.mark.parametrize("named", [True, False], ids=["repository", "default"])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_mirror_reports_what_to_move(
    planned: Kiln, broken: Callable[[Path], object], named: bool
) -> None:
    broken(mirror_of(planned))
    with pytest.raises(SourceError) as refusal:
        plan(planned, named=named)
    assert says_what_to_move(refusal.value, planned), str(refusal.value)


def test_import_with_a_missing_commit_names_the_ref_to_remove(planned: Kiln) -> None:
    """The rest of the mirror is well."""
    ref = mirror_of(planned) / "refs" / "kiln" / "imports" / TAG
    ref.parent.mkdir(parents=True)
    ref.write_text("1" * 40)
    with pytest.raises(SourceError, match=r"The import of v20\.1\.0 can't be read") as refusal:
        plan(planned, named=False)
    assert f"update-ref -d refs/kiln/imports/{TAG}" in str(refusal.value.remedy)


def test_moving_it_away_mends_it(planned: Kiln) -> None:
    overwrite(planned, f"{TAG}:{WRITABLE}", 4)
    mirror_of(planned).rename(planned.folder / "away")
    plan(planned)


# What a user sees


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("patch", "--no-backpressure"), ("build", "--no-backpressure")], ids=" ".join
)
def test_command_ends_with_its_exit_code_and_reports_why(planned: Kiln, words: tuple[str, ...]) -> None:
    overwrite(planned, f"{TAG}:{WRITABLE}", 4)
    done = planned.run(*words, f"--tag={TAG}", "--no-probes")
    assert (done.code, done.stdout) == (SOURCE, "")
    assert f"Move {mirror_of(planned)} out of the way" in done.stderr


def test_doctor_lists_it_among_the_rest(planned: Kiln) -> None:
    overwrite(planned, f"{TAG}:src/node_version.h", 4)
    done = planned.run("doctor", f"--tag={TAG}", "--format=json")
    findings = json.loads(done.stdout)["findings"]
    [told] = [finding for finding in findings if finding["subject"] == "source"]
    assert done.code == TOOLCHAIN
    assert "mirror.git is damaged" in told["what"]
