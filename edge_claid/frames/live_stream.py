"""A live source that is lost and found again: watchdog, back-off with jitter, and the whole source opened anew."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

from edge_claid.capture.wire import Captured, End, Failure
from edge_claid.errors import EdgeClaidError, MachineError, SourceLostError, UsageError
from edge_claid.frames.address import Address, without_credentials
from edge_claid.frames.capture_process import CaptureProcess
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.records import Frame, SourceEvent, TimedFrame

_ERRORS: dict[str, type[EdgeClaidError]] = {"lost": SourceLostError, "machine": MachineError, "usage": UsageError}


@dataclass(frozen=True)
class Patience:
    """How long a live source is waited for, in seconds.

    open: for a connection. first: from the start of opening to the first frame (cameras with rare key frames take
    long). stalled: between frames. retry: before the first attempt to open it anew; each further attempt waits twice as
    long, up to longest, and each by a random factor of 0.5 to 1.5, so that many clients do not come back at once.
    """

    open: float = 10.0
    first: float = 30.0
    stalled: float = 5.0
    retry: float = 0.5
    longest: float = 30.0

    def before(self, attempt: int) -> float:
        """Seconds to wait before an attempt, from 1."""
        return min(self.longest, self.retry * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.5)


class LiveStream:
    """The newest frame of a camera, a network stream or a pipeline; see frames.stream.Stream.

    A source that cannot be opened at the start is given up at once, unless wait is asked for. Later it is opened anew
    until it gives frames, at most max_reconnects times in a row. One thread reads; any may close.
    """

    live = True

    def __init__(
        self,
        address: Address,
        *,
        max_reconnects: int | None = None,
        wait: bool = False,
        patience: Patience | None = None,
        limits: ReadLimits | None = None,
    ):
        self.shown = address.shown
        self.dropped = 0
        self._patience = patience or Patience()
        self._settings = address.settings | {
            "most_pixels": (limits or ReadLimits()).pixels,
            "open_seconds": self._patience.open,
            "read_seconds": self._patience.stalled,
        }
        self._most = max_reconnects
        self._wait = wait
        self._capture: CaptureProcess | None = None
        self._closed = threading.Event()
        self._closing = threading.Lock()
        self._ended: SourceEvent | None = None
        self._given_up: EdgeClaidError | None = None
        self._frame: TimedFrame | None = None
        self._number = 0  # of the next frame of this source
        self._first_number = 0  # what the capture process' own numbers start from
        self._been_up = False
        self._up = False
        self._attempt = 0  # attempts to open the source since it last gave a frame
        self._reason = ""
        self._left = 0.0  # monotonic time at which the reader went
        self._due = 0.0  # monotonic time at which the present state has lasted too long, or a wait is over

    def __enter__(self) -> LiveStream:
        self._open()
        self._left = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the source; a read in another thread returns "ended"."""
        self._closed.set()
        self._release()

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        """See Stream. Raises MachineError or UsageError where the source can never be opened on this machine."""
        now = time.monotonic()
        if self._capture is not None:
            # Only time in which a frame is waited for counts: a reader that was busy for long is no stalled source.
            self._due += now - self._left
        try:
            return self._read(None if timeout is None else now + timeout)
        finally:
            self._left = time.monotonic()

    def _read(self, until: float | None) -> TimedFrame | SourceEvent | None:
        while True:
            if self._closed.is_set():
                self._ended = self._ended or SourceEvent("ended", time.time(), "closed")
            if self._ended is not None:
                return self._ended
            if self._given_up is not None:
                raise self._given_up
            if self._frame is not None:
                frame, self._frame = self._frame, None
                return frame
            answer = self._step(until)
            if answer is not None:
                return answer
            if until is not None and time.monotonic() >= until:
                return None

    def _step(self, until: float | None) -> TimedFrame | SourceEvent | None:
        """Wait for what comes next in the present state, at most until its end or the caller's."""
        now = time.monotonic()
        wait = max(0.0, (self._due if until is None else min(self._due, until)) - now)
        capture = self._capture
        if capture is None:
            self._closed.wait(wait)
            return self._reopen() if time.monotonic() >= self._due and not self._closed.is_set() else None
        message = capture.next(wait)
        if isinstance(message, Captured):
            return self._received(message)
        if isinstance(message, End):
            self._release()
            self._ended = SourceEvent("ended", time.time())
        elif isinstance(message, Failure):
            return self._lost(message)
        elif time.monotonic() >= self._due:
            limit = self._patience.stalled if self._up else self._patience.first
            return self._lost(Failure(f"no frame for {limit:g} s"))
        return None

    def _received(self, message: Captured) -> TimedFrame | SourceEvent:
        number = self._first_number + message.number
        self.dropped += number - self._number
        self._number = number + 1
        self._due = time.monotonic() + self._patience.stalled
        frame = TimedFrame(Frame(message.pixels, self.shown), number, message.unix, message.monotonic)
        back = self._been_up and not self._up
        self._up = self._been_up = True
        self._attempt = 0
        if not back:
            return frame
        self._frame = frame
        return SourceEvent("back", time.time())

    def _lost(self, failure: Failure) -> SourceEvent | None:
        if self._closed.is_set():
            return None
        self._release()
        was_up, self._up = self._up, False
        # GStreamer quotes the value of a property that it does not take.
        self._reason = without_credentials(failure.reason)
        refused = not self._been_up and not self._wait
        if failure.kind != "lost" or refused or (self._most is not None and self._attempt >= self._most):
            after = f" (given up after {self._attempt} attempts to open it anew)" if self._attempt else ""
            self._given_up = _ERRORS[failure.kind](f"{self.shown}: {self._reason}{after}")
        self._attempt += 1
        self._due = time.monotonic() + self._patience.before(self._attempt)
        return SourceEvent("lost", time.time(), self._reason) if was_up else None

    def _reopen(self) -> SourceEvent | None:
        self._open()
        return SourceEvent("reconnecting", time.time(), f"attempt {self._attempt}: {self._reason}")

    def _open(self) -> None:
        self._first_number = self._number
        self._due = time.monotonic() + self._patience.first
        with self._closing:
            if self._closed.is_set():
                return
            try:
                self._capture = CaptureProcess(self._settings)
                return
            except OSError as error:
                failure = Failure(f"no capture process can be started ({error.strerror or error})")
        self._lost(failure)

    def _release(self) -> None:
        with self._closing:
            capture, self._capture = self._capture, None
            if capture is not None:
                capture.close()
