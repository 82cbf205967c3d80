"""Scores of a gallery's regions for a query, by codes or by float descriptors; both answer in one way.

A score is the cosine of the query and the region (of what the region's code stands for, where there are codes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.gallery.lookup.localise import BEST_WEIGHTS, image_scores
from edge_claid.gallery.lookup.positions import Positions

MOST_SCORES = 1 << 23  # scores of regions held at once: 32 MB


class Scorer(Protocol):
    """Regions ready to be scored. Images are positions; a query is one descriptor, (D,)."""

    @property
    def projection(self) -> Projection:
        """What descriptors go through before they are scored."""

    def append(self, values: np.ndarray, images: np.ndarray) -> None:
        """Take up regions (n, width) as ``Positions.read`` gives them, with the position (n,) int32 of their images."""

    def remove(self, images: np.ndarray) -> None:
        """Leave out the images at these positions from now on: (n,) int32."""

    def nearest_images(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """The k images with the best regions for each of (Q, D) queries, best first: (Q, k) int64, -1 where missing.

        allowed: (I,) bool over positions, all where None.
        """

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        """Scores of all regions of each of these images, each (R,)."""

    def scored(self, queries: np.ndarray) -> Scored:
        """The (Q, D) queries of one picture made ready, for several questions about them; until the next change."""


class Scored(Protocol):
    """The regions of a gallery as Q queries score them."""

    def nearest(self, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """As ``Scorer.nearest_images``."""

    def image_scores(self, images: np.ndarray) -> np.ndarray:
        """Scores of images as a search gives them: positions (Q, C), of each query its own, to (Q, C) float64."""


class CodeScorer:
    """Scores by look-up tables over product-quantised codes.

    Images are found by asymmetric distance (exact scan); their regions are then scored by the cosine to the decoded
    region: with c the decoded region, q.c = (1 + |c|^2 - d^2) / 2, and |c|^2 is itself a sum over look-up tables.
    """

    def __init__(self, positions: Positions, space: CodeSpace, code_scan: Callable[[int], Any], threads: int) -> None:
        self._positions, self._space, self._threads = positions, space, threads
        self._scan = code_scan(space.book.subspaces)
        self._norm_table = np.ascontiguousarray((space.book.centroids.astype(np.float64) ** 2).sum(axis=2), np.float32)

    @property
    def projection(self) -> Projection:
        return self._space.projection

    def append(self, values: np.ndarray, images: np.ndarray) -> None:
        self._scan.append(values, images)

    def remove(self, images: np.ndarray) -> None:
        self._scan.remove(images)

    def nearest_images(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        return self._nearest(self._space.tables(queries), k, allowed)

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        return self._region_scores(self._space.tables(query[None])[0], images)

    def _nearest(self, tables: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
        return self._scan.search(tables, k, allowed, self._threads)[0].astype(np.int64)

    def _region_scores(self, table: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        starts, stops = self._positions.starts[images], self._positions.starts[images + 1]
        distances = self._scan.region_distances(table, starts, stops)
        norms = self._scan.region_distances(self._norm_table, starts, stops)
        cosines = (1.0 + norms - distances) / (2.0 * np.sqrt(np.maximum(norms, 1e-12)))
        cosines, ends = np.minimum(cosines, 1.0), np.cumsum(stops - starts)
        return [cosines[start:stop] for start, stop in zip(ends - (stops - starts), ends, strict=True)]

    def scored(self, queries: np.ndarray) -> Scored:
        return _CodeScored(self, self._space.tables(queries))


class _CodeScored:
    """tables: look-up tables of the queries, made once."""

    def __init__(self, scorer: CodeScorer, tables: np.ndarray) -> None:
        self._scorer, self._tables = scorer, tables

    def nearest(self, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        return self._scorer._nearest(self._tables, k, allowed)

    def image_scores(self, images: np.ndarray) -> np.ndarray:
        each = zip(self._tables, images, strict=True)
        return np.stack([image_scores(self._scorer._region_scores(table, own)) for table, own in each])


class FloatScorer:
    """Scores by float descriptors, projected; exact, and for galleries that have no codes yet."""

    def __init__(self, positions: Positions, projection: Projection) -> None:
        self._positions, self.projection = positions, projection
        self._parts: list[np.ndarray] = [np.empty((0, projection.width), np.float32)]

    def append(self, values: np.ndarray, images: np.ndarray) -> None:
        del images
        self._parts.append(self.projection.project(values))

    def remove(self, images: np.ndarray) -> None:
        """Nothing to do: the positions say who is live."""

    def nearest_images(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        at_once = max(1, MOST_SCORES // max(len(self._values()), 1))
        parts = [queries[start : start + at_once] for start in range(0, len(queries), at_once)]
        found = [self.scored(part).nearest(k, allowed) for part in parts]
        return np.concatenate(found) if found else np.empty((0, k), np.int64)

    def scored(self, queries: np.ndarray) -> Scored:
        return _FloatScored(self._positions, self._values() @ self.projection.project(queries).T)

    def region_scores(self, query: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
        values, starts = self._values(), self._positions.starts
        projected = self.projection.project(query[None])[0]
        return [values[starts[i] : starts[i + 1]] @ projected for i in images]

    def _values(self) -> np.ndarray:
        """(N, d) float32, all regions in the order of positions."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]


class _FloatScored:
    """scores: (N, Q) float32, of all regions in the order of positions."""

    def __init__(self, positions: Positions, scores: np.ndarray) -> None:
        self._positions, self._scores = positions, scores

    def nearest(self, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        usable = np.flatnonzero(self._positions.live if allowed is None else self._positions.live & allowed)
        best = np.maximum.reduceat(self._scores, self._positions.starts[:-1], axis=0)[usable].T
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        found = np.full((self._scores.shape[1], k), -1, np.int64)
        found[:, : order.shape[1]] = usable[order]
        return found

    def image_scores(self, images: np.ndarray) -> np.ndarray:
        starts = self._positions.starts
        # Many queries ask for the same images: each image's regions are looked at once for all of them.
        wanted, places = np.unique(images, return_inverse=True)
        table = np.stack([_best_three(self._scores[starts[i] : starts[i + 1]]) for i in wanted], axis=1)
        return np.take_along_axis(table, places.reshape(images.shape), axis=1)


def _best_three(scores: np.ndarray) -> np.ndarray:
    """``image_scores`` of one image for many queries: (R, Q) to (Q,) float64."""
    width = min(len(scores), len(BEST_WEIGHTS))
    best = np.sort(np.partition(scores, len(scores) - width, axis=0)[len(scores) - width :], axis=0)[::-1]
    weights = BEST_WEIGHTS[:width].copy()
    weights[-1] += BEST_WEIGHTS[width:].sum()  # the last region counts for those that are missing
    return (weights / weights.sum()) @ best.astype(np.float64)
