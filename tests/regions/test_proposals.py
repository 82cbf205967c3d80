"""The grid and the whole picture."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.errors import UsageError
from edge_claid.regions.proposals import grid_of_rectangles, whole_image


def test_whole_image() -> None:
    regions = whole_image((640, 427), (20, 30))
    assert regions.boxes.tolist() == [[0, 0, 640, 427]]
    assert regions.parents.tolist() == [-1]
    assert regions.mask(0).all()
    assert regions.areas.tolist() == [600]


def test_thirty_rectangles_in_four_scales() -> None:
    regions = grid_of_rectangles((600, 300), (16, 32), overlap=0.5)
    assert len(regions) == 30
    assert regions.boxes.dtype == np.float32
    assert regions.boxes[0].tolist() == [0, 0, 600, 300]
    # Two by two with half overlap: sides of two thirds.
    np.testing.assert_allclose(
        regions.boxes[1:5], [[0, 0, 400, 200], [200, 0, 600, 200], [0, 100, 400, 300], [200, 100, 600, 300]], rtol=1e-6
    )
    assert regions.parents.tolist() == [-1] + [0] * 29
    for low in (1, 5, 14):
        assert regions.boxes[low:, :2].min() == 0
    np.testing.assert_allclose(regions.boxes[-1, 2:], [600, 300], rtol=1e-6)


def test_without_overlap_each_scale_tiles_the_picture() -> None:
    regions = grid_of_rectangles((100, 100), (12, 12))
    covered = [sum(regions.mask(row).astype(int) for row in rows) for rows in (range(1, 5), range(5, 14))]
    assert all((count == 1).all() for count in covered)
    assert regions.areas[1:5].tolist() == [36] * 4


@pytest.mark.parametrize(("scales", "overlap"), [(0, 0.5), (4, 1.0), (4, -0.1)])
def test_impossible_grids_are_refused(scales: int, overlap: float) -> None:
    with pytest.raises(UsageError, match="scale"):
        grid_of_rectangles((10, 10), scales=scales, overlap=overlap)
