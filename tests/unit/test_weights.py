"""Names of steps, their expected times, and updates from builds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nodekiln.building.weights import (
    Expected,
    Shipped,
    Weights,
    group_of,
    key_of,
    read_weights,
    shipped,
    write_weights,
)

API = "CXX v8_base src/api api"
BASE = Shipped(
    groups={"v8_base": Expected(4.0, 0.01), "v8_base src/api": Expected(9.0, 0.02)},
    steps={"LINK": 0.5, "LINK node": 2.0, "CXX node gen snapshot": 3.0},
    compilation=Expected(5.0, 0.01),
    other=0.1,
)
NEW = Weights({}, BASE)


@pytest.mark.parametrize(
    ("description", "key"),
    [
        ("CXX obj/deps/v8/src/api/v8_base.api.o", API),
        ("CXX(target) /x/out/Release/obj.target/v8_base/deps/v8/src/api/api.o", API),
        ("CC(host) /x/out/Release/obj.host/zlib/deps/zlib/adler32.o", "CC zlib deps/zlib adler32"),
        (
            "CXX obj/tools/v8_gypfiles/gen/torque-generated/src/ic/v8_initializers.handler-tq-csa.o",
            "CXX v8_initializers torque-generated/src/ic handler-tq-csa",
        ),
        (
            "CXX(target) /x/obj.target/v8_initializers/gen/torque-generated/src/ic/handler-tq-csa.o",
            "CXX v8_initializers torque-generated/src/ic handler-tq-csa",
        ),
        ("CXX obj/ada.ada.o", "CXX ada obj ada"),
        ("LINK node", "LINK node"),
        ("LINK(target) /x/out/Release/node", "LINK node"),
        ("AR obj/tools/v8_gypfiles/libv8_base.a", "AR libv8_base.a"),
        ("ACTION libnode: node_js2c_1613b577312726d6acf41fb14bd20601", "ACTION libnode: node_js2c"),
        ("ACTION Checking a/b", "ACTION Checking a/b"),
        ("whatever it is", "whatever it is"),
        ("", ""),
    ],
)
def test_key_is_the_same_in_every_tree_and_build_system(description: str, key: str) -> None:
    assert key_of(description) == key


@pytest.mark.parametrize(
    ("key", "seconds"),
    [
        (API, 9.0),
        ("CXX v8_base src/other x", 4.0),
        ("CXX new src y", 5.0),
        ("LINK node", 2.0),
        ("LINK other", 0.5),
        ("RUST x", 0.1),
    ],
)
def test_expect_uses_the_nearest_known_group(key: str, seconds: float) -> None:
    assert NEW.expect(key).seconds == seconds


def test_hits_are_compilations_only() -> None:
    assert NEW.expect("LINK node").hit is None
    assert NEW.expect("CXX node gen snapshot").hit is None
    assert NEW.expect(API).is_hit(0.03)
    assert not NEW.expect(API).is_hit(3.0)


def test_cold_build_updates_times_of_compilations() -> None:
    learnt = NEW.after([(API, 6.0), ("LINK node", 0.3)])
    assert learnt.expect(API) == Expected(6.0, 0.02)
    assert learnt.expect("LINK node") == Expected(0.3)
    assert learnt.expect("CXX v8_base src/other x") == NEW.expect("CXX v8_base src/other x")


def test_hit_does_not_change_the_time_without_a_hit() -> None:
    assert NEW.after([(API, 0.03)]).expect(API) == Expected(9.0, 0.03)


def test_newest_times_replace_older_ones_of_their_kind() -> None:
    learnt = NEW.after([(API, 8.0)]).after([(API, 0.03)]).after([(API, 7.0)])
    assert learnt.expect(API) == Expected(7.0, 0.03)


def test_written_weights_are_read_again(tmp_path: Path) -> None:
    place = tmp_path / "timings" / "steps.json"
    write_weights(place, NEW.after([(API, 0.03), ("LINK node", 1.0)]))
    own = read_weights(place).own
    assert own["LINK node"] == Expected(1.0)
    assert (math.isnan(own[API].seconds), own[API].hit) == (True, 0.03)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"steps": []}', '{"steps": {"a": 1}}', '{"steps": {"a": ["x", null]}}']
)
def test_damaged_weights_file_is_ignored(tmp_path: Path, text: str) -> None:
    place = tmp_path / "steps.json"
    place.write_text(text)
    assert read_weights(place) == Weights({}, shipped())


def test_shipped_compilations_are_slower_than_their_hits() -> None:
    for group, expected in shipped().groups.items():
        assert expected.hit is not None
        assert 0 < 2 * expected.hit < expected.seconds, group


def test_shipped_groups_are_names_of_steps() -> None:
    assert group_of(key_of("CXX obj/deps/v8/src/heap/v8_base_without_compiler.heap.o")) in shipped().groups
