"""A server put together: gallery, look-up, routes and socket, from start to end."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from edge_claid.frames import open_stream
from edge_claid.frames.address import without_credentials
from edge_claid.live import Lookup, PipelineLooker, Threshold, WatchedGallery
from edge_claid.live.answer import LiveEvent
from edge_claid.live.holdings import Holdings
from edge_claid.live.text_lines import EventLog
from edge_claid.pipeline import Pipeline
from edge_claid.runners.onnx_runner import usable_cores
from edge_claid.web.access import Access
from edge_claid.web.app import Server, create_app
from edge_claid.web.listening import listen
from edge_claid.web.live_view import LiveView
from edge_claid.web.paced import PacedStream
from edge_claid.web.seeking import Seeking
from edge_claid.web.service import GalleryService
from edge_claid.web.session import LiveSession

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 512
ENDING_SECONDS = 3  # what requests in work get to finish


class Running:
    """Use in a ``with`` block: the look-up starts with it and ends with it. pipeline, watched stay the caller's."""

    def __init__(
        self,
        path: Path,
        pipeline: Pipeline,
        watched: WatchedGallery,
        access: Access,
        source: str | None = None,
        match: float | None = None,
        vit_side: int | None = None,
    ) -> None:
        self._pipeline, self._watched, self._source = pipeline, watched, source
        self._vit_side = vit_side
        self._view = LiveView("off" if source is None else "starting")
        shown = "" if source is None else without_credentials(source)
        session = None if source is None else LiveSession(shown, self._view, self._opened)
        settings = pipeline.settings.live
        threshold = Threshold(match or settings.match, settings.expected_odds)
        self._seeking = Seeking(pipeline, settings, threshold, lambda: session.lookup if session else None)
        self.server = Server(GalleryService(path, pipeline, watched), self._view, session, access, self._seeking)
        self.app = create_app(self.server)
        self._ending = threading.Event()
        self._serving: uvicorn.Server | None = None
        self._watching = threading.Thread(target=self._watch_gallery, name="watch gallery", daemon=True)

    def __enter__(self) -> Running:
        self._watching.start()
        if self.server.session is not None:
            self.server.session.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._view.shut()
        self._watching.join()
        if self.server.session is not None:
            self.server.session.close()
        self.server.close()

    def serve(self, listener: socket.socket) -> None:
        """Answer requests until an interruption, which is raised at the end."""
        listen(listener)
        config = uvicorn.Config(
            self.app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=ENDING_SECONDS,
            h11_max_incomplete_event_size=64_000,
        )
        self._serving = _Endable(config, self._view)
        self._serving.run(sockets=[listener])

    def end(self) -> None:
        """Let ``serve`` return, from any thread."""
        self._view.shut()
        if self._serving is not None:
            self._serving.should_exit = True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Lookup]:
        assert self._source is not None
        settings = self._pipeline.settings.live
        with open_stream(self._source, wait=True) as stream:
            yield Lookup(
                PacedStream(stream),
                PipelineLooker(self._pipeline, self._vit_side),
                _Followed(self._watched),
                self._seeking.namer,
                settings,
                [self._view, EventLog()],
                workers=settings.workers or usable_cores(),
            )

    def _watch_gallery(self) -> None:
        """Changes of the gallery's file are taken up, whether or not a source is looked up."""
        while not self._ending.wait(self._pipeline.settings.live.gallery_seconds):
            event = self._watched.poll()
            if event is not None:
                self.server.notice = str(event.facts.get("reason", ""))
                if event.state == "refused":
                    log.warning("gallery: %s", self.server.notice)


class _Followed:
    """The watched gallery as the look-up sees it: it is brought up to date by the server, not by the look-up."""

    def __init__(self, watched: WatchedGallery) -> None:
        self._watched = watched

    @property
    def holdings(self) -> Holdings:
        return self._watched.holdings

    def poll(self) -> LiveEvent | None:
        return None


class _Endable(uvicorn.Server):
    """Streams never end by themselves: they are told when the server shall."""

    def __init__(self, config: uvicorn.Config, view: LiveView) -> None:
        super().__init__(config)
        self._view = view

    def handle_exit(self, sig: int, frame: object) -> None:
        self._view.shut()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]
