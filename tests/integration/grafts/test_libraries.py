"""Programs that find their libraries relative to their own file."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from nodekiln.core.errors import PatchError
from nodekiln.grafting.libraries import find_libraries
from tests.integration.grafts.desk import ADAPTERS, NEEDS_GCC, WRITABLE, Desk, compile_node, manifest

pytestmark = NEEDS_GCC

RELATIVE = "$ORIGIN/../../wheel.libs"


def compile_libraries(folder: Path) -> None:
    """Make libfirst.so, which needs libsecond.so from its own folder."""
    folder.mkdir(parents=True)
    (folder / "second.c").write_text("int second(void) { return 2; }")
    (folder / "first.c").write_text("int second(void); int first(void) { return second(); }")
    for name, more in (("second", []), ("first", ["-L.", "-lsecond", "-Wl,-rpath,$ORIGIN"])):
        argv = ["gcc", "-shared", "-fPIC", "-o", f"lib{name}.so", f"{name}.c", *more]
        subprocess.run(argv, cwd=folder, check=True)


def compile_wheel(folder: Path, search_path: str = RELATIVE) -> Path:
    """Return a Node in miniature, in package/bin/, whose libraries are in wheel.libs/."""
    compile_libraries(folder / "wheel.libs")
    home = folder / "package" / "bin"
    home.mkdir(parents=True)
    libraries = ["-Wl,--no-as-needed", f"-L{folder / 'wheel.libs'}", "-lfirst", f"-Wl,-rpath,{search_path}"]
    linked = [*libraries, f"-Wl,-rpath-link,{folder / 'wheel.libs'}"]
    return compile_node(home, WRITABLE, ADAPTERS, options=linked)


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
def test_libraries_beside_a_release_are_kept_with_its_graft(tmp_path: Path, tags: str) -> None:
    node = compile_wheel(tmp_path / "site", f"{RELATIVE},{tags}")
    desk = Desk(tmp_path, node, io.StringIO())
    made = desk.graft()
    assert sorted(path.name for path in (made.parent / "lib").iterdir()) == ["libfirst.so", "libsecond.so"]
    facts = manifest(made)["graft"]
    assert isinstance(facts, dict)
    assert any("libfirst.so" in remark for remark in facts["remarks"])
    assert "search path of libraries" in {change["what"] for change in facts["rewritten"]}
    shutil.rmtree(tmp_path / "site")
    moved = made.parent.rename(tmp_path / "moved")
    shown = subprocess.run(["ldd", moved / "node"], check=True, capture_output=True, text=True).stdout
    assert f"{moved}/lib/libfirst.so" in shown
    assert f"{moved}/lib/libsecond.so" in shown


@pytest.mark.parametrize("search_path", ["$ORIGIN/../../other.libs", "/nowhere"])
def test_program_whose_libraries_are_elsewhere_needs_none(tmp_path: Path, search_path: str) -> None:
    node = compile_wheel(tmp_path / "site", search_path)
    assert find_libraries(node, node) is None


def test_program_that_was_moved_away_from_its_libraries_has_none(tmp_path: Path) -> None:
    node = compile_wheel(tmp_path / "site")
    assert find_libraries(node, tmp_path / "node") is None
    found = find_libraries(Path(shutil.copy2(node, tmp_path / "node")), node)
    assert found is not None
    assert set(found.files) == {"libfirst.so", "libsecond.so"}


@pytest.mark.parametrize(
    ("search_path", "libraries"), [(f"{RELATIVE}:/opt/lib", "wheel.libs"), ("$ORIGIN/w", "package/bin/w")]
)
def test_search_path_that_can_not_be_replaced_is_refused(
    tmp_path: Path, search_path: str, libraries: str
) -> None:
    node = compile_wheel(tmp_path / "site", search_path)
    (tmp_path / "site" / "wheel.libs").rename(tmp_path / "site" / libraries)
    with pytest.raises(PatchError, match=r"libfirst\.so"):
        find_libraries(node, node)


def test_linked_library_is_refused(tmp_path: Path) -> None:
    node = compile_wheel(tmp_path / "site")
    library = tmp_path / "site" / "wheel.libs" / "libfirst.so"
    library.rename(library.with_suffix(".so.1"))
    library.symlink_to(library.with_suffix(".so.1"))
    with pytest.raises(PatchError, match="not a regular file"):
        find_libraries(node, node)
