"""One run of the capture process, seen from this side: started, asked for frames, ended whatever it does."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from typing import Any

from edge_claid.capture.wire import REQUEST, Failure, Message, WireError, read_message

if sys.platform == "linux":
    import fcntl

# The child sees the very modules that this process sees, wherever they were found.
_START = "import sys; sys.path[:] = sys.argv[1:]; from edge_claid.capture.child import main; main()"
# Seconds a child may take to let go of its source before it is killed: a little more than it gives itself.
_GRACE = 2.0


class CaptureProcess:
    """A child process that holds one source. settings: see the grabbers in edge_claid.capture.

    The settings go through its stdin, never its arguments, which every user of the machine can read.
    Raises OSError where no process can be started.
    """

    def __init__(self, settings: dict[str, Any]):
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._asked = False
        # A session of its own: Ctrl-C in the terminal is for this process, which then closes the source in order.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _widen(self._process.stdout)
        self._reader = threading.Thread(
            target=self._receive, args=(settings["most_pixels"],), name="edge-claid capture", daemon=True
        )
        self._reader.start()
        self._write(json.dumps(settings).encode() + b"\n")

    def next(self, timeout: float | None) -> Message | None:
        """The newest frame, or why there is none; None where nothing came within timeout (seconds)."""
        if not self._asked:
            self._asked = True
            self._write(REQUEST)
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        self._asked = False
        return message

    def close(self) -> None:
        """End the process; it never takes longer than some seconds."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            # A driver may hold even a killed process; then it is left to the system.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
        self._reader.join(_GRACE)
        if not self._reader.is_alive():
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _write(self, content: bytes) -> None:
        # A child that is gone is noticed by the reader.
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(content)
            self._process.stdin.flush()

    def _receive(self, most_pixels: int) -> None:
        last: Message | None = None
        try:
            assert self._process.stdout is not None
            while (message := read_message(self._process.stdout, most_pixels)) is not None:
                self._messages.put(message)
        except (WireError, OSError, ValueError, MemoryError) as error:
            last = Failure(str(error) or type(error).__name__)
        self._messages.put(last or Failure(self._death()))

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_GRACE)
            return "the capture process died" + (
                f" of signal {-code}" if code < 0 else f" (exit {code})" if code else ""
            )
        return "the capture process says no more"


def _widen(pipe: Any) -> None:
    """A pipe of Linux' largest size for all, 1 MB: a frame then passes in a few steps instead of hundreds."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
