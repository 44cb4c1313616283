"""manifest.json: written, read back, damaged, and of other schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from nodekiln.binaries.manifest import AddedProbe, AppliedChange, Grafted, Manifest, read_facts
from nodekiln.binaries.selfcheck import Findings, PathResult
from nodekiln.core.errors import KilnError

GRAFTED = Grafted(
    platform="linux-x64",
    release="node.tar.gz",
    release_sha256="ab",
    release_size=3,
    release_checks=(),
    changed=(),
    rewritten=(),
    appended=(),
    probes=(AddedProbe("node", "gc__start", 16, "8@%rdi"),),
    remarks=(),
)
MANIFEST = Manifest(
    name="v20.1.0",
    route="build",
    tag="v20.1.0",
    changes=(AppliedChange("usdt", "cd"),),
    repository="/srv/node.git",
    commit="0123",
    plan="4567",
    planned=(),
    configure_args=("--ninja",),
    config={"asan": 0},
    toolchain={"identity": "gcc 14"},
    machine={"system": "Linux"},
    seconds={"tree": 1},
    steps=2,
    sha256="89ab",
    size=3,
    probes_seen=None,
    self_check=Findings("v20.1.0", None, None, False, {"write()": PathResult(False, 1, 1)}),
    made="2026-01-02T03:04:05+00:00",
    made_by="nodekiln 1",
    graft=GRAFTED,
)


def _text(**changes: object) -> bytes:
    """Return the manifest with other values; ... removes one."""
    facts: Mapping[str, Any] = {**json.loads(MANIFEST.to_json()), **changes}
    return json.dumps({name: value for name, value in facts.items() if value is not ...}).encode()


def test_written_manifest_is_read_back() -> None:
    facts = read_facts(MANIFEST.to_json().encode())
    assert facts["self_check"]["write_answers"] is False
    assert facts["graft"]["probes"][0]["address"] == 16


def test_path_that_is_not_utf8_is_read_back() -> None:
    assert read_facts(_text(repository="/srv/\udcff.git"))["repository"] == "/srv/\udcff.git"


@pytest.mark.parametrize(
    "changes", [{"graft": ...}, {"self_check": None}, {"toolchain": {}}, {"later": 1}], ids=str
)
def test_manifest_without_later_fields_is_read(changes: dict[str, object]) -> None:
    assert read_facts(_text(**changes))["name"] == "v20.1.0"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\xfa",
        b"[" * 100_000,
        b"[]",
        b"null",
        b"{}",
        b'{"schema": "1"}',
        MANIFEST.to_json().encode()[:99],
    ],
    ids=lambda text: text[:9],
)
def test_damaged_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(KilnError, match=r"manifest\.json is damaged"):
        read_facts(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"toolchain": None},
        {"toolchain": {"identity": 1}},
        {"commit": None},
        {"configure_args": None},
        {"configure_args": [1]},
        {"self_check": {}},
        {"self_check": []},
        {"made": None},
        {"repository": 5},
        {"plan": []},
        {"sha256": ...},
        {"graft": 5},
        {"graft": {}},
        {"graft": {"release_sha256": "ab", "probes": [{}]}},
        {"probes_seen": 1},
    ],
    ids=str,
)
def test_manifest_with_a_wrong_type_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(KilnError, match=r"manifest\.json is damaged"):
        read_facts(_text(**changes))


def test_newer_schema_is_refused_by_its_number() -> None:
    with pytest.raises(KilnError, match=r"by a newer nodekiln \(schema 3\)"):
        read_facts(b'{"schema": 3}')


@pytest.mark.parametrize(
    ("backpressure", "probes", "names"),
    [(True, False, []), (False, False, ["no-backpressure"]), (False, True, ["no-backpressure", "usdt"])],
)
def test_schema_1_is_converted_to_changes(backpressure: bool, probes: bool, names: list[str]) -> None:
    facts = read_facts(_text(schema=1, changes=..., backpressure=backpressure, probes=probes))
    assert facts["schema"] == 2
    assert [change["name"] for change in facts["changes"]] == names


def test_schema_1_without_its_booleans_is_damaged() -> None:
    with pytest.raises(KilnError, match=r"manifest\.json is damaged"):
        read_facts(_text(schema=1, changes=...))
