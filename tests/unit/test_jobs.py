"""The number of jobs: by cores, by memory, and after a compiler was killed."""

from __future__ import annotations

import pytest

from nodekiln.building.ninja import Load, default_jobs, heavy_steps, is_heavy, memory_needs

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "memory", "jobs", "heavy"),
    [
        (8, 64 * GB, 8, 8),  # memory for everything
        (8, 9 * GB, 6, 6),  # six times 1.5
        (8, 4 * GB, 3, 2),  # two heavy ones, and a light one in the gigabyte that is left
        (2, 4 * GB, 2, 2),
        (2, 1 * GB, 1, 1),
        (1, 0, 1, 1),
    ],
)
def test_default_jobs_are_limited_by_memory(cores: int, memory: int, jobs: int, heavy: int) -> None:
    assert default_jobs(cores, memory) == jobs
    assert heavy_steps(jobs, memory) == heavy


@pytest.mark.parametrize("cores", range(1, 65, 7))
@pytest.mark.parametrize("memory", range(0, 100 * GB, 7 * GB))
def test_default_jobs_fit_into_memory_or_are_one(cores: int, memory: int) -> None:
    jobs = default_jobs(cores, memory)
    heavy = heavy_steps(jobs, memory)
    taken = heavy * memory_needs().heavy + (jobs - heavy) * memory_needs().light
    assert 1 <= heavy <= jobs <= cores
    assert jobs == 1 or taken <= memory


def test_heavy_steps_of_explicit_jobs_are_limited_by_memory() -> None:
    assert heavy_steps(16, 6 * GB) == 4


@pytest.mark.parametrize(
    ("before", "after"),
    [(Load(8, 8), Load(4, 4)), (Load(8, 2), Load(4, 2)), (Load(3, 3), Load(1, 1)), (Load(1, 1), Load(1, 1))],
)
def test_halved_load_is_at_least_one(before: Load, after: Load) -> None:
    assert before.halved() == after


@pytest.mark.parametrize(
    ("output", "heavy"),
    [
        ("obj/deps/v8/src/api/v8_base_without_compiler.api.o", True),
        ("obj/tools/v8_gypfiles/gen/x/v8_initializers.array-sort-tq-csa.o", True),
        ("obj/deps/v8/src/base/v8_libbase.bits.o", False),
        ("obj/src/libnode.node.o", False),
        ("node", False),
    ],
)
def test_v8_objects_are_heavy(output: str, heavy: bool) -> None:
    assert is_heavy(output) is heavy
