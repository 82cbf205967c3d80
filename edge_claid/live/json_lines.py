"""Answers as JSON lines, one a frame and one an event, flushed line by line."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from edge_claid.errors import StorageError
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
        if stream is None:
            raise StorageError("--json writes to stdout, and stdout is closed")
        try:
            stream.write(json.dumps(value, allow_nan=False) + "\n")
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError(f"stdout cannot be written ({error.strerror}); free some space") from error
