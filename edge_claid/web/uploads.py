"""Pictures from outside: bounded in bytes while they arrive, in pixels before they are decoded, and never executed."""

from __future__ import annotations

import asyncio
from typing import Any

from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.frames.reading import decode_picture
from edge_claid.records import Frame

LIMITS = ReadLimits(pixels=50_000_000, bytes=32_000_000)
MOST_SECONDS = 60.0  # for an upload to arrive


class TooLargeError(BadImageError):
    """More bytes than are taken."""


async def body_of(request: Any, most: int = LIMITS.bytes) -> bytes:
    """A request's body. Raises TooLargeError as soon as it is too long, BadImageError where it takes too long."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise TooLargeError(f"{int(declared):,} bytes were sent; at most {most:,} are taken")
    parts, size = [], 0
    try:
        async with _deadline(MOST_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise TooLargeError(f"more than {most:,} bytes were sent; at most that many are taken")
                parts.append(part)
    except asyncio.TimeoutError as error:
        raise BadImageError(f"the upload did not arrive within {MOST_SECONDS:.0f} s") from error
    return b"".join(parts)


def frame_of(content: bytes) -> Frame:
    """A picture that was sent. Raises BadImageError."""
    return decode_picture(content, "the picture", LIMITS)


def box_of(text: str | None) -> tuple[float, ...] | None:
    """ "x0,y0,x1,y1" in pixels of the picture, None for the whole of it. Raises UsageError."""
    if not text:
        return None
    try:
        corners = tuple(float(part) for part in text.split(","))
    except ValueError:
        corners = ()
    if len(corners) != 4:
        raise UsageError("a box is four numbers x0,y0,x1,y1 in pixels of the picture")
    return corners


class _deadline:
    """asyncio.timeout, which Python 3.10 lacks."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._late = seconds, False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cancel)

    def _cancel(self) -> None:
        self._late = True
        self._task.cancel()

    async def __aexit__(self, kind: Any, *_: object) -> None:
        self._timer.cancel()
        if self._late and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError
