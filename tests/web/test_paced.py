"""A clip is not played faster than it was taken."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from edge_claid.records import Frame, SourceEvent, TimedFrame
from edge_claid.web.paced import PacedStream


class Clip:
    """Frames at once, each with its time in the clip."""

    dropped, shown = 0, "clip"

    def __init__(self, times: list[float], live: bool = False) -> None:
        self.live = live
        self._frames = self._made(times)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _made(self, times: list[float]) -> Iterator[TimedFrame]:
        for number, moment in enumerate(times):
            yield TimedFrame(Frame(np.zeros((2, 2, 3), np.uint8)), number, moment, 0.0)

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent:
        return next(self._frames, None) or SourceEvent("ended", 0.0)


def played(stream: PacedStream, timeout: float | None) -> tuple[list[TimedFrame], int]:
    frames, nothing = [], 0
    while not isinstance(found := stream.read(timeout), SourceEvent):
        frames += [found] if found is not None else []
        nothing += found is None
    return frames, nothing


def test_frames_come_no_sooner_than_their_time() -> None:
    start = time.monotonic()
    frames, nothing = played(PacedStream(Clip([0.0, 0.2, 0.5])), 0.1)
    assert [frame.number for frame in frames] == [0, 1, 2]
    # Each frame is told to be taken when it is given: a clip's own latency is not counted.
    assert frames[2].captured - frames[0].captured >= 0.45
    assert time.monotonic() - start >= 0.5
    assert nothing >= 1


def test_after_a_pause_nothing_is_hurried() -> None:
    stream = PacedStream(Clip([0.0, 0.05, 0.25]))
    first = stream.read()
    time.sleep(0.3)
    second, third = stream.read(), stream.read()
    assert isinstance(first, TimedFrame)
    assert isinstance(second, TimedFrame)
    assert isinstance(third, TimedFrame)
    assert third.captured - second.captured >= 0.19


def test_a_live_source_is_as_it_is() -> None:
    frames, _ = played(PacedStream(Clip([0.0, 1000.0], live=True)), 0.1)
    assert [frame.captured for frame in frames] == [0.0, 0.0]
