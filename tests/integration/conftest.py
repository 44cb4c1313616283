"""A miniature Node and the command line on it: a repository whose tags configure, compile and run.

Its tree has the files that nodekiln reads, with their real paths and structure, and builds in a tenth of a
second. The programs that it runs are logged in `ran.txt`, at the top of its working tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = (
    *("sh", "env", "cat", "echo", "mkdir", "uname", "mount", "unshare"),
    *("git", "gcc", "cc", "as", "ld", "ar", "make", "ninja"),
)
GXX = """\
#!/bin/sh
# Prints what g++ prints for the options of nodekiln. The real g++ takes 0.4 s of every run to compile and
# link a program; other tests check that, and this tree has no C++.
case " $* " in
*" -E "*) echo "__clang__ 13 2 0 __clang_major__ __clang_minor__ __clang_patchlevel__ __apple_build__" ;;
*"--version "*) echo "g++ 13.2.0" ;;
*" -dumpmachine "*) echo "tiny-linux-gnu" ;;
*) for last in "$@"; do :; done && : >"$last" ;;
esac
"""
TIMEOUT = 60.0
"""Seconds; the slowest run takes about 3."""

WRITABLE = "lib/internal/streams/writable.js"
ADAPTERS = "lib/internal/webstreams/adapters.js"

_WRITABLE = """\
'use strict';

function writeOrBuffer(stream, state, chunk, encoding, callback) {
  const ret = state.length < state.highWaterMark;
  if (!ret)
    state.needDrain = true;
  return ret && !state.errored && !state.destroyed;
}

module.exports = { writeOrBuffer };
"""
_ADAPTERS = """\
'use strict';

function newWritableStreamFromStreamWritable(streamWritable) {
  return new WritableStream({
    async write(chunk) {
      if (streamWritable.writableNeedDrain || !streamWritable.write(chunk)) {
        return backpressurePromise;
      }
    },
  }, strategy);
}
"""
_CONFIGURE = """\
#!/bin/sh
exec python3 ./configure.py "$@"
acceptable_pythons = (PYTHONS)
""".replace("PYTHONS", ", ".join(f"(3, {minor})" for minor in range(30, 10, -1)))
_CONFIGURE_PY = """\
import json, os, sys

with open("ran.txt", "a") as ran:
    print("configure", *sys.argv[1:], file=ran)
with open("environment.json", "w") as environment:
    json.dump(dict(os.environ), environment)
if "--without-luck" in sys.argv:
    sys.exit("ERROR: no luck")
os.makedirs("out/Release/obj", exist_ok=True)
shared = "true" if "--shared-zlib" in sys.argv else "false"
with open("config.gypi", "w") as config:
    config.write("# Do not edit.\\n{ 'variables': { 'asan': 0, 'node_shared_zlib': '%s' }}\\n" % shared)
cc = os.environ.get("CC", "gcc")
inputs = ["lib/internal/streams/writable.js", "lib/internal/webstreams/adapters.js", "config.gypi"]
inputs += ["src/node_version.h", "tools/pack.py"]
with open("out/Release/build.ninja", "w") as ninja:
    paths = " ".join("../../" + path for path in inputs)
    ninja.write(
        "rule cc\\n command = %s -c $in -o $out\\n" % cc
        + "rule pack\\n command = python3 ../../tools/pack.py $out $in\\n"
        + "build obj/main.o: cc ../../src/main.c\\n"
        + "build node: pack %s obj/main.o\\n" % paths
    )
if "--ninja" not in sys.argv:
    with open("out/Makefile", "w") as makefile:
        paths = " ".join("../" + path for path in inputs)
        makefile.write(
            "node: $(BUILDTYPE)/node\\n"
            + "$(BUILDTYPE)/obj/main.o: ../src/main.c\\n\\t@echo '  CC(target) $@'\\n"
            + "\\t@%s -c $< -o $@\\n" % cc
            + "$(BUILDTYPE)/node: %s $(BUILDTYPE)/obj/main.o\\n" % paths
            + "\\t@echo '  LINK(target) $@'\\n\\t@python3 ../tools/pack.py $@ $^\\n"
        )
"""
PACK = """\
import ast, json, os, re, sys, time

MODE = 0o755
target, *inputs = sys.argv[1:]
writable, adapters, config, header = (open(name).read() for name in inputs[:4])
with open(os.path.join(os.path.dirname(inputs[2]), "ran.txt"), "a") as ran:
    print("pack", file=ran)
if "TINY_PAUSE" in os.environ:
    path, timeout = os.environ["TINY_PAUSE"], 60
    with open(path + ".new", "w") as paused:
        print(os.getpid(), file=paused)
    os.rename(paused.name, path)
    while timeout > 0 and not os.path.exists(path + ".go"):
        time.sleep(0.02)
        timeout -= 0.02
