"""What the capture process and the process that started it say to each other, over the child's stdin and stdout.

Parent: one line of JSON (the settings), then one byte ``REQUEST`` for each frame it wants; closing stdin ends the
child. Child: messages of one header and its payload, a frame for each request or, once and last, a failure or an end.
Times are time.monotonic() and time.time() of capture; the monotonic clock is one for all processes of a machine.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np

REQUEST = b"n"
# magic, kind, number of the frame since the source was opened, monotonic and Unix time, width, height, payload bytes
_HEADER = struct.Struct("<4scxxxQddIIQ")
_MAGIC = b"ecv1"
_FRAME, _FAILURE, _END = b"F", b"!", b"E"
_LONGEST_REASON = 10_000

FailureKind = Literal["lost", "machine", "usage"]


class WireError(Exception):
    """The other side said something that is no message."""


@dataclass(frozen=True)
class Captured:
    """pixels: (H, W, 3) uint8 RGB. number: from 0, frames that were not asked for counted. Times as in the module."""

    pixels: np.ndarray
    number: int
    monotonic: float
    unix: float


@dataclass(frozen=True)
class Failure:
    """Why the source gives no frames. kind: lost (may come back), machine (something is missing), usage (wrong use)."""

    reason: str
    kind: FailureKind = "lost"


@dataclass(frozen=True)
class End:
    """The source came to its end and has no more frames."""


Message = Captured | Failure | End


def write_message(stream: IO[bytes], message: Message) -> None:
    """Write one message and flush."""
    if isinstance(message, Captured):
        height, width, _ = message.pixels.shape
        payload = np.ascontiguousarray(message.pixels).reshape(-1).data
        head = _HEADER.pack(
            _MAGIC, _FRAME, message.number, message.monotonic, message.unix, width, height, len(payload)
        )
        stream.write(head)
        stream.write(payload)
    else:
        kind, text = (_END, b"") if isinstance(message, End) else (_FAILURE, _failure_text(message))
        stream.write(_HEADER.pack(_MAGIC, kind, 0, 0.0, 0.0, 0, 0, len(text)) + text)
    stream.flush()


def read_message(stream: IO[bytes], most_pixels: int) -> Message | None:
    """The next message, or None at the end of the stream, also in the midst of a message. Raises WireError."""
    head = stream.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    magic, kind, number, monotonic, unix, width, height, length = _HEADER.unpack(head)
    if magic != _MAGIC or kind not in (_FRAME, _FAILURE, _END):
        raise WireError("not a message of the capture process")
    if kind == _FRAME:
        if not 0 < width * height <= most_pixels or length != width * height * 3:
            raise WireError(f"a frame of {width}x{height} pixels, which is beyond what is read")
        pixels = np.empty((height, width, 3), np.uint8)
        return Captured(pixels, number, monotonic, unix) if _fill(stream, pixels) else None
    if length > _LONGEST_REASON:
        raise WireError("not a message of the capture process")
    text = stream.read(length)
    if len(text) < length:
        return None
    return End() if kind == _END else Failure(**json.loads(text))


def _failure_text(failure: Failure) -> bytes:
    return json.dumps({"reason": failure.reason[: _LONGEST_REASON // 12], "kind": failure.kind}).encode()


def _fill(stream: IO[bytes], pixels: np.ndarray) -> bool:
    view = pixels.reshape(-1).data
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            return False
        view = view[count:]
    return True
