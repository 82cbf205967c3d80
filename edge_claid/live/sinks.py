"""Where answers go: each sink works in a thread of its own behind a bounded queue.

To add a sink: a class with the members of ``Sink``, and a flag in cli/live.py that makes one.
"""

from __future__ import annotations

import logging
import threading
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
        self._thread = threading.Thread(target=self._work, name=f"sink {type(sink).__name__}", daemon=True)
        self._thread.start()

    def put(self, answer: FrameAnswer | LiveEvent) -> None:
        """Hand over an answer or event; waits for room where the sink is lossless."""
        with self._changed:
            if self.sink.lossless:
                self._changed.wait_for(lambda: len(self._waiting) < self.WAITING or self._closing)
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
        if threading.current_thread() is not self._thread:
            self._thread.join()

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
            self._changed.wait_for(lambda: self._waiting or self._closing)
            item = self._waiting.popleft() if self._waiting else None
            self._changed.notify_all()
            return item

    def _close_after_failure(self) -> None:
        try:
            self.sink.close()
        except Exception as error:
            log.debug("closing a failed sink failed too: %s", error)
