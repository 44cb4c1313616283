"""What is published as a Writable and is none: the workload goes on, and nothing false is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodekiln.experiment.inputs.workloads import STREAMS, child_environment
from nodekiln.experiment.measure.watching import watch

ENVIRONMENT = child_environment(os.environ)


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
def test_other_objects_than_writables_are_not_counted(node: Path, tmp_path: Path, published: str) -> None:
    (tmp_path / "mine.cjs").write_text(
        "const found = require('diagnostics_channel').channel('nodekiln:writable');\n"
        f"for (const one of [{published}, {{ writableLength: 42 }}]) found.publish(one);\n"
        "setTimeout(() => {}, 300);\n"
    )
    argv = [str(node), "--require", str(STREAMS), str(tmp_path / "mine.cjs")]
    course = watch(argv, env=ENVIRONMENT, cwd=tmp_path, log=tmp_path / "log")
    assert (course.ending, course.detail) == ("finished", "")
    assert {sample.writable_length for sample in course.samples} <= {None, 42}
    assert course.samples[-1].writable_length == 42
