"""What every runner is: opened in a ``with`` block, it turns a batch of network inputs into its outputs."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import numpy as np


class Runner(Protocol):
    """One network, ready on one device.

    To add a runner: one file beside this one with these four methods, and the tests in tests/runners on it.
    """

    def __enter__(self) -> Runner:
        """Takes what the network needs (memory, device, threads)."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives it back."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The network's first output for a batch.

        batch: (B, 3, H, W) float32, normalised as the network wants it. Returns (B, …) float32, the caller's to keep.
        Raises UsageError for a batch of another shape or dtype.
        """

    def run_all(self, batch: np.ndarray) -> list[np.ndarray]:
        """All outputs for a batch, in the network's order; otherwise as ``run``."""
