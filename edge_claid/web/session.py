"""One source being looked up for the page, from start to end, and again if asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from edge_claid.errors import EdgeClaidError, UsageError
from edge_claid.live import Lookup
from edge_claid.web.live_view import LiveView

log = logging.getLogger(__name__)


class LiveSession:
    """Runs look-ups in a thread of its own. opened: a source and its look-up, ready to start, in a ``with`` block."""

    def __init__(self, shown: str, view: LiveView, opened: Callable[[], AbstractContextManager[Lookup]]) -> None:
        self.shown, self.view, self._opened = shown, view, opened
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._lookup: Lookup | None = None
        self._closed = False

    def start(self) -> None:
        """Begin; returns at once. Raises UsageError where it runs already."""
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                raise UsageError("the source is being looked up already")
            self._thread = threading.Thread(target=self._run, name="live session", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the look-up in good order."""
        with self._lock:
            self._closed = True
            thread, lookup = self._thread, self._lookup
        if lookup is not None:
            lookup.stop_soon()
        if thread is not None:
            thread.join()

    @property
    def lookup(self) -> Lookup | None:
        """What runs now."""
        return self._lookup

    def _run(self) -> None:
        try:
            with self._opened() as lookup:
                with self._lock:
                    if self._closed:
                        return
                    self._lookup = lookup
                self.view.begin(lookup.metrics)
                try:
                    lookup.start()
                    lookup.wait()
                finally:
                    lookup.stop()
            self.view.ended("")
        except EdgeClaidError as error:
            log.warning("the look-up has ended: %s", error)
            self.view.ended(str(error))
        except Exception as error:
            log.exception("the look-up has ended")
            self.view.ended(f"unexpected {type(error).__name__}: {error}")
        finally:
            self._lookup = None
