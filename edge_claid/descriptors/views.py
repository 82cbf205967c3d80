"""Augmented views of a picture: how the same region looks from elsewhere, in other light, a little out of focus."""

from __future__ import annotations

import cv2
import numpy as np

# Ranges of one view, chosen to cover what changes between two photographs of one thing (shared data's README measured
# the gain of whitening from such views; benchmarks/results/choices.json has ours).
SCALE = (0.6, 1.5)
DEGREES = 15.0
PERSPECTIVE = 0.15
GAIN = (0.7, 1.3)
BLUR = 1.8  # largest standard deviation, pixels
JITTER = 0.08  # of a box's side


def augmented_view(pixels: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One random view of a picture, and where its boxes lie there.

    pixels: (H, W, 3) uint8. boxes: (R, 4), pixels. Returns the view, of another size, and (R, 4) float64 boxes in it,
    each shifted a little, as two detections of one thing differ.
    """
    height, width = pixels.shape[:2]
    transform, size = _camera_move(width, height, rng)
    seen = cv2.warpPerspective(pixels, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    moved = _moved_boxes(_jittered(np.asarray(boxes, np.float64), rng), transform, size)
    return _other_light(seen, rng), moved


def _camera_move(width: int, height: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Homography (3, 3) of a random scale, turn and tilt, and the size that holds all of the result."""
    scale = np.exp(rng.uniform(*np.log(SCALE)))
    angle = np.radians(rng.uniform(-DEGREES, DEGREES))
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    turn[2, :2] = rng.uniform(-PERSPECTIVE, PERSPECTIVE, 2) / max(width, height)
    corners = _mapped(turn, np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64))
    low, high = corners.min(axis=0), corners.max(axis=0)
    shift = np.array([[1.0, 0.0, -low[0]], [0.0, 1.0, -low[1]], [0.0, 0.0, 1.0]])
    across, down = np.maximum(np.ceil(high - low), 8).astype(int)
    return shift @ turn, (int(across), int(down))


def _moved_boxes(boxes: np.ndarray, transform: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Upright boxes through the midpoints of the moved sides: the corners would make turned boxes balloon."""
    corners = np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]], boxes[:, [2, 3]], boxes[:, [0, 3]]], axis=1)
    moved = _mapped(transform, corners.reshape(-1, 2)).reshape(-1, 4, 2)
    middles = (moved + np.roll(moved, -1, axis=1)) / 2
    low, high = np.maximum(middles.min(axis=1), 0), np.minimum(middles.max(axis=1), size)
    return np.concatenate([low, np.maximum(high, low)], axis=1)


def _mapped(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    lifted = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ transform.T
    return lifted[:, :2] / lifted[:, 2:]


def _jittered(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return boxes + rng.uniform(-JITTER, JITTER, boxes.shape) * sides


def _other_light(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, colour cast, contrast and, half of the time, blur."""
    lit: np.ndarray = pixels.astype(np.float32) * np.float32(rng.uniform(*GAIN))
    lit = lit * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    lit = (lit - lit.mean()) * np.float32(rng.uniform(*GAIN)) + lit.mean()
    if rng.random() < 0.5:
        lit = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.3, BLUR)))
    return np.clip(lit, 0, 255).astype(np.uint8)
