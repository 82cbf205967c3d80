"""Augmented views keep boxes on their things."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.config import DescriptorSettings
from edge_claid.descriptors.pool import cells_from_pixels
from edge_claid.descriptors.views import augmented_view


@pytest.mark.parametrize("seed", range(12))
def test_a_box_follows_its_thing(seed):
    pixels = np.full((300, 400, 3), 40, np.uint8)
    pixels[100:200, 150:270] = (230, 220, 210)
    seen, boxes = augmented_view(pixels, np.array([[150, 100, 270, 200]], float), np.random.default_rng(seed))
    x0, y0, x1, y1 = boxes[0]
    grey = seen.mean(axis=2)
    bright = grey > (grey.min() + grey.max()) / 2
    rows, columns = np.nonzero(bright)
    true = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    shared = max(0, min(x1, true[2]) - max(x0, true[0])) * max(0, min(y1, true[3]) - max(y0, true[1]))
    union = (x1 - x0) * (y1 - y0) + (true[2] - true[0]) * (true[3] - true[1]) - shared
    assert shared / union > 0.45


def test_views_differ_and_repeat_by_seed():
    pixels = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8)
    box = np.array([[10, 10, 50, 50]], float)
    first, again = (augmented_view(pixels, box, np.random.default_rng(3)) for _ in range(2))
    other = augmented_view(pixels, box, np.random.default_rng(4))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].shape != other[0].shape


def test_boxes_become_cells_inside_the_map():
    boxes = np.array([[0, 0, 400, 100], [390, 95, 399, 99], [40, 20, 80, 60]])
    cells = cells_from_pixels(boxes, (10, 20), (400, 100), DescriptorSettings(margin=0.0))
    np.testing.assert_allclose(cells[0], [0, 0, 20, 10])
    np.testing.assert_allclose(cells[1], [19, 9, 20, 10], atol=1e-5)
    np.testing.assert_allclose(cells[2], [2, 2, 4, 6])
