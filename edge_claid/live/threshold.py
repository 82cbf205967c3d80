"""From what a user asks for (a probability, or a rate of false alarms) to the standings that name a thing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_claid.config import LiveSettings
from edge_claid.gallery.lookup.calibration import Calibration


@dataclass(frozen=True)
class Threshold:
    """match: least probability of a true match. false_alarms_per_hour: rate that sets the standing instead, or None.

    expected_odds: see LiveSettings.
    """

    match: float
    expected_odds: float
    false_alarms_per_hour: float | None = None

    @classmethod
    def of(cls, settings: LiveSettings, false_alarms_per_hour: float | None = None) -> Threshold:
        return cls(settings.match, settings.expected_odds, false_alarms_per_hour)

    def least(self, calibration: Calibration, frames_per_hour: float) -> float:
        """Standing from which a look names an item."""
        if self.false_alarms_per_hour is None:
            return calibration.score_at(self.match)
        return calibration.score_for_rate(self.false_alarms_per_hour, frames_per_hour)

    def least_expected(self, calibration: Calibration, frames_per_hour: float) -> float:
        """The same where a track of that name should be."""
        return self.least(calibration, frames_per_hour) - math.log(self.expected_odds) / calibration.slope

    def least_again(self, calibration: Calibration, frames_per_hour: float) -> float:
        """The same where another thing of that name is seen, or should be."""
        return self.least(calibration, frames_per_hour) + math.log(self.expected_odds) / calibration.slope
