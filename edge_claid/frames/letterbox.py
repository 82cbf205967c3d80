"""Resizing pictures to what a network takes; shapes are kept, no padding is added."""

from __future__ import annotations

import cv2
import numpy as np


def size_by_area(image_size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """(width, height), multiples of `multiple`, of about side * side pixels in the shape of `image_size`."""
    width, height = image_size
    scale = side / (width * height) ** 0.5
    return _multiples(width * scale, height * scale, multiple, (side // multiple) ** 2)


def size_by_longer_side(image_size: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """(width, height), multiples of `multiple`, whose longer side is about `side`."""
    width, height = image_size
    scale = side / max(width, height)
    return _multiples(width * scale, height * scale, multiple, (side // multiple) ** 2)


def _multiples(width: float, height: float, multiple: int, most: int) -> tuple[int, int]:
    """Nearest multiples, at least one each, with no more than `most` cells however thin the picture is."""
    columns = min(max(1, round(width / multiple)), most)
    rows = min(max(1, round(height / multiple)), most)
    return columns * multiple, rows * multiple


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 to (height, width, 3): area averaging when shrinking, cubic when growing."""
    if pixels.shape[1::-1] == tuple(size):
        return pixels
    shrinks = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
