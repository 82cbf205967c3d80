"""The decomposition: every backend to the bit, and the authors' program's regions in parity mode."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from decomposition_cases import Case, big_case, clusters, golden, golden_cases, made_cases, same, unusable

from edge_claid.errors import BadImageError, UsageError
from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.reference import decomposition as reference
from edge_claid.ops.reference import released_decomposition

MADE = made_cases()
CPUINFO = Path("/proc/cpuinfo")
# Best first. Words of CPUINFO.
NEEDS = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_vpopcntdq", "bmi1"},
    "avx2": {"avx2", "bmi1", "popcnt"},
    "dot": {"asimddp"},
    "portable": set(),
}


# What other processors run is emulated in test_decomposition_driver.py.
@pytest.fixture(params=cpu.supported_isas())
def isa(request):
    return request.param


def test_every_kernel_that_this_processor_can_run_is_there():
    if not CPUINFO.is_file():
        pytest.skip("only Linux tells what its processor can do")
    known = set(CPUINFO.read_text().split())
    assert cpu.supported_isas() == [name for name, needs in NEEDS.items() if needs <= known]


@functools.cache
def expected(name: str):
    case = MADE[name]
    return reference.decompose(case.features, case.grid, **case.options)


@pytest.fixture(scope="session")
def golden_expected(shared_data):
    cases = golden_cases(shared_data)
    return {name: (case, reference.decompose(case.features, case.grid, **case.options)) for name, case in cases.items()}


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_tokens_give_the_references_tree(name, isa):
    case = MADE[name]
    assert same(cpu.decompose(case.features, case.grid, isa=isa, **case.options), expected(name))


def test_the_made_cases_are_not_degenerate():
    nodes = {name: len(expected(name)) for name in MADE}
    assert sum(count > 5 for count in nodes.values()) >= 12
    assert max(expected(name).depths.max() for name in MADE) >= 3
    for name in ("all zero", "all equal", "zero once centred", "fewer than smallest", "one token"):
        assert nodes[name] == 1


def test_golden_tokens_give_the_references_tree(golden_expected, isa):
    assert max(len(tree) for _, tree in golden_expected.values()) > 20
    for name, (case, tree) in golden_expected.items():
        assert same(cpu.decompose(case.features, case.grid, isa=isa, **case.options), tree), name


def test_ten_thousand_tokens(isa):
    case, tree = big_expected()
    assert len(tree) >= 10
    assert same(cpu.decompose(case.features, case.grid, isa=isa), tree)


@functools.cache
def big_expected():
    case = big_case()
    return case, reference.decompose(case.features, case.grid)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_trees(golden_expected, threads):
    plain = [(case, tree) for case, tree in golden_expected.values() if not case.options] * 3
    trees = cpu.decompose_batch([(case.features, case.grid) for case, _ in plain], threads=threads)
    assert len(trees) == len(plain)
    assert all(same(tree, wanted) for tree, (_, wanted) in zip(trees, plain, strict=True))


def test_a_batch_keeps_the_order_of_pictures_of_several_sizes():
    cases = [MADE[name] for name in ("noise", "one row", "clusters 9x7x768", "one token", "clusters 33x31x100")]
    trees = cpu.decompose_batch([(case.features, case.grid) for case in cases], threads=2)
    assert [int(tree.areas[0]) for tree in trees] == [len(case.features) for case in cases]


def test_of_a_batch_with_a_bad_picture_the_error_comes_back():
    good = clusters((4, 4), 8, 1)
    with pytest.raises(BadImageError, match="not finite"):
        cpu.decompose_batch([(good, (4, 4)), (unusable()["nan"], (4, 4)), (good, (4, 4))], threads=2)


@pytest.mark.parametrize("decompose", [reference.decompose, cpu.decompose, cpu.decompose_float])
@pytest.mark.parametrize("name", sorted(unusable()))
def test_tokens_that_are_not_finite_are_refused(decompose, name):
    with pytest.raises(BadImageError, match="not finite"):
        decompose(unusable()[name], (4, 4))


@pytest.mark.parametrize("decompose", [reference.decompose, cpu.decompose, cpu.decompose_float])
@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ((4, 5), {}, "do not fill a grid"),
        ((4, 4), {"center": np.zeros(7, np.float32)}, "mean token"),
        ((4, 4), {"smallest": 0}, "smallest"),
        ((4, 4), {"max_nodes": 0}, "max_nodes"),
    ],
)
def test_wrong_use_is_named(decompose, grid, options, message):
    with pytest.raises(UsageError, match=message):
        decompose(np.ones((16, 8), np.float32), grid, **options)


def test_too_many_tokens_are_refused():
    count = reference.MAX_TOKENS + 1
    with pytest.raises(UsageError, match="at most"):
        cpu.decompose(np.ones((count, 1), np.float32), (count, 1))


def test_unknown_kernels_are_refused():
    with pytest.raises(ValueError, match="no kernels named sse9"):
        cpu.decompose(np.ones((16, 8), np.float32), (4, 4), isa="sse9")


def regions_of(tree, count: int, tau2: float = 0.1) -> list[list[int]]:
    """Token lists of the nodes below the root that are no dummies, in the tree's order."""
    masks = np.unpackbits(tree.masks, axis=1, count=count, bitorder="little")
    return [np.flatnonzero(masks[row]).tolist() for row in range(1, len(tree)) if tree.energy()[row] > tau2]


