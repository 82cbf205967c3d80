"""A clip for people to watch: never faster than it was taken, however fast the machine looks."""

from __future__ import annotations

import time
from dataclasses import replace

from edge_claid.frames.stream import Stream
from edge_claid.records import SourceEvent, TimedFrame


class PacedStream:
    """A stream whose frames come no sooner than their own time says; a live one is as it is.

    A machine that is slower than the clip shows it slower: no frame is left out, and none is hurried later.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream, self.live = stream, stream.live
        self._start: float | None = None
        self._early: TimedFrame | None = None

    @property
    def dropped(self) -> int:
        return self._stream.dropped

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        """See edge_claid.frames.Stream."""
        found = self._early or self._stream.read(timeout)
        if self.live or not isinstance(found, TimedFrame):
            return found
        now = time.monotonic()
        start = self._start if self._start is not None else now - found.time
        wait = start + found.time - now
        if wait < 0:
            start, wait = start - wait, 0.0
        self._start = start
        if timeout is not None and wait > timeout:
            self._early = found
            time.sleep(timeout)
            return None
        self._early = None
        time.sleep(wait)
        return replace(found, captured=time.monotonic())
