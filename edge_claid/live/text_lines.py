"""Answers for people: a line whenever what is confirmed changes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_claid.live.answer import FrameAnswer, LiveEvent, TrackAnswer
from edge_claid.live.drawn import caption

log = logging.getLogger(__name__)


class TextLines:
    """A sink that prints. shown: makes a name fit for one line."""

    lossless = True

    def __init__(self, shown: Callable[[str], str]) -> None:
        self._shown = shown
        self._before: list[int] = []

    def frame(self, answer: FrameAnswer) -> None:
        confirmed = [track for track in answer.tracks if track.state == "confirmed"]
        now = sorted(track.id for track in confirmed)
        if now != self._before:
            self._before = now
            print(f"{answer.time:9.2f} s  {'; '.join(map(self._told, confirmed)) or 'nothing known'}", flush=True)

    def event(self, event: LiveEvent) -> None:
        """Events are told on stderr, whatever the output."""

    def close(self) -> None:
        """Nothing to close."""

    def _told(self, track: TrackAnswer) -> str:
        corners = ",".join(str(round(value)) for value in track.box)
        return f"{self._shown(caption(track))} [{corners}]"


class EventLog:
    """A sink that logs what happens to the source and the gallery."""

    lossless = False

    def frame(self, answer: FrameAnswer) -> None:
        """Frames are not logged."""

    def event(self, event: LiveEvent) -> None:
        if event.event != "summary" and (event.event, event.state) != ("source", "ended"):
            facts = ", ".join(str(v) if name == "reason" else f"{name} {v}" for name, v in event.facts.items())
            level = logging.INFO if event.state in ("back", "updated") else logging.WARNING
            log.log(level, "%s %s%s", event.event, event.state, f": {facts}" if facts else "")

    def close(self) -> None:
        """Nothing to close."""
