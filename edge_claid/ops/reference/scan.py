"""Search over codes: the k best images, each by its best region. The plain version, which explains the fast ones."""

from __future__ import annotations

import numpy as np


def code_distances(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Distance of each code: the sum over subspaces, ascending, in float32.

    table: (M, 256) float32. codes: (N, M) uint8. Returns (N,) float32.
    """
    distances = np.zeros(len(codes), np.float32)
    for subspace in range(codes.shape[1]):
        distances += table[subspace, codes[:, subspace]]
    return distances


class CodeScan:
    """Codes of a gallery's regions, with the image each belongs to.

    codes: (N, M) uint8. images: (N,) int32, image of each region. live: (N,) bool, False once its image is removed.
    """

    def __init__(self, subspaces: int) -> None:
        self.subspaces = subspaces
        self.codes = np.empty((0, subspaces), np.uint8)
        self.images = np.empty(0, np.int32)
        self.live = np.empty(0, bool)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def live_regions(self) -> int:
        """Regions of images that are not removed."""
        return int(self.live.sum())

    def append(self, codes: np.ndarray, images: np.ndarray) -> None:
        """Add regions. codes: (n, M) uint8. images: (n,) int32, not negative."""
        if (images < 0).any():
            raise ValueError("an image index is negative")
        self.codes = np.concatenate([self.codes, codes])
        self.images = np.concatenate([self.images, images])
        self.live = np.concatenate([self.live, np.ones(len(codes), bool)])

    def remove(self, images: np.ndarray) -> int:
        """Leave out all present regions of these images from now on; returns how many regions that were."""
        gone = self.live & np.isin(self.images, images)
        self.live &= ~gone
        return int(gone.sum())

    def search(
        self, tables: np.ndarray, k: int, allowed: np.ndarray | None = None, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k images of smallest distance, each by its nearest region.

        tables: (Q, M, 256) float32. allowed: (I,) bool over image indices; an image beyond it is not allowed.
        Returns images (Q, k) int32, distances (Q, k) float32 and regions (Q, k) int64 (rows in order of appending),
        nearest first; equal distances order by image, then region. Missing places hold -1, infinity, -1.
        """
        del threads
        rows = np.flatnonzero(self.live & self._allowed_rows(allowed))
        images = np.full((len(tables), k), -1, np.int32)
        distances = np.full((len(tables), k), np.inf, np.float32)
        regions = np.full((len(tables), k), -1, np.int64)
        for query, table in enumerate(tables):
            scores = code_distances(table, self.codes[rows])
            order = np.lexsort((rows, self.images[rows], scores))
            _, first = np.unique(self.images[rows][order], return_index=True)
            best = order[np.sort(first)][:k]
            images[query, : len(best)] = self.images[rows[best]]
            distances[query, : len(best)] = scores[best]
            regions[query, : len(best)] = rows[best]
        return images, distances, regions

    def region_distances(self, table: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Distances of the regions in the ranges [starts[i], stops[i]), one range after the other.

        table: (M, 256) float32. starts, stops: (n,) int64. Returns (sum of lengths,) float32.
        """
        if (starts < 0).any() or (stops < starts).any() or (stops > len(self)).any():
            raise ValueError("a range of regions is outside the gallery")
        ranges = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
        rows = np.concatenate([np.empty(0, np.int64), *ranges])
        return code_distances(table, self.codes[rows])

    def _allowed_rows(self, allowed: np.ndarray | None) -> np.ndarray:
        if allowed is None:
            return np.ones(len(self), bool)
        known = self.images < len(allowed)
        return known & np.append(allowed, False)[np.where(known, self.images, len(allowed))]
