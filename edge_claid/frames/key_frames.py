"""Key frames of a video file: one every so often, near-duplicates left out, each at a time that names it.

Times count from the first frame that can be decoded.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import av
import av.error
import cv2
import numpy as np

from edge_claid.errors import BadImageError
from edge_claid.frames.decoding import decoded_frames, first_time, opened_video, upright_pixels
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.records import Frame

_FRAME = re.compile(r"(.+)#t=(\d+\.\d{3})", re.DOTALL)
# Two frames are near-duplicates where no cell of a coarse grid differs by more than this many of 255 grey levels after
# their means are made equal: noise and compression average out over a cell, a thing that comes or goes does not.
GRID, MOST_CHANGE = 32, 12.0
# Frames that no other frame needs are not decoded: there are enough others to choose from.
_SKIP = "NONREF"
_LEAST_BYTES = 500  # of a file for each frame it is believed to hold


def key_frames(path: str, every: float, limits: ReadLimits | None = None) -> Iterator[tuple[float, Frame | None]]:
    """(seconds, frame) of the first frame at or after each multiple of ``every`` seconds.

    A frame that is nearly the one before it comes as None. Raises BadImageError where the video cannot be opened, and,
    after all that could be decoded, where some of it could not.
    """
    limits = limits or ReadLimits()
    due, last, seconds, before = 0.0, None, 0.0, None
    with opened_video(path, limits, _SKIP) as (container, stream):
        damage: list[str] = []
        for seconds, decoded in decoded_frames(path, container, stream, damage):
            if seconds < due - 1e-6:
                continue
            due = (int(seconds / every + 1e-6) + 1) * every
            last = _frame(path, seconds, decoded, limits)
            thumbnail = _thumbnail(last.pixels)
            if before is not None and _nearly_equal(before, thumbnail):
                yield seconds, None
                continue
            before = thumbnail
            yield seconds, last
        length = _duration(container, stream)
    if last is None:
        raise BadImageError(f"{path}: no frame can be decoded" + (f" ({damage[0]})" if damage else ""))
    if length is not None and seconds + max(1.0, every) < 0.9 * length:
        damage.append(f"it ends at {seconds:.1f} s of {length:.1f} s")
    if damage:
        more = f" and {len(damage) - 1} more times" if len(damage) > 1 else ""
        raise BadImageError(f"{path}: damaged ({damage[0]}{more}); what could be decoded is kept")


def expected_frames(path: str, every: float) -> int:
    """At most so many key frames, by the length that the file states; 0 where it cannot be opened."""
    try:
        with opened_video(path, ReadLimits(), _SKIP) as (container, stream):
            length = _duration(container, stream) or 0.0
            return min(int(length / every) + 1, os.path.getsize(path) // _LEAST_BYTES + 1)
    except (BadImageError, OSError):
        return 0


def split_frame_path(path: str) -> tuple[str, float] | None:
    """(video file, seconds) of ``clip.mp4#t=12.000``, or None for any other path."""
    match = _FRAME.fullmatch(path)
    return (match[1], float(match[2])) if match is not None and not os.path.lexists(path) else None


def read_frame(path: str, wanted: float, limits: ReadLimits | None = None) -> Frame:
    """The frame of a video at a time that ``key_frames`` gave. Raises BadImageError."""
    limits = limits or ReadLimits()
    # A seek may land behind the frame, or nowhere: then the video is decoded from its beginning.
    for seeking in (True, False):
        with opened_video(path, limits, _SKIP) as (container, stream):
            start = _sought(path, container, stream, wanted) if seeking else None
            for seconds, decoded in decoded_frames(path, container, stream, [], start):
                if seconds > wanted - 0.0006:
                    if seconds < wanted + 0.0006:
                        return _frame(path, wanted, decoded, limits)
                    break
    raise BadImageError(f"{path}: no frame at {wanted:.3f} s")


def _sought(path: str, container: Any, stream: Any, wanted: float) -> float:
    """Time stamp of the first frame, the container left shortly before the wanted one."""
    start = first_time(path, container, stream)
    with contextlib.suppress(av.error.FFmpegError, OSError):
        container.seek(int((start + max(0.0, wanted - 0.001)) / stream.time_base), stream=stream)
    return start


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _frame(path: str, seconds: float, decoded: Any, limits: ReadLimits) -> Frame:
    return Frame(upright_pixels(path, decoded, limits), f"{path}#t={seconds:.3f}")


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(GRID, GRID) float32 grey means of equal cells."""
    grey = cv2.cvtColor(cv2.resize(pixels, (GRID, GRID), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return grey.astype(np.float32)


def _nearly_equal(one: np.ndarray, other: np.ndarray) -> bool:
    difference = one - other
    return bool(np.abs(difference - difference.mean()).max() <= MOST_CHANGE)
