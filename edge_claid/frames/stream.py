"""Frames one after another, with their times: what ``live`` and ``serve`` read, whatever the source is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

from edge_claid.errors import BadImageError
from edge_claid.frames.folder import PictureFiles
from edge_claid.frames.video import VideoFile
from edge_claid.records import Frame, SourceEvent, TimedFrame


class Stream(Protocol):
    """A source that is read frame by frame, in a ``with`` block.

    live: only the newest frame counts; older ones are dropped. Otherwise every frame is given.
    dropped: frames dropped so far. shown: the source as it may be printed, without credentials.
    """

    live: bool
    shown: str

    @property
    def dropped(self) -> int: ...

    def __enter__(self) -> Stream: ...

    def __exit__(self, *_: object) -> None: ...

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        """The next frame or event; None where none came within timeout (seconds; None: wait for one).

        After "ended" every call gives "ended". Raises SourceLostError where a live source is given up.
        """


class FileStream:
    """Every frame of a video file, or every picture of a file, folder or glob, in order. Never waits."""

    live = False
    dropped = 0

    def __init__(self, source: PictureFiles | VideoFile):
        self.shown = source.uri
        self._source = source
        self._frames: Iterator[tuple[float, Frame]] | None = None
        self._number = 0

    def __enter__(self) -> FileStream:
        """Raises BadImageError where a video cannot be opened."""
        self._source.__enter__()
        self._frames = self._timed()
        return self

    def __exit__(self, *_: object) -> None:
        self._frames = None
        self._source.__exit__()

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent:
        """See Stream. Raises BadImageError where the source holds not one frame that can be decoded."""
        step = next(self._frames, None) if self._frames is not None else None
        if step is None:
            if self._frames is not None and self._number == 0:
                raise BadImageError(f"{self.shown}: holds no picture that can be read")
            return SourceEvent("ended", time.time())
        number, self._number = self._number, self._number + 1
        return TimedFrame(step[1], number, step[0], time.monotonic())

    def _timed(self) -> Iterator[tuple[float, Frame]]:
        if isinstance(self._source, VideoFile):
            yield from self._source.timed()
        else:
            yield from ((float(i), frame) for i, frame in enumerate(self._source))
