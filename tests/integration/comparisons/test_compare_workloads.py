"""The workloads that come with nodekiln, run by a real Node as a reader would, and as a trial does."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from nodekiln.experiment.inputs.inputs import chunks
from nodekiln.experiment.inputs.workloads import (
    COLLECTIONS,
    STREAMS,
    child_environment,
    find_workload,
    workload_names,
)
from nodekiln.experiment.measure.trials import find_loss
from nodekiln.experiment.measure.watching import watch

SIZE = 1_000_000
PATIENCE = 60
ENVIRONMENT = child_environment(os.environ)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "input.bin"
    path.write_bytes(b"".join(chunks(SIZE, 1)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("mark", [None, 3])
@pytest.mark.parametrize("name", workload_names())
def test_workload_runs_alone_and_loses_nothing(
    node: Path, data: Path, tmp_path: Path, name: str, mark: int | None
) -> None:
    workload = find_workload(name, tmp_path)
    scale = 1 if workload.unit == "objects" else 100_000
    argv = workload.argv(node, data, tmp_path / "out", mark=mark if mark is None else mark * scale)
    done = subprocess.run(
        argv, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert find_loss(tmp_path / "out", hashlib.sha256(data.read_bytes()).hexdigest()) == ""


TELLS = """
import { channel } from 'node:diagnostics_channel';
import { copyFileSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';

const sink = new Writable({ write() {} });
sink.write('seven b');
channel('nodekiln:writable').publish(sink);
channel('nodekiln:writable').publish({ writableLength: 100 });
const [input, output] = process.argv.slice(2);
const wire = Number(process.env.NODEKILN_STREAMS);
setTimeout(() => {
  // The pipe takes 64 KiB: a longer line waits until somebody looked, after which more was told.
  writeSync(wire, '\\n'.repeat(70000));
  copyFileSync(input, output);
  process.exit();
}, 200);
"""


def test_buffered_bytes_of_published_streams_are_reported(node: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tells.mjs").write_text(TELLS)
    argv = [
        str(node),
        "--require",
        str(STREAMS),
        str(tmp_path / "tells.mjs"),
        str(data),
        str(tmp_path / "out"),
    ]
    course = watch(argv, env=ENVIRONMENT, cwd=tmp_path, log=tmp_path / "log")
    assert (course.ending, course.detail) == ("finished", "")
    assert {sample.writable_length for sample in course.samples} >= {107}


COLLECTS = """
gc();
setImmediate(() => {
  gc();
  setImmediate(() => gc());
});
"""


def test_collections_are_written_down_by_their_type(node: Path, tmp_path: Path) -> None:
    (tmp_path / "collects.cjs").write_text(COLLECTS)
    env = {**ENVIRONMENT, "NODEKILN_COLLECTIONS": str(tmp_path / "told")}
    argv = [str(node), "--expose-gc", "--require", str(COLLECTIONS), str(tmp_path / "collects.cjs")]
    subprocess.run(argv, env=env, timeout=PATIENCE, check=True)
    told = [line.split(",") for line in (tmp_path / "told").read_text().splitlines()]
    assert [words[0] for words in told].count("4") >= 2  # the last may come too late
    assert all(float(start) > 0 and float(took) > 0 for _, start, took in told)


def test_workload_is_not_disturbed_by_who_listens(node: Path, data: Path, tmp_path: Path) -> None:
    """Its descriptor is closed: nobody listens."""
    workload = find_workload("pipeline", tmp_path)
    argv = workload.argv(node, data, tmp_path / "out", options=("--require", str(STREAMS)))
    env = {**ENVIRONMENT, "NODEKILN_STREAMS": "99", "NODEKILN_INTERVAL": "1"}
    done = subprocess.run(argv, env=env, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
