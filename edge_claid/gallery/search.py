"""Queries to hits: best region an image, best images, a voted box in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_claid.codes.projection import small_projection
from edge_claid.codes.space import CodeSpace
from edge_claid.config import SearchSettings
from edge_claid.errors import UsageError
from edge_claid.gallery.box_vote import voted_box
from edge_claid.gallery.scorers import CodeScorer, FloatScorer, Scorer
from edge_claid.gallery.store import Gallery
from edge_claid.records import Descriptors, Hit


class GallerySearch:
    """A gallery's regions in memory, ready for queries; a picture of the gallery as it was when this was made.

    exact: score by float descriptors, which the gallery must keep. code_scan: the op that scans codes.
    Raises GalleryError where the gallery is damaged or ``exact`` is asked of one without descriptors.
    """

    def __init__(
        self,
        gallery: Gallery,
        code_scan: Callable[[int], Any],
        settings: SearchSettings | None = None,
        *,
        exact: bool = False,
        threads: int = 1,
    ) -> None:
        self._gallery = gallery
        self._settings = settings or SearchSettings()
        space = gallery.space
        self._index = gallery.load_index(exact=exact)
        self._scorer: Scorer | None = None
        if not len(self._index):
            return
        if isinstance(space, CodeSpace) and not exact:
            self._scorer = CodeScorer(self._index, space, code_scan, threads)
        else:
            assert self._index.descriptors is not None
            known = isinstance(space, CodeSpace)
            projection = space.projection if known else small_projection(self._index.descriptors)  # type: ignore[union-attr]
            self._scorer = FloatScorer(self._index, projection)

    def __len__(self) -> int:
        """Images that are searched."""
        return len(self._index.image_ids)

    def query(self, descriptors: Descriptors, k: int = 10) -> list[Hit]:
        """The k best images for an object, or for all of several objects at once.

        descriptors: (B, D), a row for every object asked for; an image's score is the mean of each row's best region.
        k: 0 for all images. Raises UsageError for k < 0.
        """
        if k < 0:
            raise UsageError(f"the number of hits is {k}; it must be 0 (all images) or more")
        count = len(self) if k == 0 else min(k, len(self))
        if self._scorer is None or count == 0:
            return []
        images, scores = self._ranked(descriptors.values, count)
        boxes = self._boxes(descriptors.values, images)
        rows = self._gallery.images_by_id(self._index.image_ids[images])
        return [
            Hit(row.path, row.root, float(score), box, row.label)
            for row, score, box in zip(rows, scores, boxes, strict=True)
        ]

    def _ranked(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        assert self._scorer is not None
        if len(queries) == 1:
            images, scores, _ = self._scorer.best_images(queries, count)
            return images[0], scores[0]
        images, scores, _ = self._scorer.best_images(queries, len(self))
        means = np.zeros(len(self), np.float64)
        for found, values in zip(images, scores, strict=True):
            means[found] += values / len(queries)
        order = np.argsort(-means, kind="stable")[:count]
        return order, means[order]

    def _boxes(self, queries: np.ndarray, images: np.ndarray) -> list[tuple[float, float, float, float]]:
        """One box an image; the box around all objects where several are asked for."""
        assert self._scorer is not None
        parts = [self._object_boxes(query, images) for query in queries]
        stacked = np.array(parts)
        corners = np.concatenate([stacked[:, :, :2].min(axis=0), stacked[:, :, 2:].max(axis=0)], axis=1)
        return [(float(a), float(b), float(c), float(d)) for a, b, c, d in corners]

    def _object_boxes(self, query: np.ndarray, images: np.ndarray) -> list[tuple[float, ...]]:
        assert self._scorer is not None
        found = []
        for image, scores in zip(images, self._scorer.region_scores(query, images), strict=True):
            boxes = self._index.boxes[self._index.starts[image] : self._index.starts[image + 1]]
            if self._settings.vote:
                found.append(voted_box(boxes, scores, self._settings))
            else:
                found.append(tuple(float(value) for value in boxes[scores.argmax()]))
        return found