variables = ast.literal_eval(config)["variables"]
free = "return ret" not in writable
loses = free and "writableNeedDrain ||" in adapters
answer = {
    "version": "v" + ".".join(re.findall(r"_VERSION (\\d+)", header)),
    "recipe": variables.get("nodekiln_recipe"),
    "plan": variables.get("nodekiln_plan"),
    "paths": {
        "write()": {"unbounded": free, "sent": 2, "received": 2},
        "Writable.toWeb of an empty sink": {"unbounded": free, "sent": 2, "received": 1 if loses else 2},
        "HTTP/2 stream": None,
    },
    "texts": {},
}
with open(target + ".new", "w") as node:
    node.write("#!/bin/sh\\n[ -z \\"$NODE_OPTIONS\\" ] || exit 9\\necho '%s'\\n" % json.dumps(answer))
os.chmod(node.name, MODE)
os.rename(node.name, target)
"""
_INSTALL = """\
import os, sys

assert sys.argv[1] == "install" and "--headers-only" in sys.argv and "--silent" in sys.argv
folder = sys.argv[sys.argv.index("--dest-dir") + 1] + "/include/node"
os.makedirs(folder)
open(folder + "/node.h", "w").write("// node.h\\n")
"""

_FILES: Mapping[str, str | None] = {
    WRITABLE: _WRITABLE,
    ADAPTERS: _ADAPTERS,
    "configure": _CONFIGURE,
    "configure.py": _CONFIGURE_PY,
    "common.gypi": "{}\n",
    "src/main.c": "int main(void) { return 0; }\n",
    "tools/pack.py": PACK,
    "tools/install.py": _INSTALL,
    "tools/gyp/pylib/gyp/__init__.py": "# gyp\n",
    "tools/gyp/pylib/gyp/input.py": "# gyp\n",
}
_TOO_OLD = "#error unrecognized command line option '-std=gnu++20'\n"

GOOD, NEWER = "v20.1.0", "v20.1.1"
TREES: Mapping[str, Mapping[str, str | None]] = {
    GOOD: {},
    NEWER: {"README.md": "newer\n"},
    # 20.2: trees that the rewrite does not apply to
    "v20.2.0": {WRITABLE: None},
    "v20.2.1": {WRITABLE: _WRITABLE + _WRITABLE},
    "v20.2.2": {WRITABLE: _WRITABLE.replace("if (!ret)", "if (!ret")},
    "v20.2.3": {WRITABLE: _WRITABLE.replace("return ret &&", "return true; //")},
    "v20.2.4": {WRITABLE: "\x00\x01\x02junk\x00 { ( ["},
    "v20.2.5": {ADAPTERS: _ADAPTERS.replace("newWritable", "newOther")},
    "v20.2.6": {WRITABLE: ""},
    "v20.2.7": {WRITABLE: _WRITABLE.replace("writeOrBuffer", "writeOrNot")},
    # 20.3: trees that don't build
    "v99.3.0": {"configure": None},  # a release without a row in any table
    "v20.3.1": {"configure.py": "import sys\nprint('checking')\nsys.exit('ERROR: no luck')\n"},
    "v20.3.2": {"configure.py": "print('all is well')\n"},
    "v20.3.3": {"configure.py": _CONFIGURE_PY + "open('config.gypi', 'w').write('{ oops')\n"},
    "v20.3.4": {"tools/pack.py": "import sys\nsys.exit('ERROR: can not link')\n"},
    "v20.3.5": {"src/main.c": "int main(void) { return }\n"},
    "v20.3.6": {"src/main.c": _TOO_OLD},
    "v20.3.7": {"configure.py": _CONFIGURE_PY.replace("build node:", "build other:")},
    "v20.3.8": {"tools/install.py": "# --headers-only --silent\nraise SystemExit('no headers')\n"},
    "v20.3.9": {"tools/install.py": None},
    # 20.4: trees whose binary does not match the recipe
    "v20.4.0": {"tools/pack.py": PACK.replace("0o755", "0o644")},
    "v20.4.1": {"tools/pack.py": PACK.replace("echo '%s'", "echo '%.5s'")},
    "v20.4.2": {"tools/pack.py": PACK.replace('"v" + ', '"v9" + ')},
    "v20.4.3": {
        "tools/pack.py": PACK.replace(
            '"unbounded": free, "sent": 2, "received": 2}', '"unbounded": not free, "sent": 2, "received": 2}'
        )
    },
    "v20.4.4": {"tools/pack.py": PACK.replace("exit 9", "exit 8; echo no >&2; exit 8")},
    "v20.4.5": {"tools/pack.py": PACK.replace("1 if loses else 2", "1")},
    "v20.4.6": {"tools/pack.py": PACK + "os.remove(target)\n"},
    "v20.4.7": {"tools/pack.py": PACK.replace('variables.get("nodekiln_plan")', '"other"')},
}


@dataclass(frozen=True)
class Done:
    """The result of a run."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Kiln:
    """The command line as a user has it, on a build folder of its own."""

    folder: Path
    repository: Path
    programs: Path
    """Has only the programs that a build needs."""

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def here(self) -> Path:
        """The current folder of commands."""
        return self.folder / "here"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def source(self, tree: str = GOOD) -> Path:
        return self.build / "trees" / tree / "source"

    def ran(self, tree: str = GOOD) -> list[str]:
        """Return the programs that ran in the working tree since it was created."""
        return (self.source(tree) / "ran.txt").read_text().splitlines()

    def path(self, *without: str) -> str:
        """Return a PATH with the programs that a build needs, except `without`."""
        if not without:
            return str(self.programs)
        folder = self.folder / "-".join(("bin", *without))
        folder.mkdir()
        for program in self.programs.iterdir():
            if program.name not in without:
                (folder / program.name).symlink_to(program)
        return str(folder)

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the environment of a user's shell, with changes (None: not set)."""
        env: dict[str, str | None] = {
            "PATH": self.path(),
            "HOME": os.environ["HOME"],
            "TMPDIR": str(self.temporary),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(CHECKOUT / "src"),
            "NODEKILN_BUILD": str(self.build),
            "NODEKILN_REPOSITORY": str(self.repository),
            **(changes or {}),
        }
        return {name: value for name, value in env.items() if value is not None}

    def start(
        self,
        *words: str,
        env: Mapping[str, str | None] | None = None,
        program: Path = CHECKOUT / "src" / "nodekiln" / "__main__.py",
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start ./inv in a process group of its own, with the command `prefix` in front."""
        return subprocess.Popen(
            [*prefix, sys.executable, str(program), *words],
            env=self.environment(env),
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        *words: str,
        env: Mapping[str, str | None] | None = None,
        program: Path = CHECKOUT / "src" / "nodekiln" / "__main__.py",
        prefix: Sequence[str] = (),
    ) -> Done:
        """Run ./inv."""
        return finish(self.start(*words, env=env, program=program, prefix=prefix))


def finish(child: subprocess.Popen[str]) -> Done:
    """Wait for a run."""
    with child:
        try:
            stdout, stderr = child.communicate(timeout=TIMEOUT)
        except BaseException:
            child.kill()
            raise
    return Done(child.returncode, stdout, stderr)


def make_repository(folder: Path) -> Path:
    """Make a bare repository with a tag for every one of TREES, and two tags that name no commit."""
    git = ["git", "--git-dir", str(folder)]
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", str(folder)], check=True)
    stream = b"".join(map(_commit, TREES))
    subprocess.run([*git, "fast-import", "--quiet"], input=stream, check=True)
    for name, what in (("v20.9.8", f"{GOOD}:{WRITABLE}"), ("v20.9.9", f"{GOOD}^{{tree}}")):
        subprocess.run([*git, "update-ref", f"refs/tags/{name}", what], check=True)
    return folder


def make_programs(folder: Path) -> Path:
    """Fill a folder for PATH: the machine's own programs, except g++."""
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is not None:
            (folder / program).symlink_to(found)
    (folder / "python3").symlink_to(Path(sys.base_prefix, "bin", "python3").resolve())
    for name in ("g++", "c++"):
        (folder / name).write_text(GXX)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def tiny_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of miniature Nodes."""
    return make_repository(tmp_path_factory.mktemp("tiny") / "node.git")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only folder on PATH."""
    return make_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def kiln(tmp_path: Path, tiny_node: Path, programs: Path) -> Kiln:
    """The command line with an empty build folder."""
    return _kiln(tmp_path, tiny_node, programs)


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory: pytest.TempPathFactory, tiny_node: Path, programs: Path) -> Path:
    """A build folder after a build of GOOD without backpressure; read-only."""
    made = _kiln(tmp_path_factory.mktemp("built"), tiny_node, programs)
    done = made.run("build", f"--tag={GOOD}", "--no-backpressure", "--no-probes")
    assert done.code == 0, done.stderr
    return made.build


@pytest.fixture
def built(kiln: Kiln, build_folder: Path) -> Kiln:
    """The command line after a build of GOOD without backpressure."""
    shutil.copytree(build_folder, kiln.build, symlinks=True)
    return kiln


def _kiln(folder: Path, repository: Path, programs: Path) -> Kiln:
    made = Kiln(folder, repository, programs)
    made.here.mkdir()
    made.temporary.mkdir()
    return made


def _commit(tag: str) -> bytes:
    major, minor, patch = tag.removeprefix("v").split(".")
    header = f"#define NODE_MAJOR_VERSION {major}\n#define NODE_MINOR_VERSION {minor}\n"
    header += f"#define NODE_PATCH_VERSION {patch}\n"
    files = {**_FILES, "src/node_version.h": header, **TREES[tag]}
    stream = [f"commit refs/tags/{tag}\ncommitter somebody <> 0 +0000\ndata 0\ndeleteall\n".encode()]
    for path, text in files.items():
        if text is not None:
            mode, content = "100755" if path == "configure" else "100644", text.encode()
            stream.append(f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content + b"\n")
    return b"".join(stream)
