"""The annotated picture as a video file."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import Any

import av
import av.error
import cv2
import numpy as np

from edge_claid.errors import StorageError, UsageError
from edge_claid.live.answer import FrameAnswer, LiveEvent
from edge_claid.live.drawn import drawn

_TICKS = 1000  # time base of the file: milliseconds, since live frames come at uneven times
LONGEST_GAP = 10.0  # seconds without a frame that the file shows in full
_CODECS = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".avi": "mpeg4", ".webm": "libvpx-vp9"}


class VideoFileSink:
    """A sink that encodes every answered frame at the time it has in the source.

    path: the suffix chooses the kind; the file is made at the first frame. A frame of another size than the first is
    scaled into the first one's size. Raises UsageError for another suffix, StorageError where it cannot be written.
    """

    lossless = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        suffix = os.path.splitext(self._path)[1].lower()
        if suffix not in _CODECS:
            raise UsageError(f"--save {self._path}: a video is one of {', '.join(_CODECS)}")
        self._codec = _CODECS[suffix]
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._before, self._last = math.nan, -1
        self._check_place()

    def frame(self, answer: FrameAnswer) -> None:
        pixels = drawn(answer)
        try:
            if self._container is None:
                self._open(pixels)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(self._fitted(pixels)), format="rgb24")
            picture.pts, picture.time_base = self._tick(answer.time), Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as error:
            raise StorageError(f"--save {self._path} cannot be written ({error}); choose another place") from error

    def event(self, event: LiveEvent) -> None:
        """A video has no place for events."""

    def close(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode(None))
            container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise StorageError(f"--save {self._path} cannot be finished ({error}); its end is missing") from error

    def _open(self, pixels: np.ndarray) -> None:
        height, width = pixels.shape[:2]
        self._size = (max(2, width // 2 * 2), max(2, height // 2 * 2))
        self._container = av.open("file:" + os.path.abspath(self._path), "w")
        self._stream = self._container.add_stream(self._codec, rate=25)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._stream.time_base = Fraction(1, _TICKS)

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """The picture in the size of the file, its shape kept, on black."""
        width, height = self._size
        if pixels.shape[1] - width in (0, 1) and pixels.shape[0] - height in (0, 1):
            return pixels[:height, :width]
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        canvas = np.zeros((height, width, 3), np.uint8)
        x, y = (width - size[0]) // 2, (height - size[1]) // 2
        canvas[y : y + size[1], x : x + size[0]] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return canvas

    def _tick(self, time: float) -> int:
        """Time in the file, always later than the frame before it, whatever the source's clock does."""
        step = time - self._before
        self._before = time
        self._last += max(1, round(min(step, LONGEST_GAP) * _TICKS)) if math.isfinite(step) else 1
        return self._last

    def _check_place(self) -> None:
        """Find out before the first frame that the file cannot be made."""
        folder = os.path.dirname(os.path.abspath(self._path))
        if not os.path.isdir(folder):
            raise StorageError(f"--save {self._path}: there is no folder {folder}; make it first")
        if os.path.isdir(self._path) or not os.access(folder, os.W_OK):
            raise StorageError(f"--save {self._path} cannot be written; choose another place")
