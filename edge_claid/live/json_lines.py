"""Answers as JSON lines, one a frame and one an event, flushed line by line."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from edge_claid.live.answer import FrameAnswer, LiveEvent


class JsonLines:
    """A sink that writes to a text stream; stdout where None."""

    lossless = True

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def frame(self, answer: FrameAnswer) -> None:
        self._write(answer.as_json())

    def event(self, event: LiveEvent) -> None:
        self._write(event.as_json())

    def close(self) -> None:
        """The stream is not ours to close."""

    def _write(self, value: dict[str, Any]) -> None:
        stream = self._stream or sys.stdout
        # ASCII: a label may hold anything, a terminal or pipe may know less.
        stream.write(json.dumps(value, allow_nan=False) + "\n")
        stream.flush()
