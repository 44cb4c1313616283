"""All four recipes of v20.19.2 in one tree: which steps each costs, and what each linker makes of probes.

They need a compiler cache of that build to end in minutes: see the marker `build`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodekiln.building.ninja import NinjaLog
from nodekiln.core.elf.file import open_elf
from nodekiln.core.elf.notes import read_probes
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.build import BuildOptions, build
from nodekiln.pipelines.matrix import Matrix, build_matrix
from nodekiln.tracing.proof import prove

_ENVIRONMENT = dict(os.environ)
_PROJECT = Path(__file__).parents[2]
_TAG = Tag(20, 19, 2)

JAVASCRIPT = {
    "gen/node_javascript.cc",  # js2c
    "obj/gen/libnode.node_javascript.o",
    "obj/libnode.a",  # thin: names of objects, and an index
    "node_mksnapshot",  # links libnode, whose JavaScript goes into the snapshot
    "gen/node_snapshot.cc",
    "obj/gen/node.node_snapshot.o",  # 12 MB that differ in every run: no cache has it
    "node",
}
"""What a change of JavaScript alone costs."""
PROBES = JAVASCRIPT | {
    f"obj/src/libnode.{name}.o"
    for name in ("node", "node_binding", "node_external_reference", "probe_binding", "probe_sites")
}
"""What probes cost, and the way back: their own files and those that list bindings."""
STAMPS = 5
"""Empty files that ninja touches beside."""

pytestmark = pytest.mark.build


@dataclass(frozen=True)
class Built:
    """A build folder with all four recipes."""

    settings: Settings
    recipe: Recipe
    matrix: Matrix

    @property
    def output(self) -> Path:
        return self.settings.workspace.trees / self.recipe.tree_name / "source" / "out" / "Release"

    def manifests(self) -> list[dict[str, Any]]:
        paths = [made.path for made in self.matrix.recipes if made.path is not None]
        return [json.loads((path.parent / "manifest.json").read_text()) for path in paths]

    def ran(self, *, backpressure: bool, probes: bool) -> set[str]:
        """The outputs that ninja makes anew for this recipe after the last one."""
        log = NinjaLog(self.output / ".ninja_log")
        recipe = Recipe(
            tag=_TAG,
            changes=(*(() if backpressure else ("no-backpressure",)), *(("usdt",) if probes else ())),
            default_args=self.recipe.default_args,
        )
        build(BuildOptions(recipe=recipe, force=True), self.settings, Reporter())
        return {output for step in log.read() for output in step.outputs}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The four, made in one go."""
    if "NODEKILN_REPOSITORY" not in _ENVIRONMENT:
        pytest.skip("NODEKILN_REPOSITORY names no repository with a real Node tree")
    folder = tmp_path_factory.mktemp("kiln")
    settings = Settings.read(
        environ={**_ENVIRONMENT, "NODEKILN_BUILD": str(folder / "build")},
        config=None,
        root=_PROJECT,
        cwd=folder,
        venv=Path(sys.prefix),
    )
    recipe = Recipe(tag=_TAG, default_args=settings.configure_args)
    matrix = build_matrix(BuildOptions(recipe=recipe), settings, Reporter())
    matrix.raise_for()
    yield Built(settings, recipe, matrix)
    shutil.rmtree(folder)


def test_matrix_needs_one_full_build_and_three_small_ones(built: Built) -> None:
    names = [f"{_TAG}{end}" for end in ("", "-no-backpressure", "-no-backpressure-usdt", "-usdt")]
    manifests = built.manifests()
    assert [manifest["name"] for manifest in manifests] == names
    first, *others = (manifest["steps"] for manifest in manifests)
    assert first > 1500
    bounds = [len(steps) + STAMPS for steps in (JAVASCRIPT, PROBES, JAVASCRIPT)]
    assert all(steps <= bound for steps, bound in zip(others, bounds, strict=True)), others


def test_recipes_compile_touched_files_only(built: Built) -> None:
    """By name, in an order that ends where it began, whatever ran before."""
    built.ran(backpressure=True, probes=False)
    for backpressure, probes, bound in (
        (False, False, JAVASCRIPT),
        (True, False, JAVASCRIPT),
        (True, True, PROBES),
        (True, False, PROBES),
    ):
        outputs = built.ran(backpressure=backpressure, probes=probes)
        stamps = {output for output in outputs if output.endswith(".stamp")}
        assert outputs - stamps <= bound
        assert len(stamps) <= STAMPS


def test_manifests_have_launcher_and_linker(built: Built) -> None:
    for manifest in built.manifests():
        facts = manifest["toolchain"]
        assert facts["launcher"] in ("ccache", "sccache", "none")
        assert facts["linker"] in ("default", "lld")
        assert facts["linker_version"]


@pytest.mark.trace
@pytest.mark.parametrize("linker", ["bfd", "lld", "mold"])
def test_probes_are_kept_by_every_linker(built: Built, linker: str, tmp_path: Path) -> None:
    """The tree's own objects linked once more, by another linker: GC probes fire under bpftrace."""
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"there is no ld.{linker} on PATH")
    built.ran(backpressure=True, probes=True)
    command = subprocess.run(
        ["ninja", "-t", "commands", "-s", "node"],
        cwd=built.output,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(command)
    binary = tmp_path / "node"
    words[words.index("-o") + 1] = str(binary)
    # The last of several counts.
    argv = ["timeout", "--kill-after=5", "90", *words, f"-fuse-ld={linker}"]
    done = subprocess.run(argv, cwd=built.output, check=False)
    if linker == "mold" and done.returncode == 124:
        pytest.skip("mold did not end within 90 s, which 2.37.1 is known for")
    assert done.returncode == 0
    with open_elf(binary) as elf:
        found = {probe.name for probe in read_probes(elf)}
    assert len(found) == 11
    assert "fired" in prove(binary, built.settings.environment)
