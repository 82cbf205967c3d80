"""How far decoding lags behind a live source, and when to leave frames out so that the picture is of now again."""

from __future__ import annotations

# Seconds behind at which frames are left out, and at which all are decoded again.
_TOO_LATE, _IN_TIME = 1.0, 0.2
# The source's clock may run slower than ours by so much; a quartz is off by a tenth of that.
_DRIFT = 1e-3
# Leaving frames out empties any buffer within a moment. Who is late for longer, in seconds, only looks so: the
# source's clock was set.
_LONGEST = 3.0


class Lateness:
    """Fed with each packet's time stamp as it is read; says whether all but key frames are to be left out.

    A packet read as soon as it arrives stands at the least distance ever seen between our clock and its stamp; what
    comes more distant than that has waited in a buffer.
    """

    def __init__(self) -> None:
        self._least: float | None = None
        self._at = 0.0
        self._since = 0.0
        self.skipping = False

    def behind(self, stamp: float, now: float) -> float:
        """Seconds that a packet with this time stamp has waited at monotonic time now."""
        distance = now - stamp
        if self._least is None or (self.skipping and now - self._since > _LONGEST):
            self._least = distance
        self._least = min(distance, self._least + _DRIFT * (now - self._at if self._at else 0.0))
        self._at = now
        return distance - self._least

    def skip(self, stamp: float | None, now: float, key: bool) -> bool:
        """Whether only key frames are to be decoded from this packet on. Decoding begins again with a key frame."""
        if stamp is None:
            return self.skipping
        late = self.behind(stamp, now)
        if late > _TOO_LATE and not self.skipping:
            self.skipping, self._since = True, now
        elif self.skipping and key and late < _IN_TIME:
            self.skipping = False
        return self.skipping
