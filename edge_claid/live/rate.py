"""How many frames an hour are looked at, for thresholds that are asked for as a rate."""

from __future__ import annotations


class FrameRate:
    """Mean time between looks, over about the last hundred; steps of more than ten seconds are no rate."""

    START, SLOW, LONGEST = 5.0, 0.02, 10.0  # looks a second assumed at first; weight of a new step; seconds

    def __init__(self) -> None:
        self._step, self._moment = 1.0 / self.START, -1.0

    def per_hour(self, moment: float) -> float:
        """Take in a look at `moment`, seconds; frames an hour at the present rate."""
        step = moment - self._moment
        if self._moment >= 0 and 0 < step <= self.LONGEST:
            self._step += self.SLOW * (step - self._step)
        self._moment = max(moment, 0.0)
        return 3600.0 / max(self._step, 1e-3)
