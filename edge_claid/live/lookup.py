"""The look-up loop: a stream of frames in, an answer for each out, for days.

    capture -> networks (several frames at once) -> scan, votes -> sinks
     thread     pool of threads                     thread          a thread each

Between any two stages wait a bounded number of frames: a frame is taken from the source only when a place is free for
it. So a slow stage makes a file wait, and a live source, which always gives its newest frame, drop the rest.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from edge_claid.codes.projection import Projection
from edge_claid.config import LiveSettings
from edge_claid.errors import BadImageError, EdgeClaidError
from edge_claid.live.answer import Box, FrameAnswer, LiveEvent, Sighting
from edge_claid.live.holdings import Holdings
from edge_claid.live.look import Look, Looker
from edge_claid.live.metrics import LiveMetrics
from edge_claid.live.rate import FrameRate
from edge_claid.live.sinks import Sink, SinkThread
from edge_claid.live.tracks import Tracker
from edge_claid.records import SourceEvent, TimedFrame

log = logging.getLogger(__name__)

READ_SECONDS = 0.5  # how long a read of the source may keep a stop waiting


class Source(Protocol):
    """What the loop needs of edge_claid.frames.Stream; opened and closed by the caller."""

    live: bool

    @property
    def dropped(self) -> int: ...

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None: ...


class Namer(Protocol):
    """Regions of a look to sightings: a Recogniser or a Finder."""

    def sightings(
        self, look: Look, holdings: Holdings, expected: Sequence[tuple[str, Box]], frames_per_hour: float
    ) -> list[Sighting]: ...


class Watched(Protocol):
    """A gallery that may change meanwhile; see edge_claid.live.holdings.WatchedGallery."""

    @property
    def holdings(self) -> Holdings: ...

    def poll(self) -> LiveEvent | None: ...


class Lookup:
    """One running look-up: ``start``, then ``wait`` or go on with other things, then ``stop``.

    source, looker, gallery stay the caller's and must outlive the run. sinks: where answers go from the first frame on;
    others may ``subscribe`` at any time. What is sought may be changed at any time by ``name_with``.
    """

    def __init__(
        self,
        source: Source,
        looker: Looker,
        gallery: Watched,
        namer: Namer,
        settings: LiveSettings,
        sinks: Sequence[Sink] = (),
        *,
        workers: int = 1,
    ) -> None:
        self.metrics = LiveMetrics()
        self._source, self._looker, self._gallery, self._settings = source, looker, gallery, settings
        self._namer, self._tracker, self._rate = namer, Tracker(settings), FrameRate()
        self._renamed = False
        self._projection: Projection | None = None
        self._workers = workers
        # A file's next frame is decoded while the networks are busy; a live frame would only grow old meanwhile.
        self._places = threading.Semaphore(workers + (0 if source.live else 1))
        self._captured: queue.SimpleQueue[tuple[TimedFrame, Future[Look]] | SourceEvent | None] = queue.SimpleQueue()
        self._stopping, self._done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._sinks: dict[int, SinkThread] = {}
        self._threads: list[threading.Thread] = []
        self.source_state = "starting"
        for sink in sinks:
            self.subscribe(sink)

    # -- what a server or the command line calls

    def start(self) -> None:
        """Begin; returns at once."""
        parts = {"capture": self._capture, "answer": self._answer, "gallery": self._watch_gallery}
        for name, work in parts.items():
            thread = threading.Thread(target=self._guarded, args=(work,), name=f"live {name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the source or a stop; True once there is nothing more to come."""
        return self._done.wait(timeout)

    def stop(self, patience: float | None = None) -> None:
        """End the run: frames on their way are answered, sinks finish, threads end. Raises what ended the run early.

        patience: seconds after which an output that takes nothing any more is left behind; None to wait for ever.
        """
        self._stopping.set()
        if patience is not None:
            with self._lock:
                for sink in self._sinks.values():
                    sink.hurry(patience)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        with self._lock:
            sinks, self._sinks = list(self._sinks.values()), {}
        summary = LiveEvent("summary", "ended", time.time(), self.metrics.summary())
        for sink in sinks:
            sink.put(summary)
        for sink in sinks:
            sink.close()
        if self._error is not None:
            raise self._error

    def stop_soon(self) -> None:
        """Ask for the end without waiting for it, from any thread; ``wait`` then returns."""
        self._stopping.set()

    def subscribe(self, sink: Sink) -> None:
        """Give this sink all answers and events from now on."""
        with self._lock:
            self._sinks[id(sink)] = SinkThread(sink, self._sink_failed)

    def unsubscribe(self, sink: Sink) -> None:
        """Give it no more; it is closed after what already waits for it."""
        with self._lock:
            thread = self._sinks.pop(id(sink), None)
        if thread is not None:
            thread.close()

    def name_with(self, namer: Namer) -> None:
        """Seek something else from the next frame on; tracks start anew."""
        with self._lock:
            self._namer, self._renamed = namer, True

    def announce(self, event: LiveEvent) -> None:
        """Tell all sinks of something that happened."""
        with self._lock:
            sinks = list(self._sinks.values())
        for sink in sinks:
            sink.put(event)

    # -- threads

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            if self._error is None:
                self._error = error
            self._stopping.set()
        finally:
            if work != self._watch_gallery:
                self._captured.put(None)

    def _capture(self) -> None:
        with ThreadPoolExecutor(self._workers, "live look") as workers:
            while not self._stopping.is_set():
                if not self._places.acquire(timeout=READ_SECONDS):
                    continue
                found = self._read()
                if isinstance(found, TimedFrame):
                    self.metrics.captured(self._source.dropped)
                    self._captured.put((found, workers.submit(self._looker.look, found.frame)))
                    continue
                self._places.release()
                if found is not None:
                    self._captured.put(found)
                    if found.state == "ended":
                        return

    def _read(self) -> TimedFrame | SourceEvent | None:
        """A frame, an event, or nothing yet. The time counts only for a file: a camera is waited for."""
        start = time.perf_counter()
        try:
            found = self._source.read(READ_SECONDS)
        except EdgeClaidError as error:
            # Who reads the answers alone learns it too, and why.
            self._captured.put(SourceEvent("ended", time.time(), str(error)))
            raise
        if isinstance(found, TimedFrame) and not self._source.live:
            self.metrics.stage("capture", time.perf_counter() - start)
        return found

    def _answer(self) -> None:
        try:
            while (captured := self._captured.get()) is not None:
                if isinstance(captured, SourceEvent):
                    self.source_state = captured.state
                    self.announce(_event_of(captured))
                    continue
                try:
                    self._answer_frame(*captured)
                finally:
                    self._places.release()
        finally:
            self._done.set()

    def _answer_frame(self, timed: TimedFrame, looking: Future[Look]) -> None:
        try:
            look = looking.result()
        except BadImageError as error:
            self.metrics.skipped()
            log.warning("frame %d is left out: %s", timed.number, error)
            return
        with self._lock:
            namer, renamed, self._renamed = self._namer, self._renamed, False
        if renamed:
            self._tracker.forget()
        # A live source's clock may be set meanwhile, time since boot may not; a clip's own time runs evenly.
        moment = timed.captured if self._source.live else timed.time
        clock = [time.perf_counter()]
        holdings = self._gallery.holdings
        if holdings.projection is not self._projection:
            # A gallery that grows, or is replaced, may project descriptors otherwise, to another number of dimensions.
            self._projection = holdings.projection
            self._tracker.forget_looks()
        expected = self._tracker.names_at(moment)
        found = namer.sightings(look, holdings, expected, self._rate.per_hour(moment))
        clock.append(time.perf_counter())
        tracks = self._tracker.update(found, moment, timed.frame.size)
        clock.append(time.perf_counter())
        stages = {**look.stages, "scan": clock[1] - clock[0], "votes": clock[2] - clock[1]}
        latency = max(0.0, time.monotonic() - timed.captured)
        for name, seconds in stages.items():
            self.metrics.stage(name, seconds)
        self.metrics.answered(latency, Counter(track.state for track in tracks))
        milliseconds = {name: round(seconds * 1000, 2) for name, seconds in stages.items()}
        self._give(FrameAnswer(timed.frame, timed.number, timed.time, latency * 1000, tracks, milliseconds))

    def _give(self, answer: FrameAnswer) -> None:
        start = time.perf_counter()
        with self._lock:
            sinks = list(self._sinks.values())
        for sink in sinks:
            sink.put(answer)
        self.metrics.stage("output", time.perf_counter() - start)

    def _watch_gallery(self) -> None:
        while not (self._stopping.is_set() or self._done.is_set()):
            self._done.wait(self._settings.gallery_seconds)
            event = self._gallery.poll()
            if event is not None:
                self.announce(event)

    def _sink_failed(self, sink: Sink, error: Exception) -> None:
        """A sink that must have every frame ends the run; another is only left out."""
        with self._lock:
            self._sinks.pop(id(sink), None)
        if sink.lossless:
            if self._error is None:
                self._error = error
            self._stopping.set()
        else:
            level = logging.WARNING if isinstance(error, EdgeClaidError) else logging.DEBUG
            log.log(level, "an output was dropped: %s", error)


def _event_of(event: SourceEvent) -> LiveEvent:
    return LiveEvent("source", event.state, event.time, {"reason": event.reason} if event.reason else {})
