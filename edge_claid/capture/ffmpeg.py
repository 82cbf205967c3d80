"""RTSP streams and V4L2 cameras by PyAV, which brings its own FFmpeg."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import av
import av.error
import numpy as np

from edge_claid.capture import foreign_metadata
from edge_claid.capture.grabber import CaptureError
from edge_claid.capture.lateness import Lateness
from edge_claid.capture.wire import FailureKind

# A core of a small board decodes frames up to this size, 1080p and a little, at the rate cameras send them.
_ONE_THREAD_PIXELS = 2_200_000
# Only the network: a hostile server's redirections and descriptions cannot name files of this machine.
_PROTOCOLS = "rtsp,rtsps,rtp,rtcp,udp,tcp,tls,srtp,srtcp,crypto,http,https,httpproxy"


class FFmpegGrabber:
    """Decoded frames of one video stream; damaged packets and frames are passed over.

    settings: format (an FFmpeg input format), place (URL or device), options (of that format), open_seconds and
    read_seconds (how long one call may block), most_pixels (largest width * height).
    """

    def __init__(self, settings: dict[str, Any]):
        self._settings = settings
        self._container: av.container.InputContainer | None = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._lateness = Lateness()

    def open(self) -> None:
        settings = self._settings
        options = dict(settings["options"])
        if settings["format"] == "rtsp":
            options |= {"protocol_whitelist": _PROTOCOLS}
        try:
            self._container = av.open(
                settings["place"],
                format=settings["format"],
                options=options,
                timeout=(settings["open_seconds"], settings["read_seconds"]),
                **foreign_metadata.options(),
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise CaptureError(*self._reason(error, settings["open_seconds"])) from error
        context = self._container.streams.video[0].codec_context if self._container.streams.video else None
        if context is None:
            raise CaptureError("has no video stream, or one in a codec that is not known here")
        # Threads that each hold a frame of their own add as many frames of delay: only where one might be too slow.
        large = context.width * context.height > _ONE_THREAD_PIXELS
        context.thread_type = "AUTO" if large else "SLICE"
        context.thread_count = min(4, os.cpu_count() or 1) if large else 1
        context.options = {"flags": "low_delay", "max_pixels": str(settings["most_pixels"])}
        self._frames = self._decoded()

    def grab(self) -> av.VideoFrame | None:
        return next(self._frames)

    def rgb(self, picture: av.VideoFrame) -> np.ndarray:
        pixels = picture.to_ndarray(format="rgb24")
        turns = round(getattr(picture, "rotation", 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns))

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        assert self._container is not None
        stream = self._container.streams.video[0]
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.InvalidDataError:
                # A damaged packet; a stream of nothing else is ended by the watchdog of the other process.
                packets = self._container.demux(stream)
                continue
            except (av.error.FFmpegError, OSError) as error:
                raise CaptureError(*self._reason(error, self._settings["read_seconds"])) from error
            if packet is None or packet.size == 0:
                raise CaptureError("the stream was closed by the other side")
            stamp = float(packet.pts * packet.time_base) if packet.pts is not None and packet.time_base else None
            skip = self._lateness.skip(stamp, time.monotonic(), packet.is_keyframe)
            stream.codec_context.skip_frame = "NONKEY" if skip else "DEFAULT"
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            except (av.error.FFmpegError, OSError, MemoryError) as error:
                raise CaptureError(*self._reason(error, self._settings["read_seconds"])) from error
            yield from (frame for frame in frames if not frame.is_corrupt)

    def _reason(self, error: Exception, seconds: float) -> tuple[str, FailureKind]:
        if isinstance(error, av.error.ExitError):
            return f"no answer for {seconds:g} s", "lost"
        if isinstance(error, getattr(av.error, "HTTPUnauthorizedError", ())):
            return "user name or password refused (401)", "lost"
        number = getattr(error, "errno", None)
        if self._settings["format"] != "rtsp":
            return _device_reason(self._settings["place"], number, error), "lost"
        if number == errno.EIO and (host := _unknown_host(self._settings["place"])):
            return f"no address is known of host {host}", "lost"
        # Never the error's own text: it repeats the URL with the password in it.
        text = getattr(error, "strerror", None) or (os.strerror(number) if number else type(error).__name__)
        return text.lower(), "lost"


def _unknown_host(place: str) -> str:
    """The address' host where no name server knows it, which FFmpeg calls an input/output error; else nothing."""
    try:
        host = urlsplit(place).hostname or ""
        socket.getaddrinfo(host, None)
    except (ValueError, UnicodeError):
        return ""
    except OSError:
        return host
    return ""


def _device_reason(device: str, number: int | None, error: Exception) -> str:
    if number in (errno.ENOENT, errno.ENXIO):
        return "no such camera (`edge-claid sources` lists those there are)"
    if number == errno.EBUSY:
        return "the camera is in use by another program"
    if number in (errno.EACCES, errno.EPERM):
        return f"no permission to open {device} (add the user to the group video)"
    if number == errno.ENODEV:
        return "the camera is gone (unplugged?)"
    if number in (errno.ENOTTY, errno.EINVAL):
        return "no camera, or not one that gives this size, rate or format (`edge-claid sources` lists them)"
    return (getattr(error, "strerror", None) or str(error)).lower()
