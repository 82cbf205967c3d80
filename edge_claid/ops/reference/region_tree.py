"""The tree of token sets that the decomposition gives, as compact arrays over all its nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tree:
    """All nodes of the hierarchy, breadth first; row 0 is the root, which holds every token.

    Under one parent the components of the first half come before those of the second; within a half they stand in
    raster order of their first token.

    masks: (R, ceil(N / 8)) uint8, token membership packed little-endian (numpy.packbits, bitorder="little").
    parents: (R,) int32, row of the parent, -1 for the root.
    depths: (R,) int32, 0 for the root.
    areas: (R,) int32, tokens of the node.
    high: (R,) int32, tokens of the node that are among the image's high-energy tokens.
    edges: (R,) int64, connected pairs i < j inside the node (CLAID eq. 8).
    """

    masks: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    areas: np.ndarray
    high: np.ndarray
    edges: np.ndarray

    def __len__(self) -> int:
        return len(self.parents)

    def connectivity(self) -> np.ndarray:
        """Mean internal connectivity, 2 edges / (n (n - 1)): (R,) float64 (CLAID eq. 9); 1 for a single token."""
        pairs = self.areas.astype(np.float64) * (self.areas - 1)
        return np.where(pairs > 0, 2.0 * self.edges / np.maximum(pairs, 1.0), 1.0)

    def energy(self) -> np.ndarray:
        """Share of each node's tokens that are high-energy: (R,) float64 (CLAID eq. 10)."""
        return self.high / self.areas
