"""Complete builds of v20.19.2 through the command line; their binaries are run.

They take minutes with a warm compiler cache: see the marker `build`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from nodekiln.binaries.selfcheck import examine

_ENVIRONMENT = dict(os.environ)
_PROJECT = Path(__file__).parents[2]
_TAG = "v20.19.2"
_NAMES = (_TAG, f"{_TAG}-no-backpressure")
_WRITABLE, _ADAPTERS = "lib/internal/streams/writable.js", "lib/internal/webstreams/adapters.js"
_EDITED = ["lib/_http_outgoing.js", _WRITABLE, _ADAPTERS]

pytestmark = pytest.mark.build


@dataclass(frozen=True)
class Project:
    """The command line with a build folder of its own."""

    folder: Path

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, str(_PROJECT / "src" / "nodekiln" / "__main__.py"), *words]

    def environment(self, **variables: str) -> dict[str, str]:
        return {**_ENVIRONMENT, "NODEKILN_BUILD": str(self.folder), **variables}

    def run(self, *words: str, expect: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*words),
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stderr
        return done

    def build(self, *words: str) -> dict[str, Any]:
        """Build, and return the manifest of the binary whose path was printed."""
        path = Path(self.run("build", "--tag", _TAG, "--no-probes", *words).stdout.strip())
        manifest: dict[str, Any] = json.loads((path.parent / "manifest.json").read_text())
        return manifest

    @property
    def source(self) -> Path:
        (tree,) = (folder for folder in (self.folder / "trees").iterdir() if folder.name.startswith(_TAG))
        return tree / "source"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, dict[str, dict[str, Any]]]]:
    """Stock first, then the second recipe in the same tree."""
    if "NODEKILN_REPOSITORY" not in _ENVIRONMENT:
        pytest.skip("NODEKILN_REPOSITORY names no repository with a real Node tree")
    project = Project(tmp_path_factory.mktemp("kiln") / "build")
    manifests = {_NAMES[0]: project.build(), _NAMES[1]: project.build("--no-backpressure")}
    yield project, manifests
    shutil.rmtree(project.folder)


Built = tuple[Project, dict[str, dict[str, Any]]]


def run_node(project: Project, name: str, script: str, *words: str) -> str:
    binary = project.run("path", name).stdout.strip()
    return subprocess.run(
        [binary, *words, "-e", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_second_recipe_rebuilds_rewritten_files_only(built: Built) -> None:
    _, manifests = built
    stock, changed = (manifests[name] for name in _NAMES)
    assert stock["planned"] == []
    assert [file["path"] for file in changed["planned"]] == _EDITED
    assert stock["steps"] > 1500
    assert changed["steps"] <= 12
    assert "configure" not in changed["seconds"]


@pytest.mark.parametrize(("name", "answer"), [(_NAMES[0], "false"), (_NAMES[1], "true")])
@pytest.mark.parametrize("snapshot", [(), ("--no-node-snapshot",)])
def test_write_returns_what_the_recipe_promises(
    built: Built, name: str, answer: str, snapshot: Sequence[str]
) -> None:
    script = """
      const { Writable } = require('stream');
      const slow = new Writable({ highWaterMark: 1, write(chunk, encoding, done) { setTimeout(done, 5) } });
      console.log(slow.write('more than one byte'));
    """
    assert run_node(built[0], name, script, *snapshot) == answer


@pytest.mark.parametrize("name", _NAMES)
def test_binary_has_its_recipe_in_process_config(built: Built, name: str) -> None:
    project, manifests = built
    variables = "process.config.variables"
    script = f"console.log(process.version, {variables}.nodekiln_recipe, {variables}.nodekiln_plan)"
    assert run_node(project, name, script) == f"{_TAG} {name} {manifests[name]['plan']}"


@pytest.mark.parametrize("name", _NAMES)
def test_gzip_pipeline_keeps_all_data(built: Built, name: str, tmp_path: Path) -> None:
    script = """
      const fs = require('fs'), zlib = require('zlib'), { pipeline } = require('stream/promises');
      const [input, packed, output] = ['a', 'b', 'c'].map((name) => process.argv[1] + '/' + name);
      fs.writeFileSync(input, require('crypto').randomBytes(16 << 20));
      pipeline(fs.createReadStream(input), zlib.createGzip(), fs.createWriteStream(packed))
        .then(() => pipeline(fs.createReadStream(packed), zlib.createGunzip(), fs.createWriteStream(output)))
        .then(() => console.log(fs.readFileSync(input).equals(fs.readFileSync(output))));
    """
    binary = built[0].run("path", name).stdout.strip()
    done = subprocess.run(
        [binary, "-e", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "true"


def test_self_check_detects_the_return_edited_alone(built: Built) -> None:
    project, manifests = built
    adapters, writable = project.source / _ADAPTERS, project.source / _WRITABLE
    planned = adapters.read_bytes()
    blobs = {file["path"]: file["before"] for file in manifests[_NAMES[1]]["planned"]}

    def original(path: str) -> bytes:
        argv = ["git", "--git-dir", str(project.folder / "mirror.git"), "cat-file", "blob", blobs[path]]
        return subprocess.run(argv, capture_output=True, check=True).stdout

    # write() returns true although writableNeedDrain is set, so web streams lose the chunks that find it set.
    project.build("--no-backpressure", "--force")
    adapters.write_bytes(original(_ADAPTERS) + b"// by hand\n")
    writable.write_bytes(original(_WRITABLE).replace(b"return ret && ", b"return "))
    subprocess.run(["ninja", "-C", str(project.source / "out/Release"), "node"], check=True)
    found = examine(project.source / "out/Release/node", env=_ENVIRONMENT)
    lossy = found.paths["Writable.toWeb of an empty sink"]
    assert lossy.received < lossy.sent

    refused = project.run("build", "--tag", _TAG, "--no-probes", "--no-backpressure", "--force", expect=6)
    assert _ADAPTERS in refused.stderr
    again = project.build("--no-backpressure", "--force", "--discard-edits")
    assert adapters.read_bytes() == planned
    assert again["self_check"]["paths"]["Writable.toWeb of an empty sink"]["received"] == lossy.sent


@pytest.mark.parametrize(
    ("file", "compiler", "code"),
    [
        (
            "seven.c",
            ["gcc"],
            """
            #include <node_api.h>
            NAPI_MODULE_INIT() {
              napi_value seven;
              napi_create_int32(env, 7, &seven);
              return seven;
            }
            """,
        ),
        (
            "seven.cc",
            ["g++", "-std=gnu++17"],
            """
            #include <node.h>
            NODE_MODULE_INIT() {
              auto name = v8::String::NewFromUtf8Literal(context->GetIsolate(), "seven");
              exports.As<v8::Object>()->Set(context, name, v8::Number::New(context->GetIsolate(), 7)).Check();
            }
            """,
        ),
    ],
)
def test_add_ons_compile_with_the_published_headers(
    built: Built, tmp_path: Path, file: str, compiler: list[str], code: str
) -> None:
    """As node-gyp does with --nodedir; Debian's own node-gyp would link them with Debian's libnode."""
    folder = Path(built[0].run("path", _NAMES[1]).stdout.strip()).parent
    (tmp_path / file).write_text(code)
    add_on = tmp_path / "seven.node"
    subprocess.run(
        [*compiler, "-shared", "-fPIC", f"-I{folder}/include/node", "-o", str(add_on), str(tmp_path / file)],
        check=True,
    )
    script = f"const seven = require('{add_on}'); console.log(seven.seven ?? seven)"
    assert run_node(built[0], _NAMES[1], script) == "7"


def test_existing_binary_is_not_rebuilt(built: Built) -> None:
    project, manifests = built
    done = project.run("build", "--tag", _TAG, "--no-probes", "--no-backpressure")
    assert "already exists" in done.stderr
    assert "compile" not in done.stderr
    assert json.loads((Path(done.stdout.strip()).parent / "manifest.json").read_text())["name"] == _NAMES[1]
    assert {row["name"] for row in json.loads(project.run("list", "--format", "json").stdout)} == set(
        manifests
    )


def test_stray_compiler_is_an_error_before_anything_runs(built: Built) -> None:
    refused = built[0].run("build", "--tag", _TAG, "--no-probes", "--force", expect=3, CXX="g++-99")
    assert "CXX is 'g++-99'" in refused.stderr
    assert "configure:" not in refused.stderr


def test_failing_configure_shows_its_last_lines(built: Built) -> None:
    words = ("build", "--tag", _TAG, "--no-probes", "--configure-args=--with-intl=nonsense")
    failed = built[0].run(*words, expect=5)
    assert "configure failed" in failed.stderr
    assert "nonsense" in failed.stderr
    assert "configure.log" in failed.stderr
    assert len(list((built[0].folder / "binaries").iterdir())) == 2


def test_build_with_make_ends_with_its_children_at_ctrl_c(tmp_path: Path, built: Built) -> None:
    """Not a complete build: with make it would not hit the cache, whose paths are ninja's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in _ENVIRONMENT["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            link = programs / program.name
            if program.name != "ninja" and not link.exists():
                link.symlink_to(program)
    project = Project(tmp_path / "build")
    shutil.copytree(built[0].folder / "mirror.git", project.folder / "mirror.git")
    with subprocess.Popen(
        project.argv("build", "--tag", _TAG, "--no-probes"),
        env=project.environment(PATH=str(programs)),
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("compile: make"):
                break
        log = project.source.parent / "build.log"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (log.exists() and "CXX(target)" in log.read_text()):
            time.sleep(0.1)
        running = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(signal.SIGINT)
        said = child.stderr.readlines()
        assert child.wait(60) == 130
    assert running
    left = psutil.wait_procs(running, timeout=10)[1]
    assert [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert "interrupted" in said[-1]
    assert not (project.folder / "binaries").exists()
