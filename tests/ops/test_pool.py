"""The pooling op: hand-computed values, and the C++ version against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.ops.cpu import _pool
from edge_claid.ops.reference import pool as reference

IMPLEMENTATIONS = {"reference": reference.pool_boxes, "cpu": _pool.pool_boxes}


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def pool_boxes(request):
    return IMPLEMENTATIONS[request.param]


def test_mean_weights_cells_by_coverage(pool_boxes):
    values = np.array([[[1.0, 3.0]]], np.float32)
    pooled = pool_boxes(values, np.array([[0.5, 0.0, 2.0, 1.0]], np.float32), 1.0)
    assert pooled[0, 0] == pytest.approx((0.5 * 1 + 1.0 * 3) / 1.5)


def test_gem_is_the_cubic_mean(pool_boxes):
    values = np.array([[[1.0, 2.0]], [[0.0, 0.0]]], np.float32)
    pooled = pool_boxes(values, np.array([[0, 0, 2, 1]], np.float32), 3.0)
    np.testing.assert_allclose(pooled, [[(9 / 2) ** (1 / 3), 0.0]], rtol=1e-6)


def test_maximum_takes_every_touched_cell(pool_boxes):
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    pooled = pool_boxes(values, np.array([[0.2, 0.0, 2.1, 1.5]], np.float32), np.inf)
    assert pooled[0, 0] == 6.0


def test_a_masks_cells_count_by_what_it_covers(pool_boxes):
    # Three tokens over two cells: the middle token covers half of each, the last one the rest of the right cell.
    values = np.array([[[1.0, 4.0]]], np.float32)
    masks = np.array([[[0, 1, 1]], [[0, 1, 1]]], np.uint8)
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1.5, 1]], np.float32)
    pooled = pool_boxes(values, boxes, 1.0, masks)
    expected = [(1 / 3 * 1 + 1 * 4) / (4 / 3), (1 / 3 * 1 + 0.5 * 4) / (1 / 3 + 0.5)]
    np.testing.assert_allclose(pooled[:, 0], expected, rtol=1e-6)


def test_the_maximum_looks_only_where_the_mask_is(pool_boxes):
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    mask = np.zeros((1, 3, 4), np.uint8)
    mask[0, 1, :2] = 1
    assert pool_boxes(values, np.array([[0, 0, 4, 3]], np.float32), np.inf, mask)[0, 0] == 5.0


def test_a_mask_outside_its_box_gives_zeros(pool_boxes):
    values, box = np.ones((2, 4, 4), np.float32), np.array([[0, 0, 2, 2]], np.float32)
    mask = np.zeros((1, 4, 4), np.uint8)
    mask[0, 3, 3] = 1
    for power in (3.0, np.inf):
        assert not pool_boxes(values, box, power, mask).any()


def made_up(shape: tuple[int, int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(shape)
    _, rows, columns = shape
    values = np.maximum(rng.normal(size=shape), 0).astype(np.float32)
    corner = rng.uniform(0, [columns - 1, rows - 1], size=(count, 2))
    far = np.minimum(corner + rng.uniform(0.1, 9, size=(count, 2)), [columns, rows])
    boxes = np.hstack([corner, far]).astype(np.float32)
    boxes[0] = [0, 0, columns, rows]
    return values, boxes


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("shape", [(37, 11, 14), (3, 40, 67), (2, 1, 1)])
def test_cpu_equals_reference(power, shape):
    values, boxes = made_up(shape, 50)
    expected = reference.pool_boxes(values, boxes, power)
    assert expected.std() > 0.05
    np.testing.assert_allclose(_pool.pool_boxes(values, boxes, power), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("power", [1.0, 3.0, np.inf])
@pytest.mark.parametrize("tokens", [(5, 8), (11, 14), (30, 31), (1, 1)])
def test_cpu_equals_reference_with_masks(power, tokens):
    values, boxes = made_up((9, 11, 14), 30)
    masks = (np.random.default_rng(tokens).random((30, *tokens)) < 0.4).astype(np.uint8)
    masks[0] = 1
    expected = reference.pool_boxes(values, boxes, power, masks)
    assert expected.std() > 0.05
    np.testing.assert_allclose(_pool.pool_boxes(values, boxes, power, masks), expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(expected[:1], reference.pool_boxes(values, boxes[:1], power))


def test_zeros_beside_large_values_stay_zeros(pool_boxes):
    values = np.zeros((1, 8, 9), np.float32)
    values[0, :, ::2], values[0, 2:5, 3] = 1000.0, 1e-4
    boxes = np.array([[3.0, 5.0, 4.0, 8.0], [3.25, 2.5, 3.75, 4.5]], np.float32)
    np.testing.assert_allclose(pool_boxes(values, boxes, 3.0)[:, 0], [0.0, 1e-4], rtol=2e-6)


def test_masks_that_are_not_the_boxes_are_refused():
    values, boxes = np.ones((2, 4, 4), np.float32), np.array([[0, 0, 2, 2]], np.float32)
    with pytest.raises(ValueError, match="one for every box"):
        _pool.pool_boxes(values, boxes, 3.0, np.ones((2, 4, 4), np.uint8))
