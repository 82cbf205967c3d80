"""Made-up looks, sources and sinks for the live look-up: plain arithmetic, no network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np

from edge_claid.live.answer import FrameAnswer, LiveEvent, Sighting
from edge_claid.live.look import Look
from edge_claid.records import Frame, Regions, SourceEvent, TimedFrame

WIDTH = 8  # of made-up projected descriptors
SIZE = (320, 240)


def unit(direction: int) -> np.ndarray:
    return np.eye(WIDTH, dtype=np.float32)[direction]


def sighting(box: Sequence[float], item: str | None = "cup", score: float = 0.8, direction: int = 0) -> Sighting:
    x0, y0, x1, y1 = map(float, box)
    named = (item, f"{item}.jpg") if item else (None, None)
    return Sighting((x0, y0, x1, y1), item, *named, score, score, unit(direction))


def regions_of(boxes: Sequence[Sequence[float]], size: tuple[int, int] = SIZE) -> Regions:
    """A flat tree: the first box is the root."""
    count = len(boxes)
    parents = np.array([-1] + [0] * (count - 1), np.int32)
    ones = np.ones(count, np.int32)
    shares = np.full(count, 0.5, np.float32)
    masks = np.full((count, 1), 255, np.uint8)
    corners = np.array(boxes, np.float32)
    return Regions(corners, parents, (parents + 1).astype(np.int32), ones, shares, shares, masks, (2, 4), size)


class ScriptedSource:
    """Gives what a list says; a number stands for a frame of that time. Live sources count what they drop."""

    def __init__(self, steps: Sequence[float | SourceEvent | Exception], live: bool = False) -> None:
        self.live, self.dropped = live, 0
        self._steps = list(steps)
        self.given = 0

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        if not self._steps:
            return SourceEvent("ended", 0.0)
        step = self._steps.pop(0)
        if isinstance(step, SourceEvent):
            return step
        if isinstance(step, Exception):
            raise step
        number, self.given = self.given, self.given + 1
        frame = Frame(np.full((SIZE[1], SIZE[0], 3), number % 256, np.uint8), str(number))
        return TimedFrame(frame, number, step, time.monotonic())


class EndlessCamera:
    """A live source whose newest frame is made when it is asked for; all between are dropped."""

    live = True

    def __init__(self, rate: float = 200.0) -> None:
        self._start, self._rate, self.given, self.newest = time.monotonic(), rate, 0, 0

    @property
    def dropped(self) -> int:
        return self.newest - self.given

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        time.sleep(1 / self._rate)
        self.newest = max(self.newest + 1, int((time.monotonic() - self._start) * self._rate))
        self.given += 1
        frame = Frame(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        return TimedFrame(frame, self.newest - 1, time.time(), time.monotonic())


class MadeUpLooker:
    """One region, after `work`; counts how many are at work at once."""

    def __init__(self, work: Callable[[Frame], None] = lambda frame: None) -> None:
        self._work, self._lock = work, threading.Lock()
        self.busy, self.most_busy = 0, 0

    def look(self, frame: Frame) -> Look:
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            self._work(frame)
            return Look(regions_of([(0, 0, *SIZE)]), unit(0)[None], {"vit": 0.001})
        finally:
            with self._lock:
                self.busy -= 1


class StillNamer:
    """Names the same box in every frame."""

    def __init__(self, item: str = "cup") -> None:
        self._item = item

    def sightings(self, look, holdings, expected, frames_per_hour):
        return [sighting((10, 10, 60, 60), self._item)]


class QuietGallery:
    """A gallery that says what it is told to when it is polled."""

    holdings = SimpleNamespace(projection=None)

    def __init__(self, events: Sequence[LiveEvent] = ()) -> None:
        self._events = list(events)

    def poll(self) -> LiveEvent | None:
        return self._events.pop(0) if self._events else None


class Kept:
    """A sink that keeps everything."""

    def __init__(self, lossless: bool = True, work: Callable[[], None] = lambda: None) -> None:
        self.lossless, self._work = lossless, work
        self.answers: list[FrameAnswer] = []
        self.events: list[LiveEvent] = []
        self.closed = 0

    def frame(self, answer: FrameAnswer) -> None:
        self._work()
        self.answers.append(answer)

    def event(self, event: LiveEvent) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1
