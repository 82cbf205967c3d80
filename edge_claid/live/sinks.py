"""Where answers go: each sink works in a thread of its own behind a bounded queue.

To add a sink: a class with the members of ``Sink``, and a flag in cli/live.py that makes one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from edge_claid.live.answer import FrameAnswer, LiveEvent

log = logging.getLogger(__name__)

MOST_EVENTS = 256  # waiting for a sink that is not lossless; older ones are dropped


class Sink(Protocol):
    """Takes answers in order; all calls come from one thread.

    lossless: every frame matters, so the look-up waits for this sink; others are given the newest frame only.
    """

    lossless: bool

    def frame(self, answer: FrameAnswer) -> None: ...

    def event(self, event: LiveEvent) -> None: ...

    def close(self) -> None: ...


class SinkThread:
    """One sink at work. A slow lossless sink makes ``put`` wait; a slow other one misses frames, never events.

    failed: told of the first exception the sink raised, after which it is given nothing more.
    """

    WAITING = 2  # answers that wait for a lossless sink

    def __init__(self, sink: Sink, failed: Callable[[Sink, Exception], None]) -> None:
        self.sink, self._failed = sink, failed
        self._waiting: deque[FrameAnswer | LiveEvent] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._patience: float | None = None
        self._given: float | None = None  # monotonic time at which it was given what it is at; None where at nothing
        self._thread = threading.Thread(target=self._work, name=f"sink {type(sink).__name__}", daemon=True)
        self._thread.start()

    def put(self, answer: FrameAnswer | LiveEvent) -> None:
        """Hand over an answer or event; waits for room where the sink is lossless."""
        with self._changed:
            if self.sink.lossless:
                while len(self._waiting) >= self.WAITING and not self._closing and not self._stuck():
                    self._changed.wait(self._patience)
            else:
                self._make_room(answer)
            if not self._closing:
                self._waiting.append(answer)
                self._changed.notify_all()

    def close(self) -> None:
        """Let the sink finish what waits, then close it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if threading.current_thread() is self._thread:
            return
        while self._thread.is_alive() and not self._stuck():
            self._thread.join(self._patience)

    def hurry(self, patience: float) -> None:
        """From now on the sink is left behind where it is at one answer for longer than that, in seconds.

        A pipe that nobody reads takes nothing for ever. A sink that is slow, or is being closed, is waited for.
        """
        with self._changed:
            self._patience = patience
            self._given = None if self._given is None else time.monotonic()
            self._changed.notify_all()

    def _stuck(self) -> bool:
        given, patience = self._given, self._patience
        stuck = given is not None and patience is not None and time.monotonic() - given >= patience
        if stuck and not self._closing:
            log.warning("%s takes nothing more; its end is missing", type(self.sink).__name__)
            self._closing = True
        return stuck

    def _make_room(self, answer: FrameAnswer | LiveEvent) -> None:
        if isinstance(answer, FrameAnswer):
            self._waiting = deque(item for item in self._waiting if isinstance(item, LiveEvent))
        elif len(self._waiting) >= MOST_EVENTS:
            self._waiting.popleft()

    def _work(self) -> None:
        try:
            while (item := self._next()) is not None:
                if isinstance(item, FrameAnswer):
                    self.sink.frame(item)
                else:
                    self.sink.event(item)
            self.sink.close()
        except Exception as error:
            with self._changed:
                self._closing = True
                self._waiting.clear()
                self._changed.notify_all()
            self._close_after_failure()
            self._failed(self.sink, error)

    def _next(self) -> FrameAnswer | LiveEvent | None:
        with self._changed:
            self._given = None
            self._changed.wait_for(lambda: self._waiting or self._closing)
            item = self._waiting.popleft() if self._waiting else None
            self._given = None if item is None else time.monotonic()
            self._changed.notify_all()
            return item

    def _close_after_failure(self) -> None:
        try:
            self.sink.close()
        except Exception as error:
            log.debug("closing a failed sink failed too: %s", error)
