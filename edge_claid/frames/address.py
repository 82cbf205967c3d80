"""Addresses of live sources: what a user writes, what the capture process is told, what may be printed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl, unquote

from edge_claid.errors import SourceLostError, UsageError

_LIVE = re.compile(r"\d+$|/dev/(video\d|v4l/)|(v4l2|csi|rtsps?)://|gst:", re.IGNORECASE)
_FOREIGN = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PLACE = re.compile(r"(?:.*@)?(?:\[[0-9a-f:.]+(?:%[^\]]+)?\]|[^:@\[\]]+)(?::(\d{1,5}))?$", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})$")
_RATE = re.compile(r"\d{1,3}\.\d{1,3}$|[1-9]\d{0,5}(/[1-9]\d{0,4})?$")
_WORD = re.compile(r"[A-Za-z0-9_]{1,16}$")
# What follows the name of a secret, in a URL's query or a pipeline's properties, in quotes or up to the next blank.
_SECRET = re.compile(
    r"((?:pass(?:word|wd|phrase)?|pwd|pw|token|secret|auth|key|user(?:name|-id|-pw)?|login)=)"
    r"(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s&]*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Address:
    """A live source. shown: without credentials. settings: what the capture process is told, secrets included."""

    shown: str
    settings: dict[str, Any] = field(repr=False)


def is_live(uri: str) -> bool:
    """Whether this names a camera, a network stream or a pipeline rather than a file."""
    return _LIVE.match(uri) is not None


def is_foreign(uri: str) -> bool:
    """Whether this is the address of something that is not read here, and no name of a file."""
    return _FOREIGN.match(uri) is not None and not is_live(uri) and not os.path.lexists(uri)


def without_credentials(uri: str) -> str:
    """The source as it may be printed: users and passwords replaced by ***."""
    # To the last "@", wherever it is: a password may hold "@" and "/", and hiding too much does no harm.
    return _SECRET.sub(r"\1***", re.sub(r"://[^\s\"']*@", "://***@", uri))


def live_address(uri: str, *, there: bool = True) -> Address:
    """Take a live source's address apart. there: a camera must be there already.

    Raises UsageError where it is malformed, SourceLostError where it names a camera that is not there.
    """
    shown = without_credentials(uri)
    if re.search(r"[\0-\x1f]", uri):
        raise UsageError(f"{shown!r}: control characters cannot be part of a source")
    kind = uri.partition(":")[0].lower()
    if kind in ("rtsp", "rtsps"):
        return Address(shown, _rtsp(uri, shown))
    if kind == "gst":
        return Address(shown, _pipeline(uri[4:].strip(), shown))
    if kind == "csi":
        return Address(shown, _csi(uri[6:], shown))
    device = f"/dev/video{int(uri)}" if uri.isdigit() else uri if uri.startswith("/") else uri[7:]
    settings = _v4l2(device, shown)
    if there and not os.path.exists(settings["place"]):
        raise SourceLostError(f"{shown}: no such camera (`edge-claid sources` lists those there are)")
    return Address(shown, settings)


def _rtsp(uri: str, shown: str) -> dict[str, Any]:
    place = re.match(r"rtsps?://([^/?#\s]+)", uri, re.IGNORECASE)
    parts = _PLACE.match(place[1]) if place else None
    if not parts or int(parts[1] or 0) > 65535:
        raise UsageError(
            f"{shown}: an RTSP source is rtsp://user:password@host:port/path, with %40, %3A and %2F for @, : and / "
            "in the password"
        )
    # TCP first: it loses nothing on a busy network; UDP where the camera knows nothing else. Neither sound nor the
    # frame rate, which takes FFmpeg a second to find out, is wanted.
    options = {
        "rtsp_flags": "prefer_tcp",
        "allowed_media_types": "video",
        "fflags": "nobuffer",
        "fpsprobesize": "0",
        "tls_verify": "0",  # cameras make their own certificates, which FFmpeg refuses from version 9 on
    }
    return {"grabber": "ffmpeg", "format": "rtsp", "place": uri, "options": options}


def _pipeline(text: str, shown: str) -> dict[str, Any]:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if not text:
        raise UsageError(f'{shown}: a GStreamer source is gst:"videotestsrc ! …", a pipeline without its sink')
    return {"grabber": "gstreamer", "pipeline": text}


def _csi(rest: str, shown: str) -> dict[str, Any]:
    sensor, wanted = _options(rest, shown, ("size", "rate"))
    if not re.match(r"\d{1,2}$", sensor):
        raise UsageError(f"{shown}: a CSI camera is csi://0, csi://1, …")
    width, height = wanted.get("size", "1280x720").split("x")
    rate = Fraction(wanted.get("rate", "30")).limit_denominator(1001)
    # The converter of the board makes BGRx; no pixel passes the CPU before it is asked for.
    pipeline = (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},format=NV12,"
        f"framerate={rate.numerator}/{rate.denominator} ! nvvidconv ! video/x-raw,format=BGRx"
    )
    return {"grabber": "gstreamer", "pipeline": pipeline}


def _v4l2(rest: str, shown: str) -> dict[str, Any]:
    device, wanted = _options(rest, shown, ("size", "rate", "format"))
    if not device.startswith("/dev/"):
        raise UsageError(f"{shown}: a V4L2 camera is 0, 1, … or v4l2:///dev/video0")
    names = {"size": "video_size", "rate": "framerate", "format": "input_format"}
    options = {names[key]: value for key, value in wanted.items()}
    return {"grabber": "ffmpeg", "format": "v4l2", "place": device, "options": options}


def _options(rest: str, shown: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Place and checked options of ``place?size=1280x720&rate=30&format=mjpeg``."""
    place, _, query = rest.partition("?")
    patterns = {"size": _SIZE, "rate": _RATE, "format": _WORD}
    wanted = dict(parse_qsl(query, keep_blank_values=True))
    for key, value in wanted.items():
        if key not in known or not patterns[key].match(value):
            raise UsageError(f"{shown}: {key}={value} is not among size=1280x720, rate=30 and, for V4L2, format=mjpeg")
    return unquote(place), wanted
