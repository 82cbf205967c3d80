"""Cameras of this machine: V4L2 devices asked by the kernel's own calls, CSI sensors through NVIDIA's source.

Structures and request numbers are those of Linux' ``videodev2.h``; nothing is started and no frame is taken.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

if sys.platform == "linux":
    import fcntl

_QUERYCAP, _ENUM_FMT, _ENUM_FRAMESIZES, _ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
_CAPABILITY = struct.Struct("<16s32s32sIII12x")  # driver, card, bus, version, capabilities, of this node
_FORMAT = struct.Struct("<III32sI16x")  # index, buffer type, flags, description, four letters
_SIZES = struct.Struct("<IIIIIIIII8x")  # index, four letters, kind, then width, height or least, most, step of each
_RATES = struct.Struct("<IIIIIIIIIII8x")  # index, four letters, width, height, kind, then intervals as fractions
_CAPTURE, _CAPTURE_PLANES, _OF_THIS_NODE = 0x1, 0x1000, 0x80000000
_DISCRETE = 1
_MOST = 500  # entries of one list that are believed
# The driver of raw sensors on a Jetson: they speak Bayer, and their pictures come through csi://.
_SENSOR_DRIVER = "tegra-video"


@dataclass(frozen=True)
class CameraFormat:
    """format: FFmpeg's or the camera's four-letter name. size: pixels. rates: frames a second, largest first.

    rates is empty, and size what the camera gives at most, where it takes any value of a range.
    """

    format: str
    size: tuple[int, int]
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Camera:
    """uri: to open it by. stable: the same camera whatever order they were plugged in, where the system knows one.

    problem: why it cannot be opened like this, or None.
    """

    uri: str
    name: str
    driver: str = ""
    stable: str | None = None
    problem: str | None = None
    formats: tuple[CameraFormat, ...] = field(default=())


def v4l2_cameras(devices: str | os.PathLike[str] = "/dev") -> list[Camera]:
    """Every V4L2 node that gives pictures, in order of their numbers."""
    nodes = [path for path in Path(devices).glob("video*") if re.fullmatch(r"video\d+", path.name)]
    found = (_camera(str(node), Path(devices)) for node in sorted(nodes, key=lambda node: int(node.name[5:])))
    return [camera for camera in found if camera is not None]


def csi_cameras(v4l2: list[Camera], has_source: Callable[[], bool]) -> list[Camera]:
    """CSI sensors among the V4L2 nodes, as csi:// sees them; has_source: whether GStreamer has NVIDIA's source."""
    sensors = [camera for camera in v4l2 if camera.driver == _SENSOR_DRIVER]
    if not sensors:
        return []
    problem = None if has_source() else "GStreamer has no nvarguscamerasrc (apt install nvidia-l4t-gstreamer)"
    return [Camera(f"csi://{i}", camera.name, "csi", problem=problem) for i, camera in enumerate(sensors)]


def _camera(node: str, devices: Path) -> Camera | None:
    uri = f"v4l2://{node}"
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        advice = " (add the user to the group video)" if error.errno == errno.EACCES else ""
        return Camera(uri, Path(node).name, problem=f"{(error.strerror or str(error)).lower()}{advice}")
    try:
        answer = bytearray(_CAPABILITY.size)
        if not _ask(descriptor, _QUERYCAP, answer):
            return None
        driver, card, _, _, capabilities, own = _CAPABILITY.unpack(answer)
        able = own if capabilities & _OF_THIS_NODE else capabilities
        if not able & (_CAPTURE | _CAPTURE_PLANES):
            return None
        formats = tuple(_formats(descriptor, 1 if able & _CAPTURE else 9))
        raw = "gives raw sensor data: open it as csi://" if _text(driver) == _SENSOR_DRIVER else None
        return Camera(uri, _text(card), _text(driver), _stable(node, devices), raw, formats)
    finally:
        os.close(descriptor)


def _formats(descriptor: int, buffer_type: int) -> Iterator[CameraFormat]:
    for index in range(_MOST):
        entry = bytearray(_FORMAT.pack(index, buffer_type, 0, b"", 0))
        if not _ask(descriptor, _ENUM_FMT, entry):
            return
        letters = _FORMAT.unpack(entry)[4]
        name = _text(struct.pack("<I", letters & 0x7FFFFFFF)).lower()
        for width, height in _sizes(descriptor, letters):
            yield CameraFormat(
                _FFMPEG_NAMES.get(name, name), (width, height), _rates(descriptor, letters, width, height)
            )


def _sizes(descriptor: int, letters: int) -> Iterator[tuple[int, int]]:
    for index in range(_MOST):
        entry = bytearray(_SIZES.pack(index, letters, *[0] * 7))
        if not _ask(descriptor, _ENUM_FRAMESIZES, entry):
            return
        _, _, kind, first, second, _, _, tallest, _ = _SIZES.unpack(entry)
        if kind != _DISCRETE:
            # least width, most width, step, least height, most height, step
            yield second, tallest
            return
        yield first, second


def _rates(descriptor: int, letters: int, width: int, height: int) -> tuple[float, ...]:
    rates = set()
    for index in range(_MOST):
        entry = bytearray(_RATES.pack(index, letters, width, height, *[0] * 7))
        if not _ask(descriptor, _ENUM_FRAMEINTERVALS, entry):
            break
        kind, numerator, denominator = _RATES.unpack(entry)[4:7]
        if kind != _DISCRETE or not numerator:
            break
        rates.add(round(float(Fraction(denominator, numerator)), 3))
    return tuple(sorted(rates, reverse=True))


# Where FFmpeg, which opens the camera, has another name for a format than the kernel.
_FFMPEG_NAMES = {"yuyv": "yuyv422", "uyvy": "uyvy422", "mjpg": "mjpeg", "jpeg": "mjpeg", "yu12": "yuv420p",
                 "422p": "yuv422p", "rgb3": "rgb24", "bgr3": "bgr24", "grey": "gray"}  # fmt: skip


def _ask(descriptor: int, request: int, entry: bytearray) -> bool:
    try:
        fcntl.ioctl(descriptor, request, entry)
    except OSError:
        return False
    return True


def _stable(node: str, devices: Path) -> str | None:
    for folder in ("by-id", "by-path"):
        for link in sorted((devices / "v4l" / folder).glob("*")):
            if os.path.realpath(link) == os.path.realpath(node):
                return f"v4l2://{link}"
    return None


def _text(letters: bytes) -> str:
    text = letters.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else "?" for c in text)
