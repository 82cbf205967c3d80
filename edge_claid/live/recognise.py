"""Recognise: every region of a frame is looked up in the gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_claid.config import LiveSettings
from edge_claid.gallery.region_lookup import look_up
from edge_claid.live.answer import Box, Sighting
from edge_claid.live.holdings import Holdings
from edge_claid.live.look import Look
from edge_claid.live.placing import Named, sightings_from_scores, unknown_sightings
from edge_claid.live.threshold import Threshold


class Recogniser:
    """Names regions by the gallery's items; an item is all images of one label, or one image without a label."""

    def __init__(self, settings: LiveSettings, threshold: Threshold) -> None:
        self._settings, self._threshold = settings, threshold

    def sightings(
        self, look: Look, holdings: Holdings, expected: Sequence[tuple[str, Box]], frames_per_hour: float
    ) -> list[Sighting]:
        """What the regions are held to be, best first, then regions that nothing names."""
        values = holdings.project(look.descriptors)
        named = self._named(look, holdings, {item for item, _ in expected}, values, frames_per_hour)
        found = [] if named is None else sightings_from_scores(look.regions, named, expected, self._settings)
        return found + unknown_sightings(look.regions, values, found, self._settings.most_unknown)

    def _named(
        self, look: Look, holdings: Holdings, expected: set[str], values: np.ndarray, frames_per_hour: float
    ) -> Named | None:
        also = holdings.images_of(expected)
        matches = look_up(holdings.search, look.descriptors, self._settings.nearest, also=also, only=holdings.namable)
        # An image enrolled this very moment may not have been taken up yet.
        known = np.array([int(image) in holdings.items for image in matches.image_ids], bool)
        images, scores = matches.image_ids[known], matches.scores[:, known]
        if not len(images):
            return None
        details = [holdings.items[int(image)] for image in images]
        items = sorted({detail.key for detail in details})
        columns = np.array([items.index(detail.key) for detail in details])
        best = np.empty((len(scores), len(items)), np.int64)
        for column in range(len(items)):
            own = np.flatnonzero(columns == column)
            best[:, column] = own[scores[:, own].argmax(axis=1)]
        item_scores = np.take_along_axis(scores, best, axis=1)
        curve = holdings.calibration
        return Named(
            items,
            item_scores,
            curve.match(item_scores) if curve.measured else np.full(item_scores.shape, np.nan),
            item_scores,
            np.full(len(items), self._threshold.least(curve, frames_per_hour)),
            np.full(len(items), self._threshold.least_expected(curve, frames_per_hour)),
            lambda row, column: details[best[row, column]].label,
            lambda row, column: details[best[row, column]].path,
            values,
        )
