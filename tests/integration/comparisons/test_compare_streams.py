"""What is published as a Writable and is none: the workload goes on, and nothing false is told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nodekiln.experiment.watching import watch
from nodekiln.experiment.workloads import STREAMS, child_environment

ENVIRONMENT = child_environment(os.environ)


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    version = (
        subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if found
        else ""
    )
    if found is None or int(re.findall(r"\d+", version)[0]) < 18:
        pytest.skip("there is no Node 18 or later on the PATH")
    return found


@pytest.mark.parametrize(
    "published",
    [
        "null",
        "undefined",
        "'text'",
        "{ writableLength: 1e20 }",
        "{ writableLength: 7n }",
        "{ writableLength: '5' }",
    ],
)
def test_what_is_no_writable_counts_nothing(node: str, tmp_path: Path, published: str) -> None:
    (tmp_path / "mine.cjs").write_text(
        "const found = require('diagnostics_channel').channel('nodekiln:writable');\n"
        f"for (const one of [{published}, {{ writableLength: 42 }}]) found.publish(one);\n"
        "setTimeout(() => {}, 300);\n"
    )
    argv = [node, "--require", str(STREAMS), str(tmp_path / "mine.cjs")]
    course = watch(argv, env=ENVIRONMENT, cwd=tmp_path, log=tmp_path / "log")
    assert (course.ending, course.detail) == ("finished", "")
    assert {sample.writable_length for sample in course.samples} <= {None, 42}
    assert course.samples[-1].writable_length == 42
