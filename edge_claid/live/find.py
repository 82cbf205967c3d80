"""Find: where are the given objects in the frame, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.codes.projection import normalised
from edge_claid.config import LiveSettings
from edge_claid.gallery.calibration import Calibration
from edge_claid.live.answer import Box, Sighting
from edge_claid.live.holdings import Holdings
from edge_claid.live.look import Look
from edge_claid.live.placing import Named, sightings_from_scores
from edge_claid.live.threshold import Threshold


@dataclass(frozen=True)
class Target:
    """One object that is sought.

    name: what to call it, not twice among targets. picture: file it was shown in, or None. descriptors: (V, D) of the
    object: the picture itself first, then augmented views.
    """

    name: str
    picture: str | None
    descriptors: np.ndarray


class Finder:
    """Looks for targets by float descriptors in the gallery's projection.

    curves: of each target, learned from the gallery (see ``edge_claid.live.targets``).
    """

    def __init__(
        self, targets: Sequence[Target], curves: Sequence[Calibration], settings: LiveSettings, threshold: Threshold
    ) -> None:
        self.targets, self._curves = tuple(targets), tuple(curves)
        self._settings, self._threshold = settings, threshold

    def sightings(
        self, look: Look, holdings: Holdings, expected: Sequence[tuple[str, Box]], frames_per_hour: float
    ) -> list[Sighting]:
        """Where the targets are held to be, best first."""
        values = holdings.project(look.descriptors)
        queries = holdings.project(np.stack([target.descriptors[0] for target in self.targets]))
        scores = (values @ queries.T).astype(np.float64)
        match = [
            curve.match(own) if curve.measured else np.full(len(own), np.nan)
            for curve, own in zip(self._curves, scores.T, strict=True)
        ]
        named = Named(
            [target.name for target in self.targets],
            scores,
            np.stack(match, axis=1),
            against_frame(values, queries),
            np.array([self._threshold.least(curve, frames_per_hour) for curve in self._curves]),
            np.array([self._threshold.least_expected(curve, frames_per_hour) for curve in self._curves]),
            lambda _, column: self.targets[column].name,
            lambda _, column: self.targets[column].picture,
            values,
        )
        return sightings_from_scores(look.regions, named, expected, self._settings)


def against_frame(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Cosines after the frame's mean is taken off: what a region shares with its whole surroundings tells nothing.

    values: (R, d), queries: (Q, d), unit rows. (R, Q) float64.
    """
    mean = values.mean(axis=0)
    return (normalised(values - mean) @ normalised(queries - mean).T).astype(np.float64)
