"""The newest answer of the live look-up for any number of watchers, each as fast as it can take it.

One picture is held, encoded once for all. A watcher that is slow finds a newer one when it comes back; nothing queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from edge_claid.live.answer import FrameAnswer, LiveEvent
from edge_claid.live.drawn import drawn
from edge_claid.live.metrics import LiveMetrics
from edge_claid.web.pictures import jpeg_of

LONGEST_SIDE = 1920  # of the picture that is sent; descriptors are made from half of that
QUIET_SECONDS = 5.0  # after so long without a picture a watcher is told the state again
_RATED = 12  # answers that the rate is taken over


@dataclass(frozen=True)
class _Moment:
    """What watchers are sent at one time. serial: of the change it was made after."""

    serial: int
    answer: FrameAnswer | None
    facts: bytes
    picture: bytes


class LiveView:
    """A sink of the look-up and the source of all streams.

    state: "off" (no source), "starting", "running", "lost", "reconnecting", "ended". reason: why, for people.
    """

    lossless = False

    def __init__(self, state: str = "off") -> None:
        self.state, self.reason = state, ""
        self.metrics: LiveMetrics | None = None
        self._lock = threading.Lock()
        self._answer: FrameAnswer | None = None
        self._serial = 0
        self._encoding = threading.Lock()
        self._encoded: dict[bool, _Moment] = {}
        self._times: deque[float] = deque(maxlen=_RATED)
        self._summary: tuple[float, dict[str, Any]] = (0.0, {})
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._closed = False

    # -- from the look-up's threads

    def frame(self, answer: FrameAnswer) -> None:
        with self._lock:
            self._answer = answer
            self._times.append(time.monotonic())
        self._set("running", "")

    def event(self, event: LiveEvent) -> None:
        if event.event == "source":
            self._set("running" if event.state == "back" else event.state, str(event.facts.get("reason", "")))

    def close(self) -> None:
        """The look-up has ended; the view stays for the next one."""

    def begin(self, metrics: LiveMetrics) -> None:
        """A look-up starts."""
        self.metrics = metrics
        self._times.clear()
        self._set("starting", "")

    def ended(self, reason: str) -> None:
        """The look-up has ended, and why."""
        self._set("ended", reason)

    def _set(self, state: str, reason: str) -> None:
        with self._lock:
            self.state, self.reason = state, reason
            self._serial += 1
            loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    # -- from the event loop

    def attach(self) -> None:
        """Called in the event loop that watchers run in."""
        self._loop = asyncio.get_running_loop()

    def shut(self) -> None:
        """All watchers end; to be called from any thread."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """For the page: lengths of both parts (2 uint32, big endian), facts as JSON, the picture as JPEG.

        The picture is empty where only the state has changed, or nothing has for a while.
        """
        sent: FrameAnswer | None = None
        async for _ in self._turns():
            moment = await self._newest(boxes=False)
            picture = moment.picture if moment.answer is not sent else b""
            sent = moment.answer
            yield struct.pack(">II", len(moment.facts), len(picture)) + moment.facts + picture

    async def pictures(self) -> AsyncIterator[bytes]:
        """For anything that shows MJPEG: pictures with boxes and names drawn, parts of multipart/x-mixed-replace."""
        sent: FrameAnswer | None = None
        async for _ in self._turns():
            moment = await self._newest(boxes=True)
            if moment.picture and moment.answer is not sent:
                sent = moment.answer
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(moment.picture)}\r\n\r\n"
                yield head.encode() + moment.picture + b"\r\n"

    async def _turns(self) -> AsyncIterator[None]:
        """Whenever there is something to send, and now and then where there is not."""
        seen = -1
        while not self._closed:
            changed = self._changed
            if self._serial == seen:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), QUIET_SECONDS)
            seen = self._serial
            if not self._closed:
                yield

    async def _newest(self, boxes: bool) -> _Moment:
        known = self._encoded.get(boxes)
        if known is not None and known.serial == self._serial:
            return known
        return await asyncio.to_thread(self._encode, boxes)

    def _encode(self, boxes: bool) -> _Moment:
        """The newest answer as it is sent, made once however many ask for it."""
        with self._encoding:
            with self._lock:
                answer, serial = self._answer, self._serial
            known = self._encoded.get(boxes)
            if known is not None and known.serial == serial:
                return known
            if known is not None and known.answer is answer:
                picture = known.picture
            elif answer is None:
                picture = b""
            else:
                picture = jpeg_of(drawn(answer) if boxes else answer.frame.pixels, LONGEST_SIDE)
            facts = json.dumps(self._facts(answer), allow_nan=False).encode()
            moment = self._encoded[boxes] = _Moment(serial, answer, facts, picture)
            return moment

    def _facts(self, answer: FrameAnswer | None) -> dict[str, Any]:
        with self._lock:
            times = list(self._times)
            state, reason = self.state, self.reason
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None
        facts: dict[str, Any] = {"state": state, "reason": reason, "rate": None if rate is None else round(rate, 2)}
        facts["summary"] = self._summed()
        if answer is not None:
            facts |= answer.as_json()
            facts["size"] = list(answer.frame.size)
        return facts

    def _summed(self) -> dict[str, Any]:
        """The look-up's own figures, taken once a second: they cost more than a frame should."""
        now = time.monotonic()
        if self.metrics is not None and now - self._summary[0] > 1.0:
            self._summary = (now, self.metrics.summary())
        return self._summary[1]
