"""A gallery as a running look-up holds it: in memory, in step with its file, and never of another pipeline."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from edge_claid.codes.projection import Projection
from edge_claid.errors import EdgeClaidError, GalleryError
from edge_claid.gallery.lookup import positions
from edge_claid.gallery.lookup.calibrate import FEWEST, ViewDescriber, frame_search
from edge_claid.gallery.lookup.calibration import Calibration, stored
from edge_claid.gallery.lookup.naming import Items
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.live.answer import LiveEvent
from edge_claid.live.measuring import Measuring

log = logging.getLogger(__name__)


# Before a gallery is calibrated, or while it is too small for that: a curve of standings of about the shape that
# galleries of some hundred pictures give, set by judgement, not by a measurement. Its probabilities are not shown.
UNMEASURED = Calibration(slope=1.0, centre=6.5, place=4.0, spread=0.7, true=0, false=0)


class GalleryUser(ViewDescriber, Protocol):
    """What this needs of a pipeline."""

    @property
    def id(self) -> str: ...

    @property
    def describe_settings(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Item:
    """One gallery image as answers name it. key: its label, or itself where it has none."""

    key: str
    label: str | None
    path: str


@dataclass(frozen=True)
class Holdings:
    """One state of a gallery. items: by image id. projection: None for an empty gallery."""

    search: GallerySearch
    items: dict[int, Item]
    projection: Projection | None
    calibration: Calibration

    @cached_property
    def namable(self) -> Items:
        """What answers can name."""
        return Items.of({image: item.label for image, item in self.items.items()})

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """(R, D) to (R, d) float32 of unit norm; unchanged where the gallery is empty."""
        return descriptors if self.projection is None else self.projection.project(descriptors)


class WatchedGallery:
    """A gallery file that may change, or be replaced, while it is searched. Use in a ``with`` block.

    ``holdings`` is always whole: a change is read beside it and swapped in. Raises GalleryError where the gallery is
    damaged or of another pipeline at the start; later such a gallery is refused with an event, and the old one goes on.
    """

    def __init__(self, path: str, pipeline: GalleryUser, code_scan: Callable[[int], Any]) -> None:
        self._path, self._pipeline, self._code_scan = os.fspath(path), pipeline, code_scan
        self._lock = threading.Lock()
        self._refused: object = None
        self._measuring: Measuring | None = None
        self._gallery, self._file = self._opened()
        try:
            search = frame_search(self._gallery, code_scan)
            self._version = _version(self._gallery)
            search.refresh()
            self.holdings = _held(self._gallery, search, self._stored(search) or UNMEASURED)
        except BaseException:
            self._gallery.close()
            raise

    def __enter__(self) -> WatchedGallery:
        self._measure()
        return self

    def __exit__(self, *_: object) -> None:
        if self._measuring is not None:
            self._measuring.close()
        with self._lock:
            self._gallery.close()

    def wait_measured(self, timeout: float | None = None) -> bool:
        """Wait until it is known how sure answers are, or that it cannot be known; False after so many seconds."""
        return self._measuring is None or self._measuring.wait(timeout)

    @property
    def gallery(self) -> Gallery:
        """The open gallery; another one after the file was replaced."""
        return self._gallery

    @property
    def version(self) -> str:
        """Another one whenever ``holdings`` may hold something else; to be compared, not to be read."""
        return "-".join(map(str, (*(self._file or ()), *self._version)))

    def poll(self) -> LiveEvent | None:
        """Take up what has changed in the file; an event where something has. Cheap where nothing has."""
        with self._lock:
            try:
                if _identity(self._path) not in (self._file, None):
                    self._replace()
                elif (version := _version(self._gallery)) == self._version:
                    return None
                else:
                    self._gallery.require_pipeline(self._pipeline.id, self._pipeline.describe_settings)
                    self.holdings.search.refresh()
                    self.holdings = _held(self._gallery, self.holdings.search, self._calibration())
                    self._version = version
            except EdgeClaidError as error:
                return self._refusal(error)
            self._refused = None
        return LiveEvent("gallery", "updated", time.time(), {"images": len(self.holdings.items)})

    def _replace(self) -> None:
        gallery, file = self._opened()
        try:
            version = _version(gallery)
            search = frame_search(gallery, self._code_scan)
            holdings = _held(gallery, search, self._stored(search, gallery) or UNMEASURED)
        except BaseException:
            gallery.close()
            raise
        old, self._gallery, self._file, self.holdings = self._gallery, gallery, file, holdings
        self._version = version
        old.close()
        self._measure()

    def _calibration(self) -> Calibration:
        """What is stored, else what was measured before: a curve that is a little old is better than none."""
        return self._stored(self.holdings.search) or self.holdings.calibration

    def _stored(self, search: GallerySearch, gallery: Gallery | None = None) -> Calibration | None:
        return stored(gallery or self._gallery, "frame", search.scored_by)

    def _measure(self) -> None:
        """Beside all else, for it takes a while: answers are given meanwhile by the curve set by judgement."""
        if self.holdings.calibration.measured or len(self.holdings.items) < FEWEST:
            return
        if self._measuring is not None:
            self._measuring.close()
        self._measuring = Measuring(self._path, self._file, self._pipeline, self._code_scan, self._take_up)

    def _take_up(self, file: object, found: Calibration) -> None:
        with self._lock:
            if file == self._file:
                self.holdings = replace(self.holdings, calibration=found)

    def _refusal(self, error: EdgeClaidError) -> LiveEvent | None:
        """Told once for each file and reason; the old gallery goes on."""
        state = (_identity(self._path), str(error))
        if state == self._refused:
            return None
        self._refused = state
        reason = f"{error}; going on with the gallery as it was"
        return LiveEvent("gallery", "refused", time.time(), {"reason": reason})

    def _opened(self) -> tuple[Gallery, tuple[int, int] | None]:
        file = _identity(self._path)
        gallery = Gallery.open(self._path)
        try:
            gallery.require_pipeline(self._pipeline.id, self._pipeline.describe_settings)
        except GalleryError:
            gallery.close()
            raise
        return gallery, file


def _held(gallery: Gallery, search: GallerySearch, calibration: Calibration) -> Holdings:
    return Holdings(search, dict(_items(gallery)), search.projection, calibration)


def _version(gallery: Gallery) -> tuple[int, int]:
    with gallery.reading() as connection:
        return positions.version(connection)


def _items(gallery: Gallery) -> Iterator[tuple[int, Item]]:
    for row in gallery.images():
        yield row.id, Item(row.label if row.label else f"image {row.id}", row.label, row.path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
