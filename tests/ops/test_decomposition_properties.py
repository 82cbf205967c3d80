"""What holds for every tree of regions, whatever the tokens."""

from __future__ import annotations

import numpy as np
import pytest
from decomposition_cases import clusters
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.reference import decomposition as reference
from edge_claid.ops.reference.bisection import Rules, bisect, extreme_degrees, start_halves

grids = st.tuples(st.integers(3, 14), st.integers(3, 14))
tokens = st.tuples(grids, st.integers(2, 40), st.integers(0, 10**6))


def masks_of(tree, grid):
    return np.unpackbits(tree.masks, axis=1, count=grid[0] * grid[1], bitorder="little").reshape(-1, *grid).astype(bool)


@settings(max_examples=60, deadline=None)
@given(tokens, st.integers(1, 20))
def test_nodes_are_connected_parts_of_their_parents(made, smallest):
    grid, width, seed = made
    tree = cpu.decompose(clusters(grid, width, seed), grid, smallest=smallest)
    masks = masks_of(tree, grid)
    assert masks[0].all()
    assert tree.parents[0] == -1
    assert tree.areas.tolist() == masks.sum(axis=(1, 2)).tolist()
    for row in range(1, len(tree)):
        parent = tree.parents[row]
        assert parent < row
        assert tree.depths[row] == tree.depths[parent] + 1
        assert tree.areas[row] >= smallest
        assert tree.areas[row] < tree.areas[parent]
        assert not (masks[row] & ~masks[parent]).any()
        assert label(masks[row], np.ones((3, 3)))[1] == 1
        for sibling in range(1, row):
            assert tree.parents[sibling] != parent or not (masks[row] & masks[sibling]).any()
    assert (np.diff(tree.depths) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(tokens)
def test_edges_energy_and_stopping_are_as_defined(made):
    grid, width, seed = made
    features = clusters(grid, width, seed)
    tree = cpu.decompose(features, grid, smallest=5, tau1=0.9)
    quantised = reference.quantised_tokens(features, None)
    connected = reference.integer_affinity(quantised, 0.2).connected
    high = reference.high_energy(quantised.energy, 0.3)
    for row, mask in enumerate(masks_of(tree, grid).reshape(len(tree), -1)):
        inside = connected[np.ix_(mask, mask)]
        assert tree.edges[row] == np.triu(inside, 1).sum()
        assert tree.high[row] == (mask & high).sum()
        pairs = mask.sum() * (mask.sum() - 1)
        assert tree.connectivity()[row] == pytest.approx(2 * np.triu(inside, 1).sum() / pairs)
        if row and (tree.parents == row).any():
            assert tree.connectivity()[row] < 0.9


def objective(gram: np.ndarray, unit: int, second: np.ndarray) -> int:
    """Sum of pairwise squared distances inside both halves, in units of half the Gram matrix's."""
    total = 0
    for half in (second, ~second):
        total += unit * int(half.sum()) ** 2 - int(gram[np.ix_(half, half)].sum(dtype=np.int64))
    return total


@settings(max_examples=60, deadline=None)
@given(tokens)
def test_a_cut_never_raises_the_objective_and_ends_where_no_move_helps(made):
    grid, width, seed = made
    affinity = reference.integer_affinity(reference.quantised_tokens(clusters(grid, width, seed), None), 0.2)
    listed = reference.visiting_order(grid[0] * grid[1])
    lowest, highest = extreme_degrees(affinity, listed)
    rules = Rules(tau1=0.97, smallest=1, max_nodes=100, sweeps=500)
    before = start_halves(affinity, listed, lowest, highest)
    after = bisect(affinity, listed, lowest, highest, rules, None) == 1
    gram = affinity.gram[np.ix_(listed, listed)]
    best = objective(gram, affinity.unit, after)
    assert best <= objective(gram, affinity.unit, before)
    for token in range(len(listed)):
        moved = after.copy()
        moved[token] = ~moved[token]
        assert objective(gram, affinity.unit, moved) >= best


def test_energy_is_the_l1_norm_before_centring():
    features = np.array([[1, -2], [3, 4], [0.5, 0.5], [-9, 0]], np.float32)
    quantised = reference.quantised_tokens(features, np.array([5, 5], np.float32))
    np.testing.assert_array_equal(quantised.energy, [3, 7, 1, 9])
    np.testing.assert_array_equal(reference.high_energy(quantised.energy, 0.5), [False, True, False, True])


@pytest.mark.parametrize("count", [10, 130, 170, 1024, 1369])
def test_the_energy_threshold_is_the_released_programs(count):
    assert reference.high_energy_rank(count, 0.3) == 7 * count // 10


def test_cosines_survive_quantisation():
    features = clusters((12, 12), 128, 4)
    quantised = reference.quantised_tokens(features, None)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = quantised.values.astype(np.float64)
    np.testing.assert_allclose(values @ values.T / quantised.unit, unit @ unit.T, atol=0.01)
    affinity = reference.integer_affinity(quantised, 0.2)
    assert affinity.gram.max() > 8000  # 14 bits at least are used
    np.testing.assert_allclose(affinity.gram / affinity.unit, unit @ unit.T, atol=0.02)


def test_the_order_of_visits_is_a_permutation_that_scatters():
    order = reference.visiting_order(1024)
    assert sorted(order.tolist()) == list(range(1024))
    assert abs(np.corrcoef(order, np.arange(1024))[0, 1]) < 0.1
