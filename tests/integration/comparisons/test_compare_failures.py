"""What goes wrong in a run, and whose fault it is: the binary, the disk, the input."""

from __future__ import annotations

import pytest

from nodekiln.core import platform as machine
from nodekiln.core.errors import CheckError, KilnError, SourceError, UsageError
from nodekiln.experiment.model.results import Experiment, read_results
from tests.integration.comparisons.bench import Bench

LOSES = "copy()\nif me == 'b': open(output, 'r+b').truncate(100)"


def test_binary_that_loses_data_ends_the_comparison(bench: Bench) -> None:
    with pytest.raises(CheckError, match="b loses data"):
        bench.compare(LOSES, warm_ups=1)
    assert bench.experiments() == []


def test_loss_that_comes_late_is_kept_with_what_was_measured(bench: Bench) -> None:
    """The warm-up leaves a mark beside the program, after which data is lost."""
    text = "copy()\nmark = program + me\nif os.path.exists(mark): os.remove(output)\nopen(mark, 'w')"
    with pytest.raises(CheckError, match="loses data: there is no output"):
        bench.compare(text, warm_ups=1)
    (name,) = bench.experiments()
    kept = read_results(bench.folder / "build" / "experiments" / name)
    assert isinstance(kept, Experiment)
    assert kept.partial
    assert [trial.verified for trial in kept.trials] == [False]
    assert f"./inv report {bench.folder / 'build' / 'experiments' / name}" in bench.said.getvalue()


def test_program_that_fails_is_reported_with_its_words_and_how_to_run_it_alone(bench: Bench) -> None:
    with pytest.raises(CheckError) as failed:
        bench.compare("raise ValueError('no such luck')", warm_ups=1)
    assert "exit code 1: ValueError: no such luck" in str(failed.value)
    assert f"{bench.folder}/mine.mjs" in str(failed.value)
    assert bench.experiments() == []


def test_failure_that_comes_late_is_a_result(bench: Bench) -> None:
    text = "mark = program + me\nif os.path.exists(mark) and me == 'b': sys.exit(3)\nopen(mark, 'w')\ncopy()"
    endings = {trial.binary: (trial.ending, trial.detail) for trial in bench.results(text, warm_ups=1).trials}
    assert endings["a"] == ("finished", "")
    assert endings["b"][0] == "failed"
    assert "exit code 3" in endings["b"][1]


def test_failure_on_a_full_disk_is_the_disk_s(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial is over, and kept; what the second printed found no room in the log."""
    free = machine.free_disk
    marks = bench.folder / "mine.mjs.full"
    monkeypatch.setattr(machine, "free_disk", lambda path: 0 if marks.exists() else free(path))
    text = "mark = program + '.one'\nif os.path.exists(mark): open(program + '.full', 'w'); sys.exit(1)\n"
    with pytest.raises(SourceError, match=r"is full \(0 bytes left\), and . could not go on") as error:
        bench.compare(text + "open(mark, 'w')\ncopy()")
    assert "NODEKILN_BUILD" in str(error.value)
    (name,) = bench.experiments()
    kept = read_results(bench.folder / "build" / "experiments" / name)
    assert isinstance(kept, Experiment)
    assert [trial.ending for trial in kept.trials] == ["finished"]


@pytest.mark.parametrize("words", ["OSError(28, os.strerror(28))", "Exception('Disk quota exceeded')"])
def test_disk_that_was_full_is_reported_by_what_the_program_said(bench: Bench, words: str) -> None:
    with pytest.raises(SourceError, match="is full, or a quota on it, and"):
        bench.compare(f"raise {words}")


def test_full_disk_is_reported_where_collections_are_measured_too(bench: Bench) -> None:
    text = "if '--trace-gc' in options: raise Exception('ENOSPC: no space left on device, write')\ncopy()"
    with pytest.raises(SourceError, match="is full"):
        bench.compare(text, gc_rounds=1)


@pytest.mark.parametrize("change", ["open(source, 'ab').write(b'more')", "os.remove(source)"])
def test_input_that_changes_is_not_put_down_to_a_binary(bench: Bench, change: str) -> None:
    growing = bench.folder / "growing.log"
    growing.write_bytes(b"line\n" * 1000)
    assert bench.results(source=growing).trials[0].verified
    with pytest.raises(SourceError, match="The input changed while it was read") as error:
        bench.compare(f"copy()\nopen(output, 'ab').write(b'more')\n{change}", source=growing)
    assert str(growing) in error.value.message


def test_input_that_is_gone_ends_the_comparison_with_what_was_measured(bench: Bench) -> None:
    kept_for_a_while = bench.folder / "input"
    kept_for_a_while.write_bytes(b"line\n" * 1000)
    with pytest.raises(SourceError, match="The input changed while it was read"):
        bench.compare("copy()\nos.remove(source)", source=kept_for_a_while)
    (name,) = bench.experiments()
    kept = read_results(bench.folder / "build" / "experiments" / name)
    assert isinstance(kept, Experiment)
    assert [trial.verified for trial in kept.trials] == [True]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("os.remove(b)", id="removed"),
        pytest.param("shutil.copy(b, b + '.new'); os.replace(b + '.new', b)", id="replaced"),
        pytest.param("open(b, 'a').write('\\n')", id="written to"),
    ],
)
def test_binary_that_is_another_meanwhile_ends_the_comparison(bench: Bench, change: str) -> None:
    """What was measured until then is kept, of the binary that it was."""
    text = f"import shutil\nb = {str(bench.folder / 'b')!r}\ncopy()\nif me == 'b': {change}"
    with pytest.raises(SourceError, match="b was replaced or removed meanwhile"):
        bench.compare(text, trials=2)
    (name,) = bench.experiments()
    kept = read_results(bench.folder / "build" / "experiments" / name)
    assert isinstance(kept, Experiment)
    assert [trial.number for trial in kept.trials if trial.binary == "b"] == [1]
    assert f"./inv report {bench.folder / 'build' / 'experiments' / name}" in bench.said.getvalue()


@pytest.mark.parametrize(
    ("program", "mode", "error", "why"),
    [
        pytest.param("#!/bin/sh\n", 0o644, UsageError, "can't be run", id="not executable"),
        pytest.param("#!/no/such/program\n", 0o755, UsageError, "can't be run", id="no interpreter"),
        pytest.param("#!/bin/sh\necho hello\n", 0o755, CheckError, "answers hello", id="no Node"),
        pytest.param("#!/bin/sh\nexit 3\n", 0o755, CheckError, "nothing, and ends with 3", id="fails"),
    ],
)
def test_file_that_is_no_node_is_refused(
    bench: Bench, program: str, mode: int, error: type[KilnError], why: str
) -> None:
    (bench.folder / "c").write_text(program)
    (bench.folder / "c").chmod(mode)
    with pytest.raises(error, match=why):
        bench.compare(binaries=("a", "c"))
    assert bench.experiments() == []
