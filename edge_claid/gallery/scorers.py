"""Scores of a gallery's regions for a query, by codes or by float descriptors; both answer in one way.

A score is the cosine of the query and the region (of what the region's code stands for, where there are codes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.gallery.index import Index


class Scorer(Protocol):
    """Regions ready to be scored. Images are positions in the index; a query is one descriptor, (D,)."""

    def candidates(self, query: np.ndarray, k: int) -> np.ndarray:
        """The k images with the best regions, best first: (at most k,) int64."""

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        """Scores of all regions of each of these images, each (R,)."""


class CodeScorer:
    """Scores by look-up tables over product-quantised codes.

    Images are found by asymmetric distance (exact scan); their regions are then scored by the cosine to the decoded
    region: with c the decoded region, q.c = (1 + |c|^2 - d^2) / 2, and |c|^2 is itself a sum over look-up tables.
    """

    def __init__(self, index: Index, space: CodeSpace, code_scan: Callable[[int], Any], threads: int) -> None:
        assert index.codes is not None
        self._space, self._starts, self._threads = space, index.starts, threads
        self._scan = code_scan(space.book.subspaces)
        self._scan.append(index.codes, index.image_index)
        self._norm_table = np.ascontiguousarray((space.book.centroids.astype(np.float64) ** 2).sum(axis=2), np.float32)

    def candidates(self, query: np.ndarray, k: int) -> np.ndarray:
        images, _, _ = self._scan.search(self._space.tables(query[None]), k, threads=self._threads)
        return images[0][images[0] >= 0].astype(np.int64)

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        starts, stops = self._starts[images], self._starts[images + 1]
        distances = self._scan.region_distances(self._space.tables(query[None])[0], starts, stops)
        norms = self._scan.region_distances(self._norm_table, starts, stops)
        cosines = (1.0 + norms - distances) / (2.0 * np.sqrt(np.maximum(norms, 1e-12)))
        return np.split(np.minimum(cosines, 1.0), np.cumsum(stops - starts)[:-1])


class FloatScorer:
    """Scores by float descriptors, projected; exact, and for galleries that have no codes yet."""

    def __init__(self, index: Index, projection: Projection) -> None:
        assert index.descriptors is not None
        self._starts, self._projection = index.starts, projection
        self._values = projection.project(index.descriptors)

    def candidates(self, query: np.ndarray, k: int) -> np.ndarray:
        scores = self._values @ self._projection.project(query[None])[0]
        return np.argsort(-np.maximum.reduceat(scores, self._starts[:-1]), kind="stable")[:k]

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        projected = self._projection.project(query[None])[0]
        return [self._values[self._starts[i] : self._starts[i + 1]] @ projected for i in images]