@pytest.mark.parametrize("decompose_float", [released_decomposition.decompose_float, cpu.decompose_float])
def test_the_released_programs_regions(shared_data, decompose_float):
    arrays, index = golden(shared_data)
    for entry in index:
        key = entry["key"]
        features = arrays[f"{key}/tokens_f16"].astype(np.float32)
        tree = decompose_float(
            features,
            tuple(entry["grid"]),
            released=True,
            shuffle_seed=entry["seed"],
            seeds=arrays[f"{key}/cut_minmax_token"],
        )
        ends = np.cumsum(arrays[f"{key}/region_len"])[:-1]
        wanted = [tokens.tolist() for tokens in np.split(arrays[f"{key}/region_tokens"], ends)]
        assert regions_of(tree, len(features)) == wanted, key


@pytest.mark.parametrize("options", [{}, {"released": True}, {"released": True, "shuffle_seed": 123456789}])
def test_the_float_mode_in_cpp_is_the_references(shared_data, options):
    arrays, index = golden(shared_data)
    for entry in index[:4]:
        features = arrays[f"{entry['key']}/tokens_f16"].astype(np.float32)
        one = released_decomposition.decompose_float(features, tuple(entry["grid"]), **options)
        assert same(one, cpu.decompose_float(features, tuple(entry["grid"]), **options))


@pytest.mark.parametrize("decompose_float", [released_decomposition.decompose_float, cpu.decompose_float])
def test_too_few_seeds_are_named(decompose_float):
    case = MADE["clusters 16x16x64"]
    with pytest.raises(UsageError, match="only 1 pairs of seeds"):
        decompose_float(case.features, case.grid, seeds=np.array([[0, 5]], np.int32))


def test_integers_stay_near_floats(golden_expected):
    """The same order of visits and the same rules: only the arithmetic differs (seed against seed gives 0.93)."""
    scores = []
    for case, tree in golden_expected.values():
        floats = cpu.decompose_float(case.features, case.grid, **case.options)
        scores.append(mean_best_iou(tree, floats, len(case.features)))
    assert np.mean(scores) >= 0.95


def mean_best_iou(one, other, count: int) -> float:
    """Both ways: each region's best IoU among the other's regions, averaged."""
    sides = [
        np.unpackbits(tree.masks, axis=1, count=count, bitorder="little")[1:][tree.energy()[1:] > 0.1].astype(
            np.float64
        )
        for tree in (one, other)
    ]
    if not all(len(side) for side in sides):
        return float(len(sides[0]) == len(sides[1]))
    shared = sides[0] @ sides[1].T
    iou = shared / (sides[0].sum(axis=1)[:, None] + sides[1].sum(axis=1) - shared)
    return float((iou.max(axis=0).mean() + iou.max(axis=1).mean()) / 2)


def test_the_same_tokens_give_the_same_tree_again():
    case = Case(clusters((20, 24), 96, 3), (20, 24))
    first = cpu.decompose(case.features, case.grid)
    assert len(first) > 5
    for _ in range(5):
        assert same(first, cpu.decompose(case.features.copy(), case.grid))
