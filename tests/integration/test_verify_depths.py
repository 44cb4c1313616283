"""Depths compile and build: patched files are compiled, and binaries built, tag by tag."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.core.errors import ToolchainError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.source.tarball import import_tarball
from nodekiln.verify.depths import DeepCheck
from nodekiln.verify.outcome import Depth, Kind, Report, Row, Status
from nodekiln.verify.run import VerifyRequest, verify
from nodekiln.verify.tagspec import TagSpec
from tests.change_folders import KINDS, make_patches

STOCK, PROBES, REWRITTEN, BOTH = KINDS
_PATCH = """\
Subject: A probe

It does nothing.

diff --git a/src/main.c b/src/main.c
--- a/src/main.c
+++ b/src/main.c
@@ -1 +1,2 @@
 int main(void) { return 0; }
+%s
"""
_ADDED = """\
diff --git a/src/probe.c b/src/probe.c
new file mode 100644
--- /dev/null
+++ b/src/probe.c
@@ -0,0 +1 @@
+int probe;
"""


@pytest.fixture
def patched(kiln: Any) -> Callable[..., Settings]:
    """This checkout as `kiln` has it, with a patch that adds a line to main.c, and perhaps more."""
    settings = Settings.read(
        environ=kiln.environment(), config=None, root=kiln.folder, cwd=kiln.here, venv=None
    )

    def write(line: str, more: str = "") -> Settings:
        make_patches(settings.patches, {"0001-probe.patch": _PATCH % line + more})
        return settings

    return write


@pytest.fixture
def settings(patched: Callable[..., Settings]) -> Settings:
    """Settings with a harmless patch."""
    return patched("int probe;")


def run(settings: Settings, tags: str, depth: Depth, *kinds: Any) -> Report:
    request = VerifyRequest(tags=TagSpec.parse(tags), kinds=kinds, depth=depth)
    return verify(request, settings, Reporter(Console(file=io.StringIO())))


@pytest.mark.parametrize("depth", [Depth.COMPILE, Depth.BUILD])
def test_missing_compiler_is_reported_before_any_fetch(settings: Settings, depth: Depth) -> None:
    """A toolchain error (3), since it is no finding about a tag (4)."""
    lacking = replace(settings, environment={**settings.environment, "CXX": "g++-99"})
    with pytest.raises(ToolchainError, match="g\\+\\+-99"):
        run(lacking, "v20.1.0", depth, PROBES)
    assert not settings.workspace.mirror.exists()
    assert run(lacking, "v20.1.0", Depth.PLAN, PROBES).exit_code == 0


def test_compile_without_patches_needs_no_compiler(settings: Settings) -> None:
    lacking = replace(settings, environment={**settings.environment, "CXX": "g++-99"})
    assert run(lacking, "v20.1.0", Depth.COMPILE, STOCK, REWRITTEN).exit_code == 0


@pytest.mark.slow
def test_patch_that_compiles_is_clean_despite_failures_of_other_tags(
    kiln: Any, patched: Callable[..., Settings]
) -> None:
    report = run(patched("int probe;"), "v20.1.0,v20.3.1", Depth.COMPILE, PROBES, BOTH)
    assert [(str(row.tag), row.status) for row in report.rows] == [
        ("v20.1.0", Status.CLEAN),
        ("v20.3.1", Status.FAILED),
    ]
    assert "configure failed" in report.rows[1].findings[0].text
    assert not (kiln.source() / "out/Release/obj/main.o").exists()  # ninja must not take it for built
    assert "pack" not in kiln.ran()


def test_each_file_that_does_not_compile_is_a_finding(patched: Callable[..., Settings]) -> None:
    report = run(patched("int probe = ;", _ADDED), "v20.1.0", Depth.COMPILE, STOCK, PROBES, BOTH)
    [row] = report.rows
    assert (row.status, report.exit_code) == (Status.FAILED, 4)
    assert dict(row.recipes) == {
        "stock": Status.CLEAN,
        "usdt": Status.FAILED,
        "no-backpressure-usdt": Status.FAILED,
    }
    compiled, lost = row.findings[:2]
    assert (compiled.path, compiled.reason) == ("src/main.c", "does not compile")
    assert "main.c:2:13: error: " in compiled.text
    assert (lost.path, lost.reason) == ("src/probe.c", "not compiled")  # no target of the build has it


@pytest.mark.slow
def test_generated_headers_are_built_when_required(kiln: Any, patched: Callable[..., Settings]) -> None:
    settings = patched('#include "gen/made.h"')
    run(settings, "v20.1.0", Depth.COMPILE, PROBES)
    ninja = kiln.source() / "out/Release/build.ninja"
    ninja.write_text(
        ninja.read_text()
        + "rule make\n command = mkdir -p gen && echo 'int made;' > $out\nbuild gen/made.h: make\n"
    )
    ninja.write_text(ninja.read_text().replace("gcc -c", "gcc -I. -c"))
    state = kiln.source().parent / "configured.json"
    done = json.loads(state.read_text())
    done["written"].pop("out/Release/build.ninja", None)
    state.write_text(json.dumps(done))
    assert run(settings, "v20.1.0", Depth.COMPILE, PROBES).rows[0].status is Status.CLEAN
    assert (kiln.source() / "out/Release/gen/made.h").is_file()


@pytest.mark.slow
def test_depth_build_builds_and_checks_binaries(settings: Settings, kiln: Any) -> None:
    tags = "v20.1.0,v20.3.4,v20.4.3"
    report = run(settings, tags, Depth.BUILD, REWRITTEN)
    assert [(str(row.tag), row.status) for row in report.rows] == [
        ("v20.1.0", Status.CLEAN),
        ("v20.3.4", Status.FAILED),
        ("v20.4.3", Status.FAILED),
    ]
    assert [each.name for each in (kiln.build / "binaries").glob("v*")] == ["v20.1.0-no-backpressure"]
    assert "can not link" in report.rows[1].findings[0].text
    assert "the result of write() on a full stream" in report.rows[2].findings[0].text


def test_recipe_that_does_not_fit_is_not_built(settings: Settings, kiln: Any) -> None:
    report = run(settings, "v20.2.0", Depth.BUILD, REWRITTEN)
    assert report.rows[0].status is Status.MISSING_ANCHOR
    assert not (kiln.build / "trees").exists()


@pytest.fixture
def imported(kiln: Any, settings: Settings, tmp_path: Path) -> Settings:
    """With a tarball imported as v20.1.0 that is not what the repository has: it can't be configured."""
    words = ["git", f"--git-dir={kiln.repository}", "archive", "--prefix=node/", "v20.3.1"]
    content = subprocess.run(words, capture_output=True, check=True).stdout
    file = tmp_path / "node.tar"
    file.write_bytes(
        content.replace(b"NODE_MINOR_VERSION 3", b"NODE_MINOR_VERSION 1").replace(
            b"NODE_PATCH_VERSION 1", b"NODE_PATCH_VERSION 0"
        )
    )
    import_tarball(settings.workspace, Tag(20, 1, 0), file, Reporter(Console(file=io.StringIO())))
    return settings


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "kind"), [(Depth.COMPILE, PROBES), (Depth.BUILD, REWRITTEN)])
def test_imported_tarball_is_not_used(imported: Settings, depth: Depth, kind: Kind) -> None:
    [row] = run(imported, "v20.1.0", depth, kind).rows
    assert (row.status, row.findings) == (Status.CLEAN, ())


@pytest.mark.parametrize(("depth", "kind"), [(Depth.COMPILE, PROBES), (Depth.BUILD, REWRITTEN)])
def test_tag_that_moves_after_planning_is_a_finding(
    settings: Settings, kiln: Any, depth: Depth, kind: Kind
) -> None:
    deeper = DeepCheck(
        depth=depth,
        repository=str(kiln.repository),
        jobs=None,
        accept_moved=False,
        settings=settings,
        reporter=Reporter(Console(file=io.StringIO())),
    )
    planned = Row(Tag(20, 1, 0), "1" * 40, Status.CLEAN, ((kind.name, Status.CLEAN),), ())
    row = deeper.row(planned, {kind.name: kind})
    assert row.status is Status.FAILED
    assert "v20.1.0 was commit 111111111111 when it was planned" in row.findings[0].text


def test_depth_plan_creates_no_tree(settings: Settings, kiln: Any) -> None:
    run(settings, "all", Depth.PLAN, STOCK, REWRITTEN)
    assert sorted(path.name for path in Path(kiln.build).iterdir()) == ["locks", "mirror.git"]
