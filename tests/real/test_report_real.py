"""The report in a real browser: light, dark, on a narrow screen and on paper. Needs Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.core.reporting import Reporter
from nodekiln.experiment.analysis.analyze import analyze
from nodekiln.experiment.model.results import read_results
from nodekiln.experiment.report.page import write_report

EXAMPLES = Path(__file__).parents[1] / "examples"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120
"""Seconds after which a browser has hung; it takes about 3."""
LIGHT, DARK = 1, 0
"""Chromium's preferredColorScheme."""
CONTRAST = 4.5
"""WCAG 2.2, 1.4.3: what text needs against its ground."""

_POLICY = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")
_LOOK = """
<script>
function ink(element) {
  for (let at = element; at; at = at.parentElement) {
    const ground = getComputedStyle(at).backgroundColor;
    if (!ground.endsWith(', 0)')) return [getComputedStyle(element).color, ground];
  }
}
const look = {
  inks: [...document.querySelectorAll('h1, p, li, li strong, td, th, dt, dd, figcaption, pre')].map(ink),
  ground: getComputedStyle(document.body).backgroundColor,
  wider: document.documentElement.scrollWidth - innerWidth,
  plots: [...document.querySelectorAll('svg.plot')].map((svg) => svg.getBoundingClientRect().height),
  lines: [...document.querySelectorAll('svg.plot path')].map((path) => getComputedStyle(path).stroke),
  texts: [...document.querySelectorAll('svg.plot text')].map((text) => getComputedStyle(text).fill),
};
if (parent === window) document.body.textContent = `LOOK${JSON.stringify(look)}LOOK`;
else parent.postMessage(JSON.stringify(look), '*');
</script>
"""
_FRAME = """<!DOCTYPE html><body style="margin:0">
<iframe style="border:0" width="{width}" height="800" srcdoc="{page}"></iframe>
<script>
addEventListener('message', (event) => {{ document.body.textContent = `LOOK${{event.data}}LOOK`; }});
</script>
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (apt install chromium)")


@pytest.fixture(scope="module", params=["experiment", "sweep"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real run."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copy(EXAMPLES / f"{request.param}.json", folder / "results.json")
    write_report(folder, analyze(read_results(folder)), Reporter(Console(file=StringIO())))
    return folder


def chromium(tmp_path: Path, page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    argv = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    argv += ["--enable-logging=stderr", "--virtual-time-budget=5000", *words, page.as_uri()]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)


def look_at(tmp_path: Path, folder: Path, scheme: int = LIGHT, width: int | None = None) -> Any:
    """What a script sees in the page; its own policy, which allows no script, is taken out for that."""
    text = (folder / "report.html").read_text()
    assert _POLICY.search(text)
    text = _POLICY.sub("", text).replace("</body>", f"{_LOOK}</body>")
    if width is not None:
        text = _FRAME.format(width=width, page=html.escape(text))
    page = tmp_path / "looked-at.html"
    page.write_text(text)
    dom = chromium(tmp_path, page, "--dump-dom", f"--blink-settings=preferredColorScheme={scheme}").stdout
    return json.loads(html.unescape(dom.split("LOOK")[1]))


def luminance(color: str) -> float:
    """WCAG's relative luminance of "rgb(0, 114, 178)"."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_can_be_read(tmp_path: Path, folder: Path, scheme: int) -> None:
    look = look_at(tmp_path, folder, scheme)
    assert (luminance(look["ground"]) > 0.5) == (scheme == LIGHT)
    poor = {(ink, ground) for ink, ground in look["inks"] if contrast(ink, ground) < CONTRAST}
    assert poor == set()
    assert min(look["plots"]) > 150
    # What is drawn needs 3 to 1 (WCAG 2.2, 1.4.11); the lines of the grid are fainter on purpose.
    assert min(contrast(text, look["ground"]) for text in look["texts"]) >= 3


def test_dark_plots_have_other_colors(tmp_path: Path, folder: Path) -> None:
    light, dark = (set(look_at(tmp_path, folder, scheme)["lines"]) for scheme in (LIGHT, DARK))
    assert light & dark <= {"none"}


def test_phone_need_not_scroll_sideways(tmp_path: Path, folder: Path) -> None:
    look = look_at(tmp_path, folder, width=360)
    assert look["wider"] <= 0
    assert min(look["plots"]) > 150


def test_page_as_it_is_loads_nothing_and_complains_of_nothing(tmp_path: Path, folder: Path) -> None:
    told = chromium(tmp_path, folder / "report.html", "--dump-dom").stderr
    complaints = [line for line in told.splitlines() if "CONSOLE" in line or "Content Security" in line]
    assert complaints == []


def test_printed_report_has_a_few_pages(tmp_path: Path, folder: Path) -> None:
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, folder / "report.html", "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 3 <= pages <= 8


def test_drawn_again_it_is_the_same(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    write_report(folder, analyze(read_results(folder)), Reporter(Console(file=StringIO())))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_plots_are_self_contained_and_small(folder: Path) -> None:
    for file in folder.glob("*.svg"):
        texts = "".join(ET.parse(file).getroot().itertext())  # noqa: S314 (written by the test)
        assert "stock" in texts
        assert "prefers-color-scheme: dark" in texts
        assert file.stat().st_size < 60_000
        assert file.with_suffix(".png").stat().st_size < 200_000
