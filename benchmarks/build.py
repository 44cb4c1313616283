"""Measures ./inv build against the same steps by hand: 20.19.2, with ccache warm.

    python benchmarks/build.py [ROUNDS]

NODEKILN_REPOSITORY names a repository with the tag, NODEKILN_CONFIGURE_FILE the configure arguments;
ccache must have a build of it. In turns, ROUNDS times (3, about 7 minutes on two cores): a full build,
the second recipe (no backpressure), stock again and nothing to do, by ./inv build and by hand in
another tree; and the plain method for a second recipe: a fresh checkout, patched, configured and built.
By hand the compiler's own linker links; ./inv build uses lld if it is installed.
Prints medians and all figures.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nodekiln.core.platform import available_memory, cores
from nodekiln.core.process import child_environment
from nodekiln.core.reporting import format_size
from nodekiln.core.settings import read_configure_file

_TAG = "v20.19.2"
_PROGRAM = Path(__file__).resolve().parents[1] / "src" / "nodekiln" / "__main__.py"
"""The program that ./inv runs, once its packages are installed."""
_OURS, _SECOND = ("build", f"--tag={_TAG}", "--no-probes"), "--no-backpressure"
_GOAL = 1.2
"""Ratio to the same steps by hand, without self-check and hashes."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Figures:
    """The seconds of each measurement, by round."""

    found: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def take(self, name: str, work: Callable[[], object]) -> None:
        begun = time.perf_counter()
        work()
        self.found[name].append(time.perf_counter() - begun)

    def median(self, name: str) -> float:
        return statistics.median(self.found[name])

    def print(self) -> None:
        for name, seconds in self.found.items():
            every = ", ".join(f"{each:.2f}" for each in seconds)
            say(f"  {name:48}{self.median(name):8.2f} s   ({every})")


@dataclass(frozen=True)
class Bench:
    """Folders for both methods, and the repository."""

    folder: Path
    repository: Path
    arguments: tuple[str, ...]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "NODEKILN_BUILD": str(self.folder / "build")}

    @property
    def plain_env(self) -> dict[str, str]:
        env = child_environment(os.environ, venv=Path(sys.prefix))
        return {**env, "CC": "ccache gcc", "CXX": "ccache g++"}

    def inv(self, *words: str) -> str:
        return self._output([sys.executable, str(_PROGRAM), *words], None, self.env)

    def run(self, tree: Path, *argv: str) -> None:
        self._output(argv, tree, self.plain_env)

    def _output(self, argv: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> str:
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(
                "\n".join([f"{' '.join(argv)} failed:", *(done.stdout + done.stderr).splitlines()[-12:]])
            )
        return done.stdout

    def checkout(self, tree: Path) -> None:
        shutil.rmtree(tree, ignore_errors=True)
        self.run(self.folder, "git", "clone", "-q", "--depth=1", f"--branch={_TAG}", self.url, str(tree))

    @property
    def url(self) -> str:
        return self.repository.as_uri()  # git ignores --depth for a path

    def configure(self, tree: Path) -> None:
        self.run(tree, "./configure", "--ninja", *self.arguments)

    def make(self, tree: Path) -> None:
        self.run(tree, "ninja", "-C", "out/Release", "node")

    def patch(self, tree: Path, *options: str) -> None:
        self.run(tree, "git", "apply", *options, str(self.patch_file))

    @property
    def patch_file(self) -> Path:
        return self.folder / "second.patch"


def one_round(bench: Bench, figures: Figures) -> None:
    shutil.rmtree(bench.folder / "build", ignore_errors=True)
    hand, fresh = bench.folder / "hand", bench.folder / "fresh"

    def whole() -> None:
        bench.checkout(hand)
        bench.configure(hand)
        bench.make(hand)

    def second() -> None:
        bench.patch(hand)
        bench.make(hand)

    def back() -> None:
        bench.patch(hand, "--reverse")
        bench.make(hand)

    def plain_second() -> None:
        bench.checkout(fresh)
        bench.patch(fresh)
        bench.configure(fresh)
        bench.make(fresh)

    figures.take("full build, ./inv build", lambda: bench.inv(*_OURS))
    figures.take("full build, by hand", whole)
    bench.patch_file.write_text(bench.inv("patch", *_OURS[1:], _SECOND))
    figures.take("second recipe, ./inv build", lambda: bench.inv(*_OURS, _SECOND))
    figures.take("second recipe, by hand in the same tree", second)
    figures.take("second recipe, the plain method", plain_second)
    figures.take("stock again, ./inv build --force", lambda: bench.inv(*_OURS, "--force"))
    figures.take("stock again, by hand in the same tree", back)
    figures.take("nothing to do, ./inv build", lambda: bench.inv(*_OURS))
    figures.take("nothing to do, ninja alone", lambda: bench.make(hand))


def main(bench: Bench, rounds: int) -> None:
    say(f"{platform.platform()}, {platform.machine()}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    say(f"{format_size(available_memory())} of memory free; {_TAG}, {rounds} rounds")
    figures = Figures()
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}")
        one_round(bench, figures)
    figures.print()
    for title, ours, theirs in (
        ("full build", "full build, ./inv build", "full build, by hand"),
        ("second recipe", "second recipe, ./inv build", "second recipe, by hand in the same tree"),
        ("stock again", "stock again, ./inv build --force", "stock again, by hand in the same tree"),
        (
            "second recipe, against the plain method",
            "second recipe, ./inv build",
            "second recipe, the plain method",
        ),
    ):
        say(f"  {title}: {figures.median(ours) / figures.median(theirs):.2f} times the time by hand")
    say(f"  (the goal is {_GOAL}, self-check, hashes, headers and checks of the machine excluded)")


if __name__ == "__main__":
    repository, arguments = map(os.environ.get, ("NODEKILN_REPOSITORY", "NODEKILN_CONFIGURE_FILE"))
    if len(sys.argv) > 2 or not all(word.isdecimal() for word in sys.argv[1:]) or not repository:
        sys.exit(__doc__)
    configure = read_configure_file(Path(arguments), "NODEKILN_CONFIGURE_FILE") if arguments else ()
    with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder:
        main(Bench(Path(folder), Path(repository), configure), int(sys.argv[1]) if sys.argv[1:] else 3)
