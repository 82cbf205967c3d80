"""The capture process itself: one thread grabs, one hands the newest frame over, one listens for requests."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from edge_claid.capture.grabber import CaptureError, Grabber
from edge_claid.capture.wire import Captured, End, Failure, Message, write_message

# Seconds between the parent's going and this process's own end, whatever the source is blocked in.
_GRACE = 1.5


def _ffmpeg(settings: dict[str, Any]) -> Grabber:
    from edge_claid.capture.ffmpeg import FFmpegGrabber

    return FFmpegGrabber(settings)


def _gstreamer(settings: dict[str, Any]) -> Grabber:
    from edge_claid.capture.gstreamer import GStreamerGrabber

    return GStreamerGrabber(settings)


# Each imports what it needs only when it is the one asked for.
GRABBERS: dict[str, Callable[[dict[str, Any]], Grabber]] = {"ffmpeg": _ffmpeg, "gstreamer": _gstreamer}


@dataclass(frozen=True)
class _Picture:
    content: Any
    number: int
    monotonic: float
    unix: float


class _Newest:
    """The newest picture and the requests for one. All methods may be called from any thread.

    stopped: nothing more is to be sent. last: what to say at the end, where something is to be said.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._picture: _Picture | None = None
        self._requests = 0
        self.stopped = False
        self.last: Message | None = None

    def put(self, picture: _Picture) -> None:
        with self._changed:
            self._picture = picture
            self._changed.notify_all()

    def request(self) -> None:
        with self._changed:
            self._requests += 1
            self._changed.notify_all()

    def stop(self, last: Message | None = None) -> None:
        with self._changed:
            self.last = self.last or last
            self.stopped = True
            self._changed.notify_all()

    def take(self) -> _Picture | None:
        """Wait until a picture is here and asked for; None once stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or (self._requests and self._picture))
            if self.stopped:
                return None
            self._requests -= 1
            picture, self._picture = self._picture, None
            self._changed.notify_all()
            return picture

    def drain(self) -> None:
        """Wait until the last picture has been taken."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self._picture is None)


def main() -> None:
    """Serve one source until stdin closes, or the source ends or fails."""
    # What libraries print must not fall between the messages: they keep a descriptor of their own.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    settings = json.loads(requests.readline())
    newest = _Newest()
    threading.Thread(target=_listen, args=(requests, newest), daemon=True).start()
    _serve(GRABBERS[settings["grabber"]](settings), newest, out)
    # Neither a library's threads nor its clean-up at exit may keep the process.
    os._exit(0)


def _serve(grabber: Grabber, newest: _Newest, out: IO[bytes]) -> None:
    sender = threading.Thread(target=_send, args=(grabber, newest, out), daemon=True)
    sender.start()
    with _failures_told(newest):
        grabber.open()
        number = 0
        while not newest.stopped:
            content = grabber.grab()
            if content is None:
                newest.drain()
                newest.stop(End())
                break
            newest.put(_Picture(content, number, time.monotonic(), time.time()))
            number += 1
    sender.join()
    if newest.last is not None:
        with contextlib.suppress(OSError):
            write_message(out, newest.last)
    grabber.close()


def _send(grabber: Grabber, newest: _Newest, out: IO[bytes]) -> None:
    with _failures_told(newest):
        while (picture := newest.take()) is not None:
            pixels = grabber.rgb(picture.content)
            write_message(out, Captured(pixels, picture.number, picture.monotonic, picture.unix))


def _listen(requests: IO[bytes], newest: _Newest) -> None:
    while requests.read(1):
        newest.request()
    newest.stop()
    time.sleep(_GRACE)
    os._exit(0)


@contextlib.contextmanager
def _failures_told(newest: _Newest):  # type: ignore[no-untyped-def]
    try:
        yield
    except CaptureError as error:
        newest.stop(Failure(str(error), error.kind))
    except BrokenPipeError:
        newest.stop()
    except Exception as error:
        # Its text is not passed on: a library may quote the address with its password.
        newest.stop(Failure(f"unexpected {type(error).__name__} in the capture process"))
