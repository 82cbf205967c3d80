"""Which gallery images the regions of one picture resemble: many queries answered in one go, for the live look-up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.gallery.localise import BEST_WEIGHTS
from edge_claid.gallery.search import GallerySearch


@dataclass(frozen=True)
class Matches:
    """Scores of queries against the images that any of them resembles.

    image_ids: (C,) int64. scores: (Q, C) float64, the score a search would give image c for query q.
    """

    image_ids: np.ndarray
    scores: np.ndarray


def look_up(
    search: GallerySearch,
    queries: np.ndarray,
    k: int,
    most: int = 48,
    also: Sequence[int] = (),
    only: Collection[int] | None = None,
) -> Matches:
    """Score queries against the k images nearest to each of them, and images asked for by id.

    queries: (Q, D) descriptors. most: images in all; the nearest of any query come first. also: ids of images that are
    scored whatever the scan says; ids that are not searched are left out. only: ids to search among, all where None.
    """
    with search.scoring() as (positions, scorer):
        if scorer is None or not len(queries) or not len(search):
            return Matches(np.empty(0, np.int64), np.empty((len(queries), 0)))
        near = scorer.nearest_images(queries, min(k, len(search)), None if only is None else positions.of_ids(only))
        # Column by column: the nearest image of every query, then every second one, until there are enough.
        ordered = near.T.ravel()
        _, first = np.unique(ordered, return_index=True)
        images = ordered[np.sort(first)]
        images = images[images >= 0][:most]
        asked = np.flatnonzero(positions.of_ids(also)) if len(also) else np.empty(0, np.int64)
        images = np.union1d(images, asked)
        if not len(images):
            return Matches(np.empty(0, np.int64), np.empty((len(queries), 0)))
        rows = [scorer.region_scores(query, images) for query in queries]
        scores = [image_scores_of(np.stack(own)) for own in zip(*rows, strict=True)]
        return Matches(positions.image_ids[images], np.stack(scores, axis=1))


def image_scores_of(region_scores: np.ndarray) -> np.ndarray:
    """One image's score for each of many queries, as ``localise.image_scores`` gives it: (Q, R) to (Q,) float64."""
    count = min(region_scores.shape[1], len(BEST_WEIGHTS))
    best = np.sort(region_scores, axis=1)[:, : -count - 1 : -1].astype(np.float64)
    padded = np.pad(best, ((0, 0), (0, len(BEST_WEIGHTS) - count)), mode="edge")
    return padded @ (BEST_WEIGHTS / BEST_WEIGHTS.sum())
