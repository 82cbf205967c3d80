"""Frames of a video file by PyAV, upright, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator

import av
import av.error
import numpy as np

from edge_claid.errors import BadImageError
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


class VideoFile:
    """The first video stream of a file; each pass over it starts at its beginning.

    Frames are named ``file#seconds``. Use in a ``with`` block, which closes the file.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._container: av.container.InputContainer | None = None

    def __enter__(self) -> VideoFile:
        # A path is passed as "file:" so that a name with a colon is never taken for a network protocol.
        try:
            self._container = av.open("file:" + os.path.abspath(self.uri))
        except (av.error.FFmpegError, OSError, UnicodeError) as error:
            raise BadImageError(f"{self.uri}: not a video that can be read ({error})") from error
        if not self._container.streams.video:
            self._container.close()
            raise BadImageError(f"{self.uri}: has no video stream")
        self._container.streams.video[0].thread_type = "AUTO"
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def __iter__(self) -> Iterator[Frame]:
        """Decoded frames; a damaged end ends the iteration. Raises BadImageError where not one frame can be read."""
        for _, frame in self.timed():
            yield frame

    def timed(self) -> Iterator[tuple[float, Frame]]:
        """Decoded frames, each after its time in seconds."""
        container = self._container
        assert container is not None, "open the video in a with block"
        stream = container.streams.video[0]
        container.seek(0)
        count = 0
        try:
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24")
                # The display matrix turns counter-clockwise; older PyAV does not report it.
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                seconds = frame.time or 0.0
                yield seconds, Frame(np.ascontiguousarray(np.rot90(pixels, turns)), f"{self.uri}#{seconds:.3f}")
                count += 1
        except av.error.FFmpegError as error:
            if count == 0:
                raise BadImageError(f"{self.uri}: no frame can be decoded ({error})") from error
