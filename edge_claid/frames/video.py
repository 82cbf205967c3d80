"""Frames of a video file by PyAV, upright, in order."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from edge_claid.errors import BadImageError
from edge_claid.frames.decoding import decoded_frames, frame_rate, opened_video, upright_pixels
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.records import Frame

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".mts",
        ".3gp",
        ".wmv",
        ".flv",
        ".ogv",
    ]
)

log = logging.getLogger(__name__)


class VideoFile:
    """The first video stream of a file; each pass over it starts at its beginning.

    Frames are named ``file#seconds``. Use in a ``with`` block, which closes the file.
    """

    def __init__(self, uri: str, limits: ReadLimits | None = None):
        self.uri = uri
        self._limits = limits or ReadLimits()
        self._open = contextlib.ExitStack()
        self._video: tuple[Any, Any] | None = None
        self._at_start = False

    def __enter__(self) -> VideoFile:
        """Raises BadImageError where it cannot be opened."""
        self._video = self._open.enter_context(opened_video(os.path.abspath(self.uri), self._limits))
        self._at_start = True
        return self

    def __exit__(self, *_: object) -> None:
        self._video = None
        self._open.close()

    def __iter__(self) -> Iterator[Frame]:
        """Decoded frames; what is damaged is left out. Raises BadImageError where not one frame can be read."""
        for _, frame in self.timed():
            yield frame

    def timed(self) -> Iterator[tuple[float, Frame]]:
        """Decoded frames, each after its time in seconds, which never goes back."""
        assert self._video is not None, "open the video in a with block"
        if not self._at_start:
            # Opened anew: to seek in a damaged file, or one without an index, may lead nowhere.
            self._open.close()
            self.__enter__()
        self._at_start = False
        container, stream = self._video
        damage: list[str] = []
        seconds, shift = -1.0, 0.0
        for stamp, decoded in decoded_frames(self.uri, container, stream, damage):
            if stamp + shift < seconds:
                # A clip put together from several, or a recorder whose clock was set.
                shift = seconds + 1.0 / frame_rate(stream) - stamp
            seconds = stamp + shift
            yield seconds, Frame(upright_pixels(self.uri, decoded, self._limits), f"{self.uri}#{seconds:.3f}")
        if seconds < 0:
            raise BadImageError(f"{self.uri}: no frame can be decoded" + (f" ({damage[0]})" if damage else ""))
        if damage:
            times = "once" if len(damage) == 1 else f"{len(damage)} times"
            log.warning("%s: damaged %s (%s); what could not be read was left out", self.uri, times, damage[0])
