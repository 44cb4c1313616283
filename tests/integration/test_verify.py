"""Verification of a tiny real repository whose tags each drifted differently."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings, Workspace
from nodekiln.source.location import parse_location
from nodekiln.source.repository import Repository
from nodekiln.source.tagset import Snapshot, TagSet
from nodekiln.verify.outcome import Depth, Report, Row, Status
from nodekiln.verify.run import VerifyRequest, verify
from nodekiln.verify.tagspec import TagSpec
from nodekiln.verify.trees import Trees
from tests.change_folders import KINDS, make_patches

WRITABLE = "lib/internal/streams/writable.js"
ADAPTERS = "lib/internal/webstreams/adapters.js"
NET = "lib/net.js"
HEADER = "src/node_version.h"

_WRITABLE = """\
'use strict';

function writeOrBuffer(stream, state, chunk) {
  const ret = state.length < state.highWaterMark;
  if (!ret)
    state.needDrain = true;
  return ret && !state.errored;
}
"""
_ADAPTERS = """\
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
_NET = """\
'use strict';

function connect(handle) {
  const request = new Request();
  handle.connect(request);
  return request;
}

function listen(handle) {
  const backlog = 511;
  handle.listen(backlog);
  return handle;
}
"""
_PATCH = f"""\
Subject: Probes in net

They tell of connections.

diff --git a/{NET} b/{NET}
--- a/{NET}
+++ b/{NET}
@@ -4,3 +4,4 @@ function connect(handle) {{
   const request = new Request();
+  probe(request);
   handle.connect(request);
   return request;
@@ -10,3 +11,4 @@ function listen(handle) {{
   const backlog = 511;
+  probe(backlog);
   handle.listen(backlog);
   return handle;
diff --git a/src/probe.cc b/src/probe.cc
new file mode 100644
--- /dev/null
+++ b/src/probe.cc
@@ -0,0 +1 @@
+int probe;
"""
_TWICE = "\n\n" + _NET.partition("\n\n")[2].replace("function ", "function other_")


def _header(tag: str) -> str:
    parts = zip(("MAJOR", "MINOR", "PATCH"), tag.removeprefix("v").partition("-")[0].split("."), strict=True)
    return "".join(f"#define NODE_{part}_VERSION {number}\n" for part, number in parts)


BASE: Mapping[str, str | bytes] = {
    WRITABLE: _WRITABLE,
    ADAPTERS: _ADAPTERS,
    NET: _NET,
    "lib/other.js": "other();\n",
    "configure.py": "# --shared\n",
}
Changes = Mapping[str, str | bytes | None]
TREES: Mapping[str, Changes] = {
    "v18.9.0": {"src/node_provider.d": "probe gc__start();\n", "configure.py": "--with-dtrace\n"},
    "v18.9.1": {},  # an old tag should have the probes
    "v20.0.0": {},
    "v20.0.1": {NET: "'use strict';\n\n\n\n\n" + _NET.partition("\n\n")[2]},
    "v20.0.2": {NET: _NET.replace("backlog = 511", "backlog = 128")},
    "v20.0.3": {
        NET: _NET.replace("511", "128").replace("new Request", "new Wrap"),
        WRITABLE: "'use strict';\n",
    },
    "v20.0.4": {WRITABLE: _WRITABLE.replace("writeOrBuffer", "writeOrQueue")},
    "v20.0.5": {NET: None},
    "v20.0.6": {NET: _NET.replace("  handle.listen", "  probe(backlog);\n  handle.listen")},
    "v20.0.7": {"src/node_usdt.h": "// theirs\n"},
    "v20.0.8": {WRITABLE: _WRITABLE.replace("return ret && !state.errored;", "return true;")},
    "v20.0.9": {NET: "// moved\n" + _NET + _TWICE},
    "v20.0.10": {NET: "nothing();\n"},
    "v20.0.11": {NET: _NET + "}\n"},
    "v20.0.12": {ADAPTERS: _ADAPTERS.replace("newWritable", "newOther")},
    "v20.0.13": {"src/probe.cc": "int other;\n"},
    "v20.1.0": dict.fromkeys([*BASE, HEADER]) | {"README.md": "# something else\n"},
    "v20.1.3": {WRITABLE: _WRITABLE + "// " + "x" * (3 * 2**20) + "\n"},
    "v20.1.4": {WRITABLE: _WRITABLE.encode() + b"// \xff\xfe\xc3\x28\n"},
    "v20.1.5": {WRITABLE: b"\xff\xfe\x00{ ( ["},
    "v20.1.8": {HEADER: _header("v20.0.8")},
    "v20.1.9": {HEADER: "// to be written\n"},
    "v99.0.0": {"lib/other.js": "unlike anything\n"},
    "v99.0.2": {NET: None, WRITABLE: None, ADAPTERS: None},
    "v99.0.1": {NET: "class Net {}\n", WRITABLE: "class Writable {}\n", ADAPTERS: "class Adapter {}\n"},
}
OTHERS = ("v20.0.0-rc.1", "nightly", "v20.0", "20.0.0", "v020.0.0", "v20.0.0$(id)", "v20.0.0;é")


