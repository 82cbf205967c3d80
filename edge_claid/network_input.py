"""A picture as a network takes it: where pictures and networks meet."""

from __future__ import annotations

import numpy as np

from edge_claid.frames.letterbox import resize
from edge_claid.models import NetworkFile


def network_input(pixels: np.ndarray, size: tuple[int, int], network: NetworkFile) -> np.ndarray:
    """(H, W, 3) uint8 RGB to the network's (1, 3, height, width) float32, resized and normalised."""
    small = resize(pixels, size)
    planes = np.empty((1, 3, size[1], size[0]), np.float32)
    for channel in range(3):
        scale = 1.0 / (255.0 * float(network.std[channel]))
        offset = float(network.mean[channel]) / float(network.std[channel])
        np.multiply(small[:, :, channel], np.float32(scale), out=planes[0, channel])
        planes[0, channel] -= np.float32(offset)
    return planes
