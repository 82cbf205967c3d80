"""From the scores of an image's regions to one answer: how well the image matches, and where the object is."""

from __future__ import annotations

import numpy as np

# Weights of the best, second and third region in an image's score. The best alone is at the mercy of one region's
# coding error; chosen on shared data by mAP at 16 bytes (benchmarks/results/choices.json).
BEST_WEIGHTS = np.array([1.0, 0.5, 0.25])


def image_score(scores: np.ndarray) -> float:
    """Weighted mean of the three best of an image's region scores, (R,); at most 1. A lone region counts for all."""
    best = np.sort(scores)[::-1][: len(BEST_WEIGHTS)]
    best = np.pad(best, (0, len(BEST_WEIGHTS) - len(best)), mode="edge")
    return float(best @ BEST_WEIGHTS / BEST_WEIGHTS.sum())


def agreed_region(boxes: np.ndarray, scores: np.ndarray, temperature: float) -> int:
    """The region whose box is expected to overlap the object's best.

    boxes: (R, 4), pixels. scores: (R,), larger is better. Every region is held to be the object with probability
    softmax(score / temperature); the answer is the region of the largest expected IoU under it. Regions that are near
    each other back each other up, so one badly coded region does not decide.
    """
    weights = np.exp((scores - scores.max()) / temperature)
    return int((overlaps(np.asarray(boxes, np.float64)) @ weights).argmax())


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """IoU of every box with every other: (R, 4) to (R, R)."""
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(opposite - corner, 0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum(areas[:, None] + areas[None, :] - shared, 1e-9)
