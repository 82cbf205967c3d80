"""Key frames of a video file: one every so often, near-duplicates left out, each at a time that names it.

A video comes from anywhere, so containers that name other files or addresses are not opened, and no frame is decoded
beyond the limits for pictures. Times count from the first frame that can be decoded.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any

import av
import av.error
import cv2
import numpy as np

from edge_claid.errors import BadImageError
from edge_claid.frames.reading import ReadLimits, open_regular
from edge_claid.records import Frame

# Demuxers of files that hold their pictures themselves: no playlists, no concatenations, no image patterns.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,h264,hevc,m4v"
_FRAME = re.compile(r"(.+)#t=(\d+\.\d{3})", re.DOTALL)
# Two frames are near-duplicates where no cell of a coarse grid differs by more than this many of 255 grey levels after
# their means are made equal: noise and compression average out over a cell, a thing that comes or goes does not.
GRID, MOST_CHANGE = 32, 12.0
_LEAST_BYTES = 500  # of a file for each frame it is believed to hold


def key_frames(path: str, every: float, limits: ReadLimits | None = None) -> Iterator[tuple[float, Frame | None]]:
    """(seconds, frame) of the first frame at or after each multiple of ``every`` seconds.

    A frame that is nearly the one before it comes as None. Raises BadImageError where the video cannot be opened, and,
    after all that could be decoded, where some of it could not.
    """
    limits = limits or ReadLimits()
    due, last, seconds, before = 0.0, None, 0.0, None
    with _opened(path, limits) as (container, stream):
        damage: list[str] = []
        for seconds, decoded in _decoded(path, container, stream, damage):
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
        with _opened(path, ReadLimits()) as (container, stream):
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
        with _opened(path, limits) as (container, stream):
            start = _sought(path, container, stream, wanted) if seeking else None
            for seconds, decoded in _decoded(path, container, stream, [], start):
                if seconds > wanted - 0.0006:
                    if seconds < wanted + 0.0006:
                        return _frame(path, wanted, decoded, limits)
                    break
    raise BadImageError(f"{path}: no frame at {wanted:.3f} s")


def _sought(path: str, container: Any, stream: Any, wanted: float) -> float:
    """Time stamp of the first frame, the container left shortly before the wanted one."""
    start = next((_time(frame, 0, stream) for _, frame in _decoded(path, container, stream, [])), 0.0)
    with contextlib.suppress(av.error.FFmpegError, OSError):
        container.seek(int((start + max(0.0, wanted - 0.001)) / stream.time_base), stream=stream)
    return start


@contextlib.contextmanager
def _opened(path: str, limits: ReadLimits) -> Iterator[tuple[Any, Any]]:
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open_regular(path))
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        try:
            container = stack.enter_context(av.open(file, options=options))
            stream = next(iter(container.streams.video), None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise BadImageError(f"{path}: not a video that can be read ({_words(error)})") from error
        if stream is None:
            raise BadImageError(f"{path}: has no video stream")
        _require_size(path, stream.codec_context.width, stream.codec_context.height, limits)
        # Frames that no other frame needs are not decoded: there are enough others to choose from.
        stream.codec_context.skip_frame = "NONREF"
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(
    path: str, container: Any, stream: Any, damage: list[str], start: float | None = None
) -> Iterator[tuple[float, Any]]:
    """(seconds since the first, decoded frame); what cannot be decoded is noted in ``damage`` and passed over."""
    number = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else []
        except av.error.InvalidDataError as error:
            damage.append(_words(error))
            if len(damage) > 1000:
                return
            continue
        except av.error.FFmpegError as error:
            damage.append(_words(error))
            return
        except OSError as error:
            raise BadImageError(f"{path}: cannot be read ({_words(error)})") from error
        if packet is None:
            return
        for frame in frames:
            number += 1
            if getattr(frame, "is_corrupt", False):
                continue
            time = _time(frame, number - 1, stream)
            start = time if start is None else start
            yield max(0.0, time - start), frame


def _time(frame: Any, number: int, stream: Any) -> float:
    return float(frame.time) if frame.time is not None else number / float(stream.average_rate or Fraction(25))


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _frame(path: str, seconds: float, decoded: Any, limits: ReadLimits) -> Frame:
    _require_size(path, decoded.width, decoded.height, limits)
    pixels = decoded.to_ndarray(format="rgb24")
    # The display matrix turns counter-clockwise; older PyAV does not report it.
    turns = round(getattr(decoded, "rotation", 0) / 90) % 4
    return Frame(np.ascontiguousarray(np.rot90(pixels, turns)), f"{path}#t={seconds:.3f}")


def _require_size(path: str, width: int, height: int, limits: ReadLimits) -> None:
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise BadImageError(f"{path}: frames of {width}x{height} pixels are too large")
    if min(width, height) < limits.smallest:
        raise BadImageError(f"{path}: frames of {width}x{height} pixels are too small (at least {limits.smallest})")


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(GRID, GRID) float32 grey means of equal cells."""
    grey = cv2.cvtColor(cv2.resize(pixels, (GRID, GRID), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return grey.astype(np.float32)


def _nearly_equal(one: np.ndarray, other: np.ndarray) -> bool:
    difference = one - other
    return bool(np.abs(difference - difference.mean()).max() <= MOST_CHANGE)


def _words(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