@dataclass(frozen=True)
class Upstream:
    """The upstream repository, bare."""

    folder: Path

    def git(self, *words: str, stdin: bytes = b"") -> str:
        argv = ["git", f"--git-dir={self.folder}", *words]
        return subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, check=True).stdout.decode().strip()

    def commit(self, tag: str, changes: Changes) -> None:
        self.git("fast-import", "--quiet", "--force", stdin=_commit(tag, changes))


def _commit(tag: str, changes: Changes) -> bytes:
    stream = [f"commit refs/tags/{tag}\ncommitter somebody <> 0 +0000\ndata 0\ndeleteall\n".encode()]
    for path, text in {**BASE, HEADER: _header(tag), **changes}.items():
        if text is None:
            continue
        content = text if isinstance(text, bytes) else text.encode()
        stream.append(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n")
    return b"".join(stream)


@dataclass(frozen=True)
class Bench:
    """A build folder, patches, and the messages of the run."""

    settings: Settings
    repository: str
    messages: io.StringIO

    def verify(self, tags: str | None = "all", *, pre: bool = False, **changes: object) -> Report:
        request = VerifyRequest(tags=TagSpec.parse(tags, pre=pre), repository=self.repository)
        return verify(replace(request, **changes), self.settings, self.reporter)  # type: ignore[arg-type]

    @property
    def reporter(self) -> Reporter:
        return Reporter(Console(file=self.messages, width=200))

    @property
    def mirror(self) -> Path:
        return self.settings.workspace.mirror


def _bench(folder: Path, repository: str) -> Bench:
    patches = make_patches(folder / "patches", {"0001-net.patch": _PATCH})
    settings = Settings(
        workspace=Workspace(folder / "build"),
        repository=None,
        configure_args=(),
        patches=patches,
        environment=dict(os.environ),
        cwd=folder,
    )
    return Bench(settings, repository, io.StringIO())


def _upstream(folder: Path, trees: Mapping[str, Changes]) -> Upstream:
    subprocess.run(["git", "init", "--quiet", "--bare", "--template=", folder], check=True)
    made = Upstream(folder)
    made.git("config", "uploadpack.allowFilter", "true")
    stream = b"".join(_commit(tag, changes) for tag, changes in trees.items())
    made.git("fast-import", "--quiet", stdin=stream)
    return made


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report for all tags, some of them unreadable."""
    folder = tmp_path_factory.mktemp("drifted")
    upstream = _upstream(folder / "node.git", TREES)
    for name in OTHERS:
        upstream.git("update-ref", f"refs/tags/{name}", "v20.0.0")
    blob, tree = upstream.git("rev-parse", f"v20.0.0:{NET}"), upstream.git("rev-parse", "v20.0.0^{tree}")
    annotated = f"object {blob}\ntype blob\ntag v20.1.1\ntagger somebody <> 0 +0000\n\nA blob.\n"
    upstream.git("update-ref", "refs/tags/v20.1.1", upstream.git("mktag", stdin=annotated.encode()))
    upstream.git("update-ref", "refs/tags/v20.1.2", tree)
    _damage(upstream, "v20.1.6", b"garbage")
    _damage(upstream, "v20.1.7", None)
    return _bench(folder, str(upstream.folder)).verify()


def _damage(upstream: Upstream, tag: str, content: bytes | None) -> None:
    """Add a tag whose net.js is damaged, or missing with None."""
    upstream.commit(tag, {NET: f"{_NET}// {tag}\n"})
    blob = upstream.git("rev-parse", f"{tag}:{NET}")
    file = upstream.folder / "objects" / blob[:2] / blob[2:]
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def row_of(report: Report, tag: str) -> Row:
    [row] = [row for row in report.rows if str(row.tag) == tag]
    return row


@pytest.mark.parametrize(
    ("tag", "status", "failures"),
    [
        ("v18.9.0", Status.NATIVE, []),
        ("v18.9.1", Status.NOT_SERVED, []),
        ("v20.0.0", Status.CLEAN, []),
        ("v20.0.1", Status.OFFSET, []),
        ("v20.0.2", Status.CONFLICT, [(NET, "function listen(handle) {", "hunk 2 of 2", "no match")]),
        (
            "v20.0.3",
            Status.CONFLICT,
            [
                (NET, "function connect(handle) {", "hunk 1 of 2", "no match"),
                (NET, "function listen(handle) {", "hunk 2 of 2", "no match"),
                (WRITABLE, "writeOrBuffer", "rewrite", "no match"),
            ],
        ),
        ("v20.0.4", Status.MISSING_ANCHOR, [(WRITABLE, "writeOrBuffer", "rewrite", "no match")]),
        ("v20.0.5", Status.MISSING_ANCHOR, [(NET, "", "all hunks", "file missing")]),
        ("v20.0.6", Status.CONFLICT, [(NET, "function listen(handle) {", "hunk 2 of 2", "already there")]),
        ("v20.0.7", Status.UPSTREAMED, []),
        ("v20.0.8", Status.CONFLICT, [(WRITABLE, "writeOrBuffer", "rewrite", "already there")]),
        (
            "v20.0.9",
            Status.CONFLICT,
            [
                (NET, "function connect(handle) {", "hunk 1 of 2", "several matches"),
                (NET, "function listen(handle) {", "hunk 2 of 2", "several matches"),
            ],
        ),
        (
            "v20.0.10",
            Status.MISSING_ANCHOR,
            [
                (NET, "function connect(handle) {", "hunk 1 of 2", "no match"),
                (NET, "function listen(handle) {", "hunk 2 of 2", "no match"),
            ],
        ),
        ("v20.0.11", Status.CONFLICT, [(NET, "", "line 16", "does not parse")]),
        (
            "v20.0.12",
            Status.MISSING_ANCHOR,
            [(ADAPTERS, "newWritableStreamFromStreamWritable, write()", "rewrite", "no match")],
        ),
        ("v20.0.13", Status.CONFLICT, [("src/probe.cc", "", "new file", "file exists")]),
        ("v99.0.0", Status.CLEAN, []),
        (
            "v99.0.1",
            Status.MISSING_ANCHOR,
            [
                (NET, "function connect(handle) {", "hunk 1 of 2", "no match"),
                (NET, "function listen(handle) {", "hunk 2 of 2", "no match"),
                (WRITABLE, "writeOrBuffer", "rewrite", "no match"),
                (ADAPTERS, "newWritableStreamFromStreamWritable, write()", "rewrite", "no match"),
            ],
        ),
        (
            "v99.0.2",
            Status.MISSING_ANCHOR,
            [(NET, "", "all hunks", "file missing"), (WRITABLE, "writeOrBuffer", "rewrite", "file missing")],
        ),
    ],
)
def test_each_drift_has_its_status_and_findings(
    drifted: Report, tag: str, status: Status, failures: list[tuple[str, str, str, str]]
) -> None:
    row = row_of(drifted, tag)
    assert row.status is status, row.findings
    found = [(each.path, each.function, each.hunk or each.patch, each.reason) for each in row.failures]
    assert sorted(found) == sorted(failures)


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("v20.1.0", f"is not a source tree of Node: it has no {HEADER}"),
        ("v20.1.1", "names a blob, not a commit"),
        ("v20.1.2", "names a tree, not a commit"),
        ("v20.1.3", f"{WRITABLE} of v20.1.3 has 3145918 bytes"),
        ("v20.1.4", f"{WRITABLE} of v20.1.4 is not UTF-8"),
        ("v20.1.5", f"{WRITABLE} of v20.1.5 is not UTF-8"),
        ("v20.1.6", f"{NET} of v20.1.6 (blob "),
        ("v20.1.7", f"{NET} of v20.1.7 (blob "),
        ("v20.1.8", "contains the sources of v20.0.8"),
        ("v20.1.9", f"is not a source tree of Node: it has no {HEADER} that defines a version"),
    ],
)
def test_unreadable_tag_is_an_error_of_that_tag_only(drifted: Report, tag: str, why: str) -> None:
    row = row_of(drifted, tag)
    assert (row.status, row.recipes) == (Status.ERROR, ())
    assert why in row.findings[0].text


def test_first_failure_shows_what_upstream_changed(drifted: Report) -> None:
    first = next(failure for failure in drifted.first_failures if str(failure.tag) == "v20.0.2")
    [finding] = [each for each in row_of(drifted, "v20.0.2").failures if each.hunk.startswith("hunk 2")]
    assert (finding.since, set(finding.upstream)) == (
        first.previous,
        {"-  const backlog = 511;", "+  const backlog = 128;"},
    )


def test_moved_hunk_has_its_offset_and_line(drifted: Report) -> None:
    row = row_of(drifted, "v20.0.1")
    assert row.largest_offset == 3
    assert [(each.offset, each.line, each.recipes) for each in row.findings] == [
        (3, 7, ("usdt", "no-backpressure-usdt")),
        (3, 13, ("usdt", "no-backpressure-usdt")),
    ]


def test_recipe_without_the_drifted_file_is_clean(drifted: Report) -> None:
    recipes = dict(row_of(drifted, "v20.0.4").recipes)
    assert {name for name, status in recipes.items() if status is Status.CLEAN} == {"stock", "usdt"}


def test_conflict_is_explained_by_both_sides(drifted: Report) -> None:
    [finding] = row_of(drifted, "v20.0.2").failures
    assert ("  const backlog = 511;", "|", 10, "  const backlog = 128;") in [
        (side.expected, side.marker, side.number, side.found) for side in finding.explanation
    ]


def test_tags_without_a_releases_name_are_counted(drifted: Report) -> None:
    assert drifted.ignored == len(OTHERS)
    assert len(drifted.rows) == len(TREES) + 4
    assert drifted.exit_code == 4


GOOD: Mapping[str, Changes] = {f"v20.{minor}.0": {"README.md": str(minor)} for minor in range(6)}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """Six tags that share all files that are read."""
    return _upstream(tmp_path / "node.git", GOOD)


@pytest.fixture
def bench(tmp_path: Path, upstream: Upstream) -> Bench:
    return _bench(tmp_path, str(upstream.folder))


def test_second_run_has_the_same_rows_and_new_tags(bench: Bench, upstream: Upstream) -> None:
    first = bench.verify()
    upstream.commit("v20.6.0", {NET: f"// moved\n{_NET}"})
    second = bench.verify()
    assert second.rows[:6] == first.rows
    assert row_of(second, "v20.6.0").status is Status.OFFSET


def test_changed_patch_changes_the_result(bench: Bench) -> None:
    assert bench.verify().exit_code == 0
    patch = bench.settings.patches / "usdt" / "0001-net.patch"
    patch.write_text(_PATCH.replace("backlog = 511", "backlog = 512"))
    assert {row.status for row in bench.verify().rows} == {Status.CONFLICT}


def test_memo_computes_once_for_the_same_blobs(bench: Bench) -> None:
    location = parse_location(bench.repository, base=Path("/"))
    trees, done = Trees(TagSet(bench.settings.workspace, location, bench.reporter), {}), []

    def ask(blobs: dict[str, str], question: str = "q", path: str = "a") -> None:
        memo = trees.memo(Snapshot("commit", blobs))
        memo(question, (path,), lambda: done.append((question, path, blobs.get(path))))

    ask({"a": "1"})
    ask({"a": "1", "b": "2"})
    ask({"a": "2"})
    ask({"b": "1"})
    ask({"a": "1"}, question="other")
    ask({"a": "1", "b": "1"}, path="b")
    assert done == [("q", "a", "1"), ("q", "a", "2"), ("q", "a", None), ("other", "a", "1"), ("q", "b", "1")]


PRE: Mapping[str, Changes] = {
    "v20.0.0": {},
    "v20.1.0-rc.1": {WRITABLE: "'use strict';\n"},
    "v21.0.0-alpha.10": {NET: "// moved\n" + _NET},
    "v21.0.0-alpha.9": {},
}


@pytest.fixture
def pre_bench(tmp_path: Path) -> Bench:
    return _bench(tmp_path, str(_upstream(tmp_path / "node.git", PRE).folder))


def test_pre_releases_are_skipped_by_default(pre_bench: Bench) -> None:
    report = pre_bench.verify()
    assert [str(row.tag) for row in report.rows] == ["v20.0.0"]
    assert report.ignored == 3


def test_pre_release_that_does_not_fit_is_a_warning(pre_bench: Bench) -> None:
    report = pre_bench.verify(None, pre=True)
    assert [(str(row.tag), row.status, row.is_warning) for row in report.rows] == [
        ("v20.0.0", Status.CLEAN, False),
        ("v20.1.0-rc.1", Status.MISSING_ANCHOR, True),
        ("v21.0.0-alpha.10", Status.OFFSET, False),
    ]
    assert report.exit_code == 0
    [failure] = report.first_failures
    assert (str(failure.tag), str(failure.previous)) == ("v20.1.0-rc.1", "v20.0.0")
    assert failure.recipes == ("no-backpressure", "no-backpressure-usdt")


def test_pre_release_that_moved_is_an_error(pre_bench: Bench, tmp_path: Path) -> None:
    assert pre_bench.verify("v21.0.0-alpha.9", pre=True).exit_code == 0
    Upstream(tmp_path / "node.git").commit("v21.0.0-alpha.9", {NET: "// moved\n" + _NET})
    assert pre_bench.verify("v21.0.0-alpha.9", pre=True).rows[0].status is Status.ERROR


def test_pre_releases_are_not_built(pre_bench: Bench) -> None:
    with pytest.raises(UsageError, match="--depth build"):
        pre_bench.verify(None, pre=True, depth=Depth.BUILD)


def test_all_tags_share_each_fetch(bench: Bench) -> None:
    bench.verify()
    packs = list((bench.mirror / "objects" / "pack").glob("*.pack"))
    assert len(packs) == 6  # commits, four levels of folders, files


def test_only_files_that_are_read_are_fetched(bench: Bench, upstream: Upstream) -> None:
    bench.verify()
    git = ["git", f"--git-dir={bench.mirror}", "cat-file", "--batch-all-objects", "--batch-check"]
    kinds = [
        line.split()[1]
        for line in subprocess.run(git, capture_output=True, check=True, text=True).stdout.splitlines()
    ]
    assert kinds.count("commit") == 6
    # writable.js, adapters.js, net.js, configure.py, six times node_version.h; not other.js or README.md.
    assert kinds.count("blob") == 10


@pytest.mark.parametrize(
    "setting", ["uploadpack.allowFilter", "uploadpackfilter.tree.allow", "uploadpackfilter.allow"]
)
def test_server_without_filter_support_is_sufficient(bench: Bench, upstream: Upstream, setting: str) -> None:
    upstream.git("config", setting, "false")
    assert {row.status for row in bench.verify().rows} == {Status.CLEAN}


def test_server_without_objects_by_id_sends_whole_trees(bench: Bench) -> None:
    Path(os.environ["HOME"], ".gitconfig").write_text("[protocol]\n\tversion = 0\n")
    assert {row.status for row in bench.verify().rows} == {Status.CLEAN}
    assert "gives no single files: whole trees are fetched" in bench.messages.getvalue()


def test_moved_tag_is_an_error_until_accepted(bench: Bench, upstream: Upstream) -> None:
    bench.verify()
    before = upstream.git("rev-parse", "v20.3.0")[:12]
    upstream.commit("v20.3.0", {NET: f"// moved\n{_NET}"})
    report = bench.verify()
    row = row_of(report, "v20.3.0")
    assert row.status is Status.ERROR
    assert f"was commit {before} and is now" in row.findings[0].text
    assert {each.status for each in report.rows if each is not row} == {Status.CLEAN}
    assert row_of(bench.verify(accept_moved_tag=True), "v20.3.0").status is Status.OFFSET
    assert row_of(bench.verify(), "v20.3.0").status is Status.OFFSET


def test_tag_on_the_tree_of_another_release_is_an_error(bench: Bench, upstream: Upstream) -> None:
    bench.verify()
    upstream.git("update-ref", "refs/tags/v20.3.0", "v20.2.0")
    for _ in range(2):
        report = bench.verify(accept_moved_tag=True)
        assert "v20.3.0 of " in (text := row_of(report, "v20.3.0").findings[0].text)
        assert "contains the sources of v20.2.0" in text
        assert row_of(report, "v20.2.0").status is Status.CLEAN


def test_damaged_mirror_is_named_in_the_error(bench: Bench) -> None:
    """The repository is intact, so its git fsck would report nothing."""
    bench.verify()
    for pack in (bench.mirror / "objects" / "pack").glob("*.pack"):
        content = bytearray(pack.read_bytes())
        content[20:-20] = b"\xff" * len(content[20:-20])
        pack.chmod(0o644)
        pack.write_bytes(content)
    with pytest.raises(SourceError, match=r"mirror\.git is damaged: ") as refusal:
        bench.verify()
    assert f"Move {bench.mirror} out of the way" in str(refusal.value.remedy)


def test_build_and_verify_share_pinned_commits(bench: Bench, upstream: Upstream) -> None:
    location = parse_location(bench.repository, base=Path("/"))
    repository = Repository(bench.settings.workspace, location, bench.reporter)
    repository.resolve(Tag(20, 1, 0))
    bench.verify()
    for tag in ("v20.1.0", "v20.2.0"):
        upstream.commit(tag, {NET: f"// moved\n{_NET}"})
        assert row_of(bench.verify(), tag).status is Status.ERROR
        with pytest.raises(SourceError, match=f"{tag} of .* was commit .* and is now"):
            repository.resolve(Tag.parse(tag))


def test_build_after_verify_fetches_the_whole_tree(bench: Bench, upstream: Upstream) -> None:
    bench.verify()
    location = parse_location(bench.repository, base=Path("/"))
    repository = Repository(bench.settings.workspace, location, bench.reporter)
    revision = repository.resolve(Tag(20, 4, 0))
    repository.fetch_all(revision)
    assert repository.read(revision, "README.md") == b"4"


def test_unreachable_server_is_asked_once(bench: Bench, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"#!/bin/sh\necho >>{asked}\necho 'ssh: connect to host: Connection refused' >&2\nexit 255\n"
    )
    ssh.chmod(0o755)
    Path(os.environ["HOME"], ".gitconfig").write_text(f"[core]\n\tsshCommand = {ssh}\n")
    location = parse_location("git@example.org:node.git", base=Path("/"))
    tags = TagSet(bench.settings.workspace, location, bench.reporter)
    with pytest.raises(SourceError, match="Connection refused"):
        tags.listed()
    asked.write_text("")
    answers = tags.look_up({Tag(20, minor, 0): f"{minor:040x}" for minor in range(1, 9)}, lambda _: ())
    assert all("Connection refused" in str(answer) for answer in answers.values())
    assert asked.read_text() == "\n"


def test_named_tag_that_does_not_exist_is_an_error_row(bench: Bench) -> None:
    report = bench.verify("v20.1.0,v20.77.0")
    assert [(str(row.tag), row.status) for row in report.rows] == [
        ("v20.1.0", Status.CLEAN),
        ("v20.77.0", Status.ERROR),
    ]


def test_kinds_limit_the_recipes(bench: Bench) -> None:
    row = bench.verify("v20.1.0", kinds=(KINDS[2],)).rows[0]
    assert row.recipes == (("no-backpressure", Status.CLEAN),)


def test_stock_alone_reads_no_patched_file(bench: Bench) -> None:
    report = bench.verify("v20.1.0", kinds=(KINDS[0],))
    assert [(row.status, row.recipes) for row in report.rows] == [(Status.CLEAN, (("stock", Status.CLEAN),))]


def test_repository_without_tags_is_a_usage_error(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "empty.git"], check=True)
    with pytest.raises(UsageError, match="no release tags"):
        _bench(tmp_path, str(tmp_path / "empty.git")).verify()


def test_folder_that_is_no_repository_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceError, match="not a git repository"):
        _bench(tmp_path, str(tmp_path / "folder")).verify()
