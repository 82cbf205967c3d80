"""Where in an image the object is: all its regions vote on a map, weighted by their scores."""

from __future__ import annotations

import numpy as np

from edge_claid.config import SearchSettings


def voted_box(boxes: np.ndarray, scores: np.ndarray, settings: SearchSettings) -> tuple[float, float, float, float]:
    """The box that encloses what most regions agree on.

    boxes: (R, 4), pixels. scores: (R,), larger is better. A region adds exp((score - best) / temperature) / sqrt(area)
    to every pixel it covers; the answer encloses all pixels with at least vote_threshold of the highest sum. The map is
    kept exact by cutting the image only where a box begins or ends. One region's box where nothing else is near it.
    """
    boxes = np.asarray(boxes, np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    weights = np.exp((scores - scores.max()) / settings.vote_temperature) / np.sqrt(sides.prod(axis=1))
    heard = weights > weights.max() * 1e-4
    boxes, weights = boxes[heard], weights[heard]
    columns, rows = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    across = (boxes[:, :1] <= columns[:-1]) & (boxes[:, 2:3] >= columns[1:])
    down = (boxes[:, 1:2] <= rows[:-1]) & (boxes[:, 3:] >= rows[1:])
    votes = (down * weights[:, None]).T @ across.astype(np.float64)
    chosen = votes >= settings.vote_threshold * votes.max()
    used_rows, used_columns = np.flatnonzero(chosen.any(axis=1)), np.flatnonzero(chosen.any(axis=0))
    return (
        float(columns[used_columns[0]]),
        float(rows[used_rows[0]]),
        float(columns[used_columns[-1] + 1]),
        float(rows[used_rows[-1] + 1]),
    )
