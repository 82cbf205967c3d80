"""Scores of a gallery's regions for a query, by codes or by float descriptors; both answer in one way.

A score is 1 - d^2 / 2 with d the distance of the unit query to the (coded) region, which is the cosine where the
region is a unit vector: larger is better, at most 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.gallery.index import Index


class Scorer(Protocol):
    """Regions ready to be scored. Images are positions in the index; q one query descriptor, (D,)."""

    def best_images(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(Q, D) to images (Q, k), scores (Q, k) and regions (Q, k), best first; -1 where there are no more."""

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        """Scores of all regions of each of these images."""


class CodeScorer:
    """Scores by look-up tables over product-quantised codes (asymmetric distance)."""

    def __init__(self, index: Index, space: CodeSpace, code_scan: Callable[[int], Any], threads: int) -> None:
        assert index.codes is not None
        self._space, self._starts, self._threads = space, index.starts, threads
        self._scan = code_scan(space.book.subspaces)
        self._scan.append(index.codes, index.image_index)

    def best_images(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, distances, regions = self._scan.search(self._space.tables(queries), k, threads=self._threads)
        return images, 1.0 - distances / 2.0, regions

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        starts, stops = self._starts[images], self._starts[images + 1]
        distances = self._scan.region_distances(self._space.tables(query[None])[0], starts, stops)
        return np.split(1.0 - distances / 2.0, np.cumsum(stops - starts)[:-1])


class FloatScorer:
    """Scores by float descriptors, projected; exact, and for galleries that have no codes yet."""

    def __init__(self, index: Index, projection: Projection) -> None:
        assert index.descriptors is not None
        self._starts, self._projection = index.starts, projection
        self._values = projection.project(index.descriptors.astype(np.float32))

    def best_images(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = self._projection.project(queries) @ self._values.T
        best = np.maximum.reduceat(scores, self._starts[:-1], axis=1)
        images = np.argsort(-best, axis=1, kind="stable")[:, :k]
        regions = np.array(
            [[self._starts[i] + row[self._starts[i] : self._starts[i + 1]].argmax() for i in chosen]
             for row, chosen in zip(scores, images, strict=True)]
        )  # fmt: skip
        return images, np.take_along_axis(best, images, axis=1), regions

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        projected = self._projection.project(query[None])[0]
        return [self._values[self._starts[i] : self._starts[i + 1]] @ projected for i in images]
