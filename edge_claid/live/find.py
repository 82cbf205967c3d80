"""Find: where are the given objects in the frame, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.codes.projection import normalised
from edge_claid.config import LiveSettings
from edge_claid.gallery.lookup.naming import COHORT, SKIPPED, SPARE, standing
from edge_claid.gallery.lookup.region_lookup import Nearest, looking
from edge_claid.live.answer import Box, Sighting
from edge_claid.live.holdings import Holdings
from edge_claid.live.look import Look
from edge_claid.live.placing import Named, sightings_from_scores
from edge_claid.live.threshold import Threshold

# A gallery of fewer pictures is no cohort. What takes its place: score and spread of cosines without the frame's mean.
LEAST_COHORT = 20
ALONE_SCORE, ALONE_SPREAD = 0.1, 0.03


@dataclass(frozen=True)
class Target:
    """One object that is sought.

    name: what to call it, not twice among targets. picture: file it was shown in, or None. descriptor: (D,) float32.
    """

    name: str
    picture: str | None
    descriptor: np.ndarray


class Finder:
    """Looks for targets by float descriptors in the gallery's projection; the gallery's pictures are the cohort."""

    def __init__(self, targets: Sequence[Target], settings: LiveSettings, threshold: Threshold) -> None:
        self.targets = tuple(targets)
        self._settings, self._threshold = settings, threshold
        self._judged: tuple[Holdings, list[list[int]]] | None = None

    def sightings(
        self, look: Look, holdings: Holdings, expected: Sequence[tuple[str, Box]], frames_per_hour: float
    ) -> list[Sighting]:
        """Where the targets are held to be, best first."""
        values = holdings.project(look.descriptors)
        queries = holdings.project(np.stack([target.descriptor for target in self.targets]))
        scores = (values @ queries.T).astype(np.float64)
        rank, curve = against_frame(values, queries), holdings.calibration
        standings = self._standings(look, holdings, scores, rank, self._threshold.least(curve, frames_per_hour))
        count = len(self.targets)
        named = Named(
            [target.name for target in self.targets],
            scores,
            standings,
            curve.match(standings) if curve.measured else np.full(scores.shape, np.nan),
            rank,
            np.full(count, self._threshold.least(curve, frames_per_hour)),
            np.full(count, self._threshold.least_expected(curve, frames_per_hour)),
            np.full(count, self._threshold.least_again(curve, frames_per_hour)),
            lambda _, column: self.targets[column].name,
            lambda _, column: self.targets[column].picture,
            values,
        )
        return sightings_from_scores(look.regions, named, expected, self._settings)

    def _standings(
        self, look: Look, holdings: Holdings, scores: np.ndarray, rank: np.ndarray, least: float
    ) -> np.ndarray:
        """Standing of every region for every target, (R, T)."""
        if self._judged is None or self._judged[0] is not holdings:
            self._judged = holdings, [_showing(target, holdings, least) for target in self.targets]
        with looking(holdings.search, look.descriptors) as looked:
            if looked is None:
                return (rank - ALONE_SCORE) / ALONE_SPREAD
            cohort = looked.nearest(COHORT + SKIPPED + SPARE)
        if cohort.image_ids.shape[1] < LEAST_COHORT:
            return (rank - ALONE_SCORE) / ALONE_SPREAD
        own = self._judged[1]
        return np.stack([standing(scores[:, i], cohort, own[i]) for i in range(len(own))], axis=1)


def _showing(target: Target, holdings: Holdings, least: float) -> list[int]:
    """Ids of gallery images that seem to show the target itself, and so cannot stand for what it is not."""
    with looking(holdings.search, target.descriptor[None]) as looked:
        if looked is None:
            return []
        near = looked.nearest(COHORT + SKIPPED + SPARE)
    each = Nearest(*(np.repeat(part, near.image_ids.shape[1], axis=0) for part in (near.image_ids, near.scores)))
    standings = standing(near.scores[0], each, ())
    return near.image_ids[0, standings >= least].tolist()


def against_frame(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Cosines after the frame's mean is taken off: what a region shares with its whole surroundings tells nothing.

    values: (R, d), queries: (Q, d), unit rows. (R, Q) float64.
    """
    mean = values.mean(axis=0)
    return (normalised(values - mean) @ normalised(queries - mean).T).astype(np.float64)
