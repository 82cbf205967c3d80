"""The shape of one kind of live source inside the capture process."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from edge_claid.capture.wire import FailureKind


class CaptureError(Exception):
    """The source gives no frames. kind: see wire.Failure."""

    def __init__(self, reason: str, kind: FailureKind = "lost"):
        super().__init__(reason)
        self.kind: FailureKind = kind


class Grabber(Protocol):
    """One opened source. Every call may block; the process is ended from outside where one does so for too long."""

    def open(self) -> None:
        """Raises CaptureError."""

    def grab(self) -> Any | None:
        """The next picture, in whatever form is cheapest, or None at the source's own end. Raises CaptureError."""

    def rgb(self, picture: Any) -> np.ndarray:
        """(H, W, 3) uint8 of a picture that grab gave; may run beside grab, in another thread."""

    def close(self) -> None:
        """Let go of the source."""
