"""From the scores of an image's regions to one answer: how well the image matches, and where the object is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Weights of the best, second and third region in an image's score. The best alone is at the mercy of one region's
# coding error; chosen on shared data by mAP at 16 bytes (benchmarks/results/choices.json).
BEST_WEIGHTS = np.array([1.0, 0.5, 0.25])


def image_scores(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Weighted mean of the three best region scores of each image: (R,) each, at least one, to (I,) float64.

    At most 1. Where an image has fewer regions, its last one counts for those that are missing.
    """
    counts = np.fromiter(map(len, scores), np.int64, len(scores))
    width = len(BEST_WEIGHTS)
    table = np.full((len(scores), max(int(counts.max()), width)), -np.inf)
    table[np.arange(table.shape[1]) < counts[:, None]] = np.concatenate(scores)
    best = -np.sort(-np.partition(table, table.shape[1] - width, axis=1)[:, -width:], axis=1)
    last = best[np.arange(len(best)), np.minimum(counts, width) - 1]
    return np.where(np.isfinite(best), best, last[:, None]) @ (BEST_WEIGHTS / BEST_WEIGHTS.sum())


# What a box's shape counts: score lost where it is e times wider, for its height, than the query's box, or e times
# narrower (benchmarks/results/choices.json).
SHAPE_COST = 0.08


def agreed_region(boxes: np.ndarray, scores: np.ndarray, temperature: float, aspect: float | None = None) -> int:
    """The region whose box is expected to overlap the object's best.

    boxes: (R, 4), pixels. scores: (R,), larger is better. aspect: width / height of the query's box, None where it is
    not known; regions of about that shape are likelier to be the object. Every region is held to be the object with
    probability softmax(score / temperature); the answer is the region of the largest expected IoU under it. Regions
    that are near each other back each other up, so one badly coded region does not decide.
    """
    boxes = np.asarray(boxes, np.float64)
    if aspect is not None:
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)
        scores = scores - SHAPE_COST * np.abs(np.log(sides[:, 0] / (sides[:, 1] * aspect)))
    weights = np.exp((scores - scores.max()) / temperature)
    return int((overlaps(boxes) @ weights).argmax())


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """IoU of every box with every other: (R, 4) to (R, R)."""
    x0, y0, x1, y1 = boxes.T
    width = np.minimum.outer(x1, x1) - np.maximum.outer(x0, x0)
    height = np.minimum.outer(y1, y1) - np.maximum.outer(y0, y0)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (x1 - x0) * (y1 - y0)
    return shared / np.maximum(np.add.outer(areas, areas) - shared, 1e-9)
