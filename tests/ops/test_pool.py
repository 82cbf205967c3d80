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


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, np.inf])
def test_cpu_equals_reference(power):
    rng = np.random.default_rng(3)
    values = np.maximum(rng.normal(size=(37, 11, 14)), 0).astype(np.float32)
    corner = rng.uniform(0, [13, 10], size=(50, 2))
    boxes = np.hstack([corner, np.minimum(corner + rng.uniform(0.1, 9, size=(50, 2)), [14, 11])]).astype(np.float32)
    expected = reference.pool_boxes(values, boxes, power)
    assert expected.std() > 0.05
    np.testing.assert_allclose(_pool.pool_boxes(values, boxes, power), expected, rtol=2e-6, atol=1e-7)
