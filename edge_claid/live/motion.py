"""Where a track's box is: smoothed over looks and carried on at its own speed between them."""

from __future__ import annotations

import numpy as np

from edge_claid.live.answer import Box

LONGEST_STEP = 1.0  # seconds of movement carried on at most; beyond that a speed says nothing


class SmoothBox:
    """Alpha-beta filter on centre and log size (Kalata, The tracking index, IEEE TAES 20, 1984).

    box: of the first look, pixels. The centre follows looks closely and has a speed; the size changes slowly, because
    regions of one thing differ from look to look more in extent than in place.
    """

    ALPHA, BETA, SIZE_ALPHA = 0.75, 0.3, 0.4

    def __init__(self, box: Box, moment: float) -> None:
        self._state = _centre_and_size(box)
        self._speed = np.zeros(2)  # pixels a second
        self._moment = moment

    def predicted(self, moment: float) -> Box:
        """The box at a moment not before the last look."""
        state = self._state.copy()
        state[:2] += self._speed * self._step(moment)
        return _box(state)

    def correct(self, box: Box, moment: float) -> None:
        """Take in a look at `moment`, seconds."""
        seen = _centre_and_size(box)
        step = self._step(moment)
        ahead = self._state[:2] + self._speed * step
        miss = seen[:2] - ahead
        self._state[:2] = ahead + self.ALPHA * miss
        self._state[2:] += self.SIZE_ALPHA * (seen[2:] - self._state[2:])
        if step > 0:
            self._speed += self.BETA * miss / step
        self._moment = max(moment, self._moment)

    def stop(self) -> None:
        """Forget the speed: after looks that missed the thing it says nothing."""
        self._speed[:] = 0.0

    def _step(self, moment: float) -> float:
        return float(np.clip(moment - self._moment, 0.0, LONGEST_STEP))


def _centre_and_size(box: Box) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, np.log(max(x1 - x0, 1.0)), np.log(max(y1 - y0, 1.0))])


def _box(state: np.ndarray) -> Box:
    x, y = state[:2].tolist()
    width, height = np.exp(state[2:]).tolist()
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
