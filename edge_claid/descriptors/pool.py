"""Descriptors of regions: pooling of a network's maps over each region's box, or over its mask inside the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge_claid.config import DescriptorSettings
from edge_claid.records import Descriptors, FeatureMap, Regions

PoolBoxes = Callable[[np.ndarray, np.ndarray, float, np.ndarray | None], np.ndarray]


class RegionPooling:
    """Pools every region from the map and normalises.

    settings: power of the generalised mean, and what of a box is pooled (see cells_from_pixels).
    pool_boxes: the op (see edge_claid/ops/reference/pool.py).
    """

    def __init__(self, settings: DescriptorSettings, pool_boxes: PoolBoxes) -> None:
        self._settings = settings
        self._pool_boxes = pool_boxes

    @property
    def inner_shares(self) -> tuple[float, float]:
        """Weights of a feature map's inner maps."""
        return self._settings.share_16, self._settings.share_8

    def parts(self, dims: Sequence[int]) -> list[int]:
        """Lengths of a descriptor's parts. dims: channels of the map and of its inner maps."""
        return [dims[0], *(dim for dim, share in zip(dims[1:], self.inner_shares, strict=False) if share)]

    def describe_regions(self, feature_map: FeatureMap, regions: Regions) -> Descriptors:
        """One descriptor of unit L2 norm a region, over its mask where the settings say so."""
        if not self._settings.mask:
            return self.describe(feature_map, regions.boxes)
        rows, columns = regions.grid
        masks = np.unpackbits(regions.masks, axis=1, count=rows * columns, bitorder="little")
        return self.describe(feature_map, regions.boxes, masks.reshape(-1, rows, columns))

    def describe(self, feature_map: FeatureMap, boxes: np.ndarray, masks: np.ndarray | None = None) -> Descriptors:
        """boxes: (R, 4), pixels of the original picture -> one descriptor of unit L2 norm a box.

        masks: (R, rows, columns) uint8, the tokens of each region; None pools over whole boxes. Each map's part has a
        squared norm in proportion to its weight.
        """
        weighted = [(feature_map.values, 1.0), *zip(feature_map.inner, self.inner_shares, strict=False)]
        weighted = [(values, weight) for values, weight in weighted if weight]
        whole = sum(weight for _, weight in weighted)
        parts = [
            self._pooled(values, feature_map.image_size, boxes, masks) * np.float32(np.sqrt(weight / whole))
            for values, weight in weighted
        ]
        return Descriptors(np.concatenate(parts, axis=1))

    def _pooled(
        self, values: np.ndarray, image_size: tuple[int, int], boxes: np.ndarray, masks: np.ndarray | None
    ) -> np.ndarray:
        values = np.ascontiguousarray(values, np.float32)
        cells = cells_from_pixels(boxes, values.shape[1:], image_size, self._settings)
        pooled = self._pool_boxes(values, cells, self._settings.power, masks)
        return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)


def cells_from_pixels(
    boxes: np.ndarray, grid: tuple[int, ...], image_size: tuple[int, int], settings: DescriptorSettings
) -> np.ndarray:
    """Boxes in pixels to boxes in cells, less their margin, at least `smallest_side` wide, and kept inside the map.

    grid: (rows, columns) of the map. image_size: (width, height). A box far smaller than a cell says more about where
    the cell's borders fall than about the thing in it. Returns (R, 4) float32.
    """
    rows, columns = grid
    width, height = image_size
    limits = np.array([columns, rows], np.float64)
    scaled = np.asarray(boxes, np.float64).reshape(-1, 2, 2) * (limits / (width, height))
    inner = (scaled[:, 1] - scaled[:, 0]) * (1.0 - 2.0 * settings.margin)
    side = np.minimum(np.maximum(inner, settings.smallest_side), limits)
    start = np.clip((scaled[:, 0] + scaled[:, 1] - side) / 2, 0, limits - side)
    return np.concatenate([start, start + side], axis=1).astype(np.float32)
