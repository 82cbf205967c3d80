"""Reading a live source in a test until what is wanted comes, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edge_claid.frames import Patience, Stream
from edge_claid.records import SourceEvent, TimedFrame

# Waits of a test end here, in seconds.
LONGEST = 60.0
# Short waits between attempts; long ones where a slow machine could take a working source for a lost one.
QUICK = Patience(open=20.0, first=40.0, stalled=20.0, retry=0.1, longest=0.5)


def read_until(stream: Stream, wanted: Callable[[Any], bool]) -> tuple[Any, list[SourceEvent]]:
    """Read until an answer is wanted: it, and the events before it."""
    events: list[SourceEvent] = []
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        answer = stream.read(1.0)
        if answer is not None and wanted(answer):
            return answer, events
        if isinstance(answer, SourceEvent):
            events.append(answer)
    raise AssertionError(f"nothing of what was wanted in {LONGEST:g} s; events: {events}")


def next_frame(stream: Stream) -> TimedFrame:
    """The next frame."""
    return read_until(stream, lambda answer: isinstance(answer, TimedFrame))[0]


def next_state(stream: Stream, state: str) -> tuple[SourceEvent, list[SourceEvent]]:
    """The next event of a state, and those before it."""
    return read_until(stream, lambda answer: isinstance(answer, SourceEvent) and answer.state == state)
