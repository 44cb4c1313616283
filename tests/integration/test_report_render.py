"""The report as files: whole, escaped, and in need of nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.text import Annotation
from rich.console import Console

import nodekiln
from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.reporting import Reporter
from nodekiln.experiment.analysis.analyze import analyze
from nodekiln.experiment.model.results import Experiment, GcRun, Sample, Sweep, dump, load, read_results
from nodekiln.experiment.report.drawing import label_heights, panels
from nodekiln.experiment.report.page import write_report

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "tests" / "examples"
HOSTILE = "<script>window.pwned=1</script>&amp;\"'$\\frac{\x1b[31m\u202e"
VOID = {"meta", "wbr", "br", "hr", "link", "img", "input"}
PLOTS = {"gc-pauses", "gc-totals", "memory", "wall-time", "writable-length"}


@dataclass
class Page(HTMLParser):
    """What stands in a page: elements, ids, texts, what points where, and tags that don't match."""

    tags: Counter[str] = field(default_factory=Counter)
    ids: Counter[str] = field(default_factory=Counter)
    points: set[str] = field(default_factory=set)
    outside: list[str] = field(default_factory=list)
    text: str = ""
    unbalanced: list[str] = field(default_factory=list)
    headings_without_scope: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        named = dict(attrs)
        self.headings_without_scope += tag == "th" and "scope" not in named
        for name, value in attrs:
            if name == "id" and value:
                self.ids[value] += 1
            elif name in ("aria-labelledby", "aria-describedby") and value:
                self.points |= set(value.split())
            elif name in ("href", "xlink:href") and value and value.startswith("#"):
                self.points.add(value[1:])
            elif name in ("href", "src", "xlink:href", "srcset", "action") or name.startswith("on"):
                self.outside.append(f"{tag} {name}={value}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def silent() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


def experiment() -> Experiment:
    results = load((EXAMPLES / "experiment.json").read_bytes())
    assert isinstance(results, Experiment)
    return results


def parsed(folder: Path) -> Page:
    page = Page()
    page.feed((folder / "report.html").read_text())
    page.close()
    return page


def check_page(page: Page) -> None:
    """Whatever is in it: well-formed, self-contained, and every name that is pointed to is there once."""
    assert page.unbalanced == []
    assert page.open == []
    assert page.outside == []
    assert page.tags["script"] == 0
    assert [name for name, times in page.ids.items() if times > 1] == []
    assert page.points <= set(page.ids)
    assert page.headings_without_scope == 0


@pytest.mark.slow
def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    real = experiment()
    labels = dict(zip((binary.label for binary in real.binaries), ("<b>$x^</b>", "<i>&"), strict=True))
    missing = GcRun(binary="<i>&", method="probes", number=9, collections=None, wall_ms=0, note=HOSTILE)
    hostile = replace(
        real,
        binaries=tuple(
            replace(one, label=labels[one.label], name=HOSTILE, version=HOSTILE, probes=(HOSTILE,))
            for one in real.binaries
        ),
        trials=tuple(
            replace(
                trial,
                binary=labels[trial.binary],
                ending="failed" if trial.number == 1 else "finished",
                detail=HOSTILE,
            )
            for trial in real.trials
        ),
        gc_runs=(
            missing,
            *(replace(run, binary=labels[run.binary]) for run in real.gc_runs if run.collections),
        ),
        joint_runs=tuple(replace(run, binary=labels[run.binary], note=HOSTILE) for run in real.joint_runs),
        workload=HOSTILE,
        program=HOSTILE,
        notes=(HOSTILE,),
        started=HOSTILE,
        environment=replace(real.environment, cpu=HOSTILE, kernel=HOSTILE, os=HOSTILE, tracer=HOSTILE),
        input=replace(real.input, name=HOSTILE),
    )
    write_report(tmp_path, analyze(load(dump(hostile))), silent())
    page = parsed(tmp_path)
    check_page(page)
    assert page.tags["svg"] == len(PLOTS)
    files = {f"{name}.{ending}" for name in PLOTS for ending in ("png", "svg")}
    assert {file.name for file in tmp_path.iterdir()} == files | {"report.html"}
    assert "<script>window.pwned=1</script>&amp;\"'$\\frac{" in page.text
    assert "<b>$x^</b>" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert "<i>&" in "".join(ET.fromstring((tmp_path / "memory.svg").read_bytes()).itertext())  # noqa: S314


def test_experiment_with_hardly_anything_in_it_can_be_drawn(tmp_path: Path) -> None:
    real = experiment()
    ended = replace(
        real.trials[0],
        ending="out of memory",
        samples=(Sample(at_ms=0, rss_bytes=0),),
    )
    bare = replace(
        real,
        trials=(ended,),
        gc_runs=(),
        program=None,
        input=replace(real.input, kind="none", size_bytes=0, sha256=None, compressed_ratio=None),
        environment=replace(real.environment, load=None),
        partial=True,
    )
    write_report(tmp_path, analyze(bare), silent())
    page = parsed(tmp_path)
    check_page(page)
    assert "ran out of memory in 1 of 1 trial" in page.text
    assert "Interrupted" in page.text
    write_report(tmp_path, analyze(replace(bare, trials=())), silent())
    check_page(parsed(tmp_path))


def test_runs_without_any_collection_are_drawn(tmp_path: Path) -> None:
    real = experiment()
    idle = tuple(replace(run, collections=()) for run in real.gc_runs)
    write_report(tmp_path, analyze(replace(real, trials=(), gc_runs=idle)), silent())
    assert "0 pauses" in "".join(ET.fromstring((tmp_path / "gc-pauses.svg").read_bytes()).itertext())  # noqa: S314


def test_labels_of_similar_lines_do_not_overlap() -> None:
    figure, (axes,) = panels(1, 3.0)
    axes.set_ylim(0, 100)
    label_heights(axes, [(99.0, f"b{number}", "black") for number in range(24)])
    heights = sorted(text.xy[1] for text in axes.texts if isinstance(text, Annotation))
    gaps = {round(after - before, 6) for before, after in pairwise(heights)}
    assert len(heights) == 24
    assert min(gaps) > 0
    assert heights[0] > 0
    assert heights[-1] <= 100 + 2 * min(gaps)
    assert figure.get_figheight() > 3


@pytest.mark.slow
def test_sweep_is_drawn_against_the_size_of_the_input(tmp_path: Path) -> None:
    sweep = load((EXAMPLES / "sweep.json").read_bytes())
    assert isinstance(sweep, Sweep)
    write_report(tmp_path, analyze(replace(sweep, experiments=sweep.at(None))), silent())
    page = parsed(tmp_path)
    check_page(page)
    assert {file.stem for file in tmp_path.glob("*.svg")} == {
        "size-memory",
        "size-gc-time",
        "size-gc-share",
        "size-wall-time",
    }
    assert "stock: peak memory 71.3 MB to 71.8 MB" in page.text
    assert "all of the input" in page.text


def test_nothing_heavy_is_imported_before_something_is_drawn() -> None:
    program = (
        "import sys\n"
        "from nodekiln.experiment import compare\n"
        "from nodekiln.experiment.report import page, tables\n"
        "print({'numpy', 'matplotlib', 'jinja2'} & set(sys.modules))"
    )
    argv = [sys.executable, "-c", program]
    env = {"PYTHONPATH": str(Path(nodekiln.__file__).parents[1])}
    assert subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_unreadable_results_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        read_results(tmp_path)
    assert caught.value.remedy is not None
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        read_results(tmp_path)


def test_results_that_are_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(UsageError, match=r"results\.json is not a regular file"):
        read_results(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["here", "config"])
def test_report_is_the_same_with_any_matplotlib_configuration(tmp_path: Path, place: str) -> None:
    """LaTeX, which isn't there; lines that make no sense; a backend that nobody knows."""
    for name in ("here", "config", "ours", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / place / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\nno such line\n")
    (tmp_path / "theirs" / "results.json").write_text(dump(replace(experiment(), gc_runs=(), joint_runs=())))
    write_report(tmp_path / "ours", analyze(read_results(tmp_path / "theirs")), silent())
    environment = {"MPLCONFIGDIR": str(tmp_path / "config"), "MPLBACKEND": "nonsense"}
    done = report(tmp_path / "theirs", here=tmp_path / "here", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    for drawn in (tmp_path / "ours").iterdir():
        assert (tmp_path / "theirs" / drawn.name).read_bytes() == drawn.read_bytes(), drawn.name


@pytest.mark.slow
def test_home_that_cannot_be_written_is_no_trouble_to_a_report(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(dump(replace(experiment(), gc_runs=(), joint_runs=())))
    (tmp_path / "tmp").mkdir()
    place = {"MPLCONFIGDIR": str(tmp_path / "results.json" / "folder"), "TMPDIR": str(tmp_path / "tmp")}
    done = report(tmp_path, here=tmp_path, **place)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_folder_that_cannot_be_entered_again_is_not_left_for_a_report(tmp_path: Path) -> None:
    program = """
import os
from nodekiln.core import figures
def chdir(_): raise PermissionError
os.chdir = chdir
with figures.settings({}): print("drawn")
"""
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("drawn\n", "")


def report(folder: Path, *, here: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a user types in the folder `here`."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    env["PYTHONPATH"] = str(PROJECT / "src")
    argv = [sys.executable, str(PROJECT / "src" / "nodekiln" / "__main__.py"), "report", str(folder)]
    return subprocess.run(argv, cwd=here, env=env, capture_output=True, text=True, check=False)


def test_unwritable_report_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(SourceError, match="can't be written") as caught:
        write_report(tmp_path, analyze(replace(experiment(), trials=(), gc_runs=())), silent())
    assert str(tmp_path) in (caught.value.remedy or "")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
