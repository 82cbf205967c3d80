"""RoI pooling of a convolutional map: generalised mean (GeM) and maximum."""

from __future__ import annotations

import numpy as np


def cell_weights(start: float, stop: float, cells: int) -> np.ndarray:
    """Share of each cell that the interval [start, stop) covers: (cells,) float64."""
    edges = np.arange(cells + 1, dtype=np.float64)
    return np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0.0, 1.0)


def pool_boxes(values: np.ndarray, boxes: np.ndarray, power: float) -> np.ndarray:
    """Pool a map over boxes.

    values: (C, h, w) float32, not negative. boxes: (R, 4) float32, x0, y0, x1, y1 in cells, each of positive area
    inside the map. power: exponent of the generalised mean; infinity takes the maximum over all touched cells.
    Returns (R, C) float32. A cell counts by the share of it that the box covers (area-weighted RoI pooling);
    GeM: (sum w x^p / sum w)^(1/p) (papers/claid.txt §IV pools by RoI; the released program uses p = 3).
    """
    channels, rows, columns = values.shape
    pooled = np.empty((len(boxes), channels), np.float32)
    raised = values if np.isinf(power) else values.astype(np.float32) ** np.float32(power)
    flat = raised.reshape(channels, -1)
    for region, (x0, y0, x1, y1) in enumerate(boxes.astype(np.float64)):
        weights = np.outer(cell_weights(y0, y1, rows), cell_weights(x0, x1, columns)).ravel()
        touched = np.flatnonzero(weights)
        if np.isinf(power):
            pooled[region] = flat[:, touched].max(axis=1)
        else:
            sums = flat[:, touched].astype(np.float64) @ weights[touched]
            pooled[region] = (sums / weights[touched].sum()) ** (1.0 / power)
    return pooled
