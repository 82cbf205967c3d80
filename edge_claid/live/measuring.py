"""A gallery's scores measured while it is looked up: the first start must not wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from edge_claid.errors import EdgeClaidError
from edge_claid.gallery.lookup import calibration
from edge_claid.gallery.lookup.calibrate import ViewDescriber, calibrate, frame_search
from edge_claid.gallery.lookup.calibration import Calibration
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)


class Measuring:
    """Measures in a thread of its own from its making on, over a reader of its own, and stores what it finds.

    file: which file it is, given on to ``found`` with the curve of frames.
    """

    def __init__(
        self,
        path: str,
        file: object,
        pipeline: ViewDescriber,
        code_scan: Callable[[int], Any],
        found: Callable[[object, Calibration], None],
    ) -> None:
        self._path, self._file, self._pipeline, self._code_scan = path, file, pipeline, code_scan
        self._found, self._closed, self._done = found, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="measure gallery", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after so many seconds."""
        return self._done.wait(timeout)

    def close(self) -> None:
        """End it after the picture it looks at."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._measure()
        except _ClosedError:
            log.debug("measuring the gallery was ended")
        except EdgeClaidError as error:
            log.warning("how sure answers are could not be measured: %s", error)
        except Exception:
            log.exception("how sure answers are could not be measured")
        finally:
            self._done.set()

    def _measure(self) -> None:
        with Gallery.open(self._path, "r") as gallery:
            frames = frame_search(gallery, self._code_scan)
            queries = frames if frames.scored_by == "codes" else GallerySearch(gallery, self._code_scan)
            curves = calibrate(gallery, frames, queries, self._pipeline, self._told)
        if "frame" in curves:
            self._found(self._file, curves["frame"])
        try:
            with Gallery.open(self._path, "rw", wait_seconds=2.0) as writable:
                calibration.store(writable, curves)
        except EdgeClaidError as error:
            log.debug("what was measured is not stored: %s", error)

    def _told(self, *_: object) -> None:
        if self._closed.is_set():
            raise _ClosedError


class _ClosedError(Exception):
    """Nobody waits for the measurement any more."""
