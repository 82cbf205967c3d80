"""Recognise: every region of a frame is looked up in the gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_claid.config import LiveSettings
from edge_claid.gallery.lookup.naming import item_scores
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
        found = item_scores(holdings.search, look.descriptors, holdings.namable, self._settings.nearest, also=expected)
        if found is None:
            return None
        curve = holdings.calibration
        return Named(
            found.items,
            found.scores,
            found.standings,
            curve.match(found.standings) if curve.measured else np.full(found.scores.shape, np.nan),
            found.scores,
            np.full(len(found.items), self._threshold.least(curve, frames_per_hour)),
            np.full(len(found.items), self._threshold.least_expected(curve, frames_per_hour)),
            np.full(len(found.items), self._threshold.least_again(curve, frames_per_hour)),
            lambda row, column: holdings.items[int(found.images[row, column])].label,
            lambda row, column: holdings.items[int(found.images[row, column])].path,
            values,
        )
