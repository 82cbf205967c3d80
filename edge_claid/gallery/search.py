"""Queries to hits: a scan for the images with the best regions, then all their regions for score and box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_claid.codes.projection import small_projection
from edge_claid.codes.space import CodeSpace
from edge_claid.config import SearchSettings
from edge_claid.errors import UsageError
from edge_claid.gallery.localise import agreed_region, image_scores
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

        descriptors: (B, D), a row for every object asked for; an image's score is the mean over the objects, its box
        the one around all of them.
        k: 0 for all images. Raises UsageError for k < 0.
        """
        if k < 0:
            raise UsageError(f"the number of hits is {k}; it must be 0 (all images) or more")
        count = len(self) if k == 0 else min(k, len(self))
        if self._scorer is None or count == 0:
            return []
        queries = descriptors.values
        # The scan ranks by one region an image; what it finds is ranked again by several, so more are taken than asked.
        wide = len(self) if len(queries) > 1 else min(len(self), max(self._settings.shortlist, 2 * count))
        images = self._scorer.candidates(queries[0], wide)
        found = [self._scorer.region_scores(query, images) for query in queries]
        scores = np.mean([image_scores(regions) for regions in found], axis=0)
        order = np.argsort(-scores, kind="stable")[:count]
        boxes = np.array([self._boxes(images[order], [regions[i] for i in order]) for regions in found])
        around = np.concatenate([boxes[:, :, :2].min(axis=0), boxes[:, :, 2:].max(axis=0)], axis=1).tolist()
        rows = self._gallery.images_by_id(self._index.image_ids[images[order]])
        return [
            Hit(row.path, row.root, score, (box[0], box[1], box[2], box[3]), row.label)
            for row, score, box in zip(rows, scores[order].tolist(), around, strict=True)
        ]

    def _boxes(self, images: np.ndarray, scores: list[np.ndarray]) -> list[np.ndarray]:
        """One object's box in each of these images, (4,) each. scores: of all regions of each image."""
        boxes = []
        for image, own_scores in zip(images, scores, strict=True):
            own = self._index.boxes[self._index.starts[image] : self._index.starts[image + 1]]
            boxes.append(own[agreed_region(own, own_scores, self._settings.temperature)])
        return boxes
