"""RoI pooling of a convolutional map: generalised mean (GeM) and maximum, over boxes or over masks inside boxes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def cell_weights(start: float, stop: float, cells: int) -> np.ndarray:
    """Share of each cell that the interval [start, stop) covers: (cells,) float64."""
    edges = np.arange(cells + 1, dtype=np.float64)
    return np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0.0, 1.0)


def mask_weights(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Share of each cell of a map that a token mask covers: (rows, columns) float64.

    mask: (token rows, token columns), true or not. Tokens and cells cover the same picture evenly.
    """
    down, across = (_token_shares(*counts) for counts in ((rows, mask.shape[0]), (columns, mask.shape[1])))
    return down @ mask.astype(np.float64) @ across.T


def pool_boxes(values: np.ndarray, boxes: np.ndarray, power: float, masks: np.ndarray | None = None) -> np.ndarray:
    """Pool a map over boxes, or over masks inside boxes.

    values: (C, h, w) float32, not negative. boxes: (R, 4) float32, x0, y0, x1, y1 in cells, each of positive area
    inside the map. power: exponent of the generalised mean; infinity takes the maximum over all touched cells.
    masks: (R, token rows, token columns) uint8, 1 where a token belongs to the region, each with a token in its box;
    None pools over whole boxes.
    Returns (R, C) float32. A cell counts by the share of it that the box covers (area-weighted RoI pooling), times the
    share that the mask covers, so that a mask as large as its box changes nothing; a region without a cell gives zeros.
    GeM: (sum w x^p / sum w)^(1/p) (papers/claid.txt §IV pools by RoI; the released program uses p = 3).
    """
    channels, rows, columns = values.shape
    pooled = np.zeros((len(boxes), channels), np.float32)
    raised = values if np.isinf(power) else values.astype(np.float32) ** np.float32(power)
    flat = raised.reshape(channels, -1)
    corners: np.ndarray = boxes.astype(np.float64)
    for region, (x0, y0, x1, y1) in enumerate(corners):
        weights = np.outer(cell_weights(y0, y1, rows), cell_weights(x0, x1, columns))
        if masks is not None:
            weights *= mask_weights(masks[region], rows, columns)
        touched = np.flatnonzero(weights)
        if not len(touched):
            continue
        if np.isinf(power):
            pooled[region] = flat[:, touched].max(axis=1)
        else:
            shares = weights.ravel()[touched]
            sums = flat[:, touched].astype(np.float64) @ shares
            pooled[region] = (sums / shares.sum()) ** (1.0 / power)
    return pooled


def _token_shares(cells: int, tokens: int) -> np.ndarray:
    """What each token along an axis covers of each cell: (cells, tokens) float64, rows that add up to 1."""
    edges = np.arange(cells + 1, dtype=np.float64) * (tokens / cells)
    return np.stack([cell_weights(a, b, tokens) / (tokens / cells) for a, b in pairwise(edges)])
