"""Which gallery images the regions of one picture resemble: many queries answered in one go, for the live look-up."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from edge_claid.gallery.lookup.positions import Positions
from edge_claid.gallery.lookup.scorers import Scored
from edge_claid.gallery.lookup.search import GallerySearch


@dataclass(frozen=True)
class Matches:
    """Scores of queries against the images that any of them resembles.

    image_ids: (C,) int64. scores: (Q, C) float64, the score a search would give image c for query q.
    """

    image_ids: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Nearest:
    """The images that each query resembles most, best first as the scan ranks them.

    image_ids: (Q, k) int64, k at most the images that are searched. scores: (Q, k) float64, as in ``Matches``.
    """

    image_ids: np.ndarray
    scores: np.ndarray


class Looked:
    """The regions of one picture held against a gallery; made by ``looking``."""

    def __init__(self, positions: Positions, scored: Scored, count: int, images: int) -> None:
        self._positions, self._scored, self._count, self._images = positions, scored, count, images

    def nearest(self, k: int) -> Nearest:
        """The k images that each query resembles most, each with its score."""
        near = self._scored.nearest(min(k, self._images))
        near = near[:, (near >= 0).all(axis=0)]
        return Nearest(self._positions.image_ids[near], self._scored.image_scores(near))

    def matches(self, k: int, only: Collection[int] | None = None, most: int = 48) -> Matches:
        """All queries against the images that any of them resembles.

        k: nearest images of each query. only: ids to search among, all where None. most: images in all; the nearest of
        any query come first.
        """
        allowed = None if only is None else self._positions.of_ids(only)
        near = self._scored.nearest(min(k, self._images), allowed)
        # Column by column: the nearest image of every query, then every second one, until there are enough.
        ordered = near.T.ravel()
        _, first = np.unique(ordered, return_index=True)
        images = ordered[np.sort(first)]
        return self._against(images[images >= 0][:most])

    def scores_of(self, image_ids: Collection[int]) -> Matches:
        """All queries against these images; ids that are not searched are left out."""
        return self._against(np.flatnonzero(self._positions.of_ids(image_ids)))

    def _against(self, images: np.ndarray) -> Matches:
        if not len(images):
            return Matches(np.empty(0, np.int64), np.empty((self._count, 0)))
        scores = self._scored.image_scores(np.broadcast_to(images, (self._count, len(images))))
        return Matches(self._positions.image_ids[images], scores)


@contextlib.contextmanager
def looking(search: GallerySearch, queries: np.ndarray) -> Iterator[Looked | None]:
    """Hold (Q, D) descriptors against the gallery; None where there are none, or nothing is searched.

    The gallery as it is searched does not change while the block runs.
    """
    with search.scoring() as (positions, scorer):
        ready = scorer is not None and len(queries) and len(search)
        yield Looked(positions, scorer.scored(queries), len(queries), len(search)) if scorer and ready else None


def look_up(search: GallerySearch, queries: np.ndarray, k: int, most: int = 48) -> Matches:
    """Score (Q, D) descriptors against the k images nearest to each of them; most: images in all."""
    with looking(search, queries) as looked:
        if looked is None:
            return Matches(np.empty(0, np.int64), np.empty((len(queries), 0)))
        return looked.matches(k, most=most)
