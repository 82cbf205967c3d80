"""What the live look-up names: all that the gallery holds, or one thing that was shown on the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_claid.config import LiveSettings
from edge_claid.live import Lookup, Recogniser, Threshold
from edge_claid.live.lookup import Namer
from edge_claid.live.targets import finder_of, target_from_picture
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame

UNNAMED = "this"  # what a thing is called that was given no name


class Seeking:
    """May be used from several threads. running: the look-up at work, or None; a later one starts with ``namer``."""

    def __init__(
        self, pipeline: Pipeline, settings: LiveSettings, threshold: Threshold, running: Callable[[], Lookup | None]
    ) -> None:
        self._pipeline, self._settings, self._threshold, self._running = pipeline, settings, threshold, running
        self.name: str | None = None
        self.namer: Namer = Recogniser(settings, threshold)

    def seek(self, frame: Frame, box: Sequence[float] | None, name: str) -> None:
        """Seek only what this picture, or the box in it, shows. Raises BadImageError, UsageError."""
        target = target_from_picture(self._pipeline, frame, box, name or UNNAMED)
        self._name_with(finder_of([target], self._settings, self._threshold), target.name)

    def stop(self) -> None:
        """Name all that the gallery holds again."""
        self._name_with(Recogniser(self._settings, self._threshold), None)

    def _name_with(self, namer: Namer, name: str | None) -> None:
        self.namer, self.name = namer, name
        lookup = self._running()
        if lookup is not None:
            lookup.name_with(namer)
