"""All four recipes of a tag: their order, what a failing one costs, and what another linker means."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from nodekiln.building.configure import Configure
from nodekiln.changes.registry import Registry
from nodekiln.core.errors import BuildError, PatchError, SourceError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.build import BuildOptions
from nodekiln.pipelines.matrix import Matrix, build_matrix, now_in_tree, ordered
from tests.change_folders import make_patches

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

CHECKOUT = Path(__file__).resolve().parents[2]
TAG = "v20.1.0"
STOCK, FREE, PROBED, BOTH = (
    f"{TAG}{end}" for end in ("", "-no-backpressure", "-usdt", "-no-backpressure-usdt")
)

PATCH = """\
Subject: A probe

It stands for those of the real series.

diff --git a/src/main.c b/src/main.c
--- a/src/main.c
+++ b/src/main.c
@@ -1 +1 @@
-int main(void) { return 0; }
+int main(void) { /* probed */ return 0; }
"""


def settings_of(kiln: Kiln, patch: str = PATCH) -> Settings:
    """A user's settings, with a patch series of our own for probes."""
    folder = make_patches(kiln.folder / "patches", {"probes.patch": patch})
    read = Settings.read(environ=kiln.environment(), config=None, root=CHECKOUT, cwd=kiln.here, venv=None)
    return replace(read, patches=folder)


def make(kiln: Kiln, settings: Settings, **options: bool) -> tuple[Matrix, str]:
    """Makes all four; answers with what became of them and what was said."""
    said = io.StringIO()
    reporter = Reporter(Console(file=said, soft_wrap=True))
    request = BuildOptions(recipe=Recipe(tag=Tag.parse(TAG)), **options)  # type: ignore[arg-type]  # by name
    return build_matrix(request, settings, reporter), said.getvalue()


def names(matrix: Matrix) -> list[str]:
    return [made.recipe.name for made in matrix.recipes]


def paths(matrix: Matrix) -> list[Path]:
    return [made.path for made in matrix.recipes if made.path is not None]


@pytest.mark.parametrize(
    ("now", "order"),
    [
        (None, [STOCK, FREE, BOTH, PROBED]),
        ("v20.1.0-other", [STOCK, FREE, BOTH, PROBED]),
        (FREE, [FREE, STOCK, PROBED, BOTH]),
        (PROBED, [PROBED, BOTH, FREE, STOCK]),
        (BOTH, [BOTH, PROBED, STOCK, FREE]),
    ],
)
def test_recipes_of_a_matrix_differ_from_the_previous_one_in_one_change(
    now: str | None, order: list[str]
) -> None:
    registry = Registry((CHECKOUT / "patches",))
    assert [recipe.name for recipe in ordered(Recipe(tag=Tag.parse(TAG)), registry, now)] == order


@pytest.mark.slow
def test_matrix_builds_all_recipes_and_runs_only_what_differs(built: Kiln) -> None:
    matrix, _ = make(built, settings_of(built), from_scratch=True)
    matrix.raise_for()
    assert names(matrix) == [FREE, STOCK, PROBED, BOTH]
    assert paths(matrix) == [built.build / "binaries" / name / "node" for name in names(matrix)]
    assert all(path.is_file() for path in paths(matrix))
    # An empty out/ is for the first alone.
    assert built.ran() == ["configure --ninja", "pack", "configure --ninja", "pack", "pack", "pack", "pack"]


@pytest.mark.slow
def test_matrix_skips_existing_binaries(built: Kiln) -> None:
    settings = settings_of(built)
    assert now_in_tree(Recipe(tag=Tag.parse(TAG)), settings) == FREE
    _, said = make(built, settings)
    assert f"{FREE} already exists" in said
    assert built.ran() == ["configure --ninja", "pack", "pack", "pack", "pack"]


@pytest.mark.slow
def test_matrix_continues_after_a_failed_recipe(kiln: Kiln) -> None:
    misfit = PATCH.replace("return 0; }", "return 1; }")
    matrix, said = make(kiln, settings_of(kiln, misfit))
    assert [path.parent.name for path in paths(matrix)] == [STOCK, FREE]
    assert said.count("the changes do not fit") == 2
    with pytest.raises(PatchError, match=f"2 of 4 recipes failed: {BOTH}, {PROBED}") as failed:
        matrix.raise_for()
    assert failed.value.exit_code == 4


@pytest.mark.slow
def test_matrix_dry_run_lists_all_recipes_and_writes_nothing(kiln: Kiln) -> None:
    matrix, said = make(kiln, settings_of(kiln), dry_run=True)
    matrix.raise_for()
    assert paths(matrix) == []
    assert said.count("would make ") == 4
    assert not (kiln.build / "trees").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("linker", "told"),
    [("lld", "it was linked by lld, and now would be by default"), (None, "already exists")],
)
def test_binary_of_another_linker_is_rebuilt(built: Kiln, linker: str | None, told: str) -> None:
    """One whose manifest names none is older, and was linked by the compiler's own."""
    manifest = built.build / "binaries" / FREE / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["toolchain"].pop("linker")
    if linker is not None:
        facts["toolchain"]["linker"] = linker
    manifest.write_text(json.dumps(facts))
    done = built.run("build", f"--tag={TAG}", "--no-probes", "--no-backpressure")
    assert told in done.stderr
    assert json.loads(manifest.read_text())["toolchain"].get("linker", "default") == "default"


def test_interrupted_configure_keeps_the_linker_of_the_objects(tmp_path: Path) -> None:
    configure = Configure(tmp_path, tmp_path)
    fails, ends = ["false"], ["sh", "-c", "echo \"{'variables': {}}\" >config.gypi"]
    kept: list[str | None] = []
    for argv, linker in ((fails, "lld"), (ends, "lld"), (fails, "bfd"), (ends, "bfd")):
        with suppress(BuildError):
            configure.run(argv, env={"PATH": os.defpath}, wanted=linker, linker=linker)
        kept.append(configure.linker if configure.missing(linker) == () else f"undone: {configure.linker}")
    assert kept == ["undone: None", "lld", "undone: lld", "bfd"]


def test_matrix_without_a_compiler_stops_after_the_first_recipe(kiln: Kiln) -> None:
    settings = settings_of(kiln)
    matrix, said = make(
        kiln, replace(settings, environment={**settings.environment, "CXX": "no-such-compiler"})
    )
    assert said.count("error: ") == 1
    assert [recipe.name for recipe in matrix.untried] == [FREE, BOTH, PROBED]


def test_matrix_without_a_source_stops_after_the_first_recipe(kiln: Kiln, tmp_path: Path) -> None:
    matrix, said = make(kiln, replace(settings_of(kiln), repository=str(tmp_path / "nowhere")))
    assert said.count("error: ") == 1
    with pytest.raises(
        SourceError, match=f"1 of 4 recipes failed: {STOCK}. Not tried, .*: {FREE}, {BOTH}, {PROBED}"
    ):
        matrix.raise_for()
