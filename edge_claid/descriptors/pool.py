"""Descriptors of regions: pooling of a convolutional map over each region's box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_claid.config import DescriptorSettings
from edge_claid.records import Descriptors, FeatureMap

PoolBoxes = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


class RegionPooling:
    """Pools every region's box from the map and normalises.

    settings: power of the generalised mean and the smallest side of a pooled box, in cells.
    pool_boxes: the op (see edge_claid/ops/reference/pool.py).
    """

    def __init__(self, settings: DescriptorSettings, pool_boxes: PoolBoxes) -> None:
        self._settings = settings
        self._pool_boxes = pool_boxes

    def describe(self, feature_map: FeatureMap, boxes: np.ndarray) -> Descriptors:
        """boxes: (R, 4), pixels of the original picture -> one descriptor of unit L2 norm a box."""
        cells = cells_from_pixels(boxes, feature_map, self._settings.smallest_side)
        pooled = self._pool_boxes(np.ascontiguousarray(feature_map.values, np.float32), cells, self._settings.power)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return Descriptors(pooled / np.maximum(norms, 1e-12))


def cells_from_pixels(boxes: np.ndarray, feature_map: FeatureMap, smallest_side: float) -> np.ndarray:
    """Boxes in pixels to boxes in cells, widened about their centre to `smallest_side` and kept inside the map.

    A box far smaller than a cell says more about where the cell's borders fall than about the thing in it.
    Returns (R, 4) float32.
    """
    _, rows, columns = feature_map.values.shape
    width, height = feature_map.image_size
    limits = np.array([columns, rows], np.float64)
    scaled = np.asarray(boxes, np.float64).reshape(-1, 2, 2) * (limits / (width, height))
    side = np.minimum(np.maximum(scaled[:, 1] - scaled[:, 0], smallest_side), limits)
    start = np.clip((scaled[:, 0] + scaled[:, 1] - side) / 2, 0, limits - side)
    return np.concatenate([start, start + side], axis=1).astype(np.float32)
