"""Opening and decoding of video files that come from anywhere.

Containers that name other files or addresses are not opened, nothing larger than the limits for pictures is decoded,
and damage is noted and passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any

import av
import av.error
import numpy as np

from edge_claid.capture import foreign_metadata
from edge_claid.errors import BadImageError
from edge_claid.frames.file_bytes import ReadLimits, open_regular

# Demuxers of files that hold their pictures themselves: no playlists, no concatenations, no image patterns.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,h264,hevc,m4v"
# Damaged packets after which the rest is left alone.
_MOST_DAMAGE = 1000


@contextlib.contextmanager
def opened_video(path: str, limits: ReadLimits, skip: str = "DEFAULT") -> Iterator[tuple[Any, Any]]:
    """(container, first video stream) of a file.

    skip: frames that are not decoded ("NONREF": those that no other frame needs). Raises BadImageError.
    """
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open_regular(path))
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        try:
            container = stack.enter_context(av.open(file, options=options, **foreign_metadata.options()))
            stream = next(iter(container.streams.video), None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise BadImageError(f"{path}: not a video that can be read ({words(error)})") from error
        if stream is None:
            raise BadImageError(f"{path}: has no video stream")
        context = stream.codec_context
        if context is None:
            raise BadImageError(f"{path}: its codec is not known here; convert it to H.264")
        if context.width and context.height:
            require_size(path, context.width, context.height, limits)
        context.options = {"max_pixels": str(limits.pixels)}
        context.skip_frame = skip
        stream.thread_type = "AUTO"
        yield container, stream


def decoded_frames(
    path: str, container: Any, stream: Any, damage: list[str], start: float | None = None
) -> Iterator[tuple[float, Any]]:
    """(seconds since the first, decoded frame); what cannot be decoded is noted in ``damage`` and passed over.

    start: time stamp of the first frame, where the container does not stand at it. Raises BadImageError where the file
    can no longer be read.
    """
    number = 0
    packets = container.demux(stream)
    while True:
        packet = None
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else []
        except av.error.InvalidDataError as error:
            damage.append(words(error))
            if len(damage) > _MOST_DAMAGE:
                return
            if packet is None:
                packets = container.demux(stream)
            continue
        except av.error.FFmpegError as error:
            damage.append(words(error))
            return
        except OSError as error:
            raise BadImageError(f"{path}: cannot be read ({words(error)})") from error
        if packet is None:
            return
        for frame in frames:
            number += 1
            if getattr(frame, "is_corrupt", False):
                continue
            time = _stamp(frame, number - 1, stream)
            start = time if start is None else start
            yield max(0.0, time - start), frame


def first_time(path: str, container: Any, stream: Any) -> float:
    """Time stamp of the first frame that can be decoded, in seconds."""
    return next((_stamp(frame, 0, stream) for _, frame in decoded_frames(path, container, stream, [])), 0.0)


def frame_rate(stream: Any) -> float:
    """Frames a second as the file states it, 25 where it does not."""
    return float(stream.average_rate or Fraction(25))


def upright_pixels(path: str, decoded: Any, limits: ReadLimits) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded frame. Raises BadImageError where its size is beyond the limits."""
    require_size(path, decoded.width, decoded.height, limits)
    pixels = decoded.to_ndarray(format="rgb24")
    # The display matrix turns counter-clockwise; older PyAV does not report it.
    turns = round(getattr(decoded, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def require_size(path: str, width: int, height: int, limits: ReadLimits) -> None:
    """Raises BadImageError where frames of this size are not read."""
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise BadImageError(f"{path}: frames of {width}x{height} pixels are too large")
    if min(width, height) < limits.smallest:
        raise BadImageError(f"{path}: frames of {width}x{height} pixels are too small (at least {limits.smallest})")


def words(error: BaseException) -> str:
    """An error of a library in a few words."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _stamp(frame: Any, number: int, stream: Any) -> float:
    return float(frame.time) if frame.time is not None else number / frame_rate(stream)
