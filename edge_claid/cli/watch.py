"""The watch: folders, and media mounted below them, are enrolled as things come, until it is asked to end.

A change of the mount table wakes it at once; new files are found by looking again every so often. (inotify does not
see what is written on network file systems and needs a watch for every folder; a look costs a stat a file.)
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

from edge_claid.cli.hooks import Hooks
from edge_claid.errors import SourceError, StorageError
from edge_claid.frames.arrivals import SETTLED_SECONDS, Arrivals
from edge_claid.frames.folder import PictureFiles
from edge_claid.frames.mounts import MountChanges, mounts_below
from edge_claid.gallery.enrolment.outcome import Summary

# The looks themselves take at most about this share of the time.
_SHARE = 0.1
# After a failure that may pass (a full disk, a pulled stick).
_AGAIN_SECONDS = 60.0

log = logging.getLogger(__name__)


class Watch:
    """Use in a ``with`` block. enrol: brings the gallery in step with what has arrived. stop: set to end a round."""

    def __init__(
        self,
        folders: Sequence[str],
        video_every: float | None,
        every: float,
        enrol: Callable[[Sequence[PictureFiles]], Summary],
        hooks: Hooks,
        stop: threading.Event,
    ):
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._video_every, self._every = video_every, every
        self._enrol, self._hooks, self._stop = enrol, hooks, stop
        self._changes = MountChanges()
        self._places: dict[tuple[str, int, int], Arrivals] = {}

    def __enter__(self) -> Watch:
        self._changes.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._changes.__exit__()

    def end(self) -> None:
        """Ask it to end: what is in work is committed first. Safe in a signal handler."""
        self._stop.set()
        self._changes.wake()

    def run(self) -> None:
        """Watch until ``end``. Raises what no waiting mends: a gallery of another pipeline, a missing network."""
        log.info("watching %s; Ctrl-C or SIGTERM ends it", ", ".join(self._folders))
        while not self._stop.is_set():
            started = time.monotonic()
            self._find_places()
            ready = [place for place in self._places.values() if place.look()]
            looking = time.monotonic() - started
            went_well = self._round(ready) if ready else True
            if self._stop.is_set():
                break
            growing = any(place.growing for place in self._places.values())
            pause = SETTLED_SECONDS if growing else self._every
            self._changes.wait(max(pause, looking / _SHARE, 0.0 if went_well else _AGAIN_SECONDS))

    def _round(self, ready: Sequence[Arrivals]) -> bool:
        """Enrol what is ready; False where that has to be tried again."""
        try:
            summary = self._enrol(ready)
            for place in ready:
                if place.uri not in summary.lost and not summary.stopped:
                    place.take()
            summary.require_sources()
        except (SourceError, StorageError) as error:
            log.error("%s", error)
            self._hooks.failed(error)
            return isinstance(error, SourceError)
        except Exception as error:
            self._hooks.failed(error)
            raise
        if not summary.stopped:
            self._hooks.ended(summary)
        return True

    def _find_places(self) -> None:
        """The watched folders and every medium below them; one that was changed for another is a new place."""
        found = {}
        for folder in self._folders:
            for place in (folder, *mounts_below(folder)):
                try:
                    status = os.stat(place)
                except OSError:
                    continue
                key = (place, status.st_dev, status.st_ino)
                found[key] = self._places.get(key) or Arrivals(place, self._video_every)
        for gone in self._places.keys() - found.keys():
            log.info("%s is gone; its pictures stay in the gallery", gone[0])
        for new in found.keys() - self._places.keys():
            log.info("%s is here", new[0])
        self._places = found
