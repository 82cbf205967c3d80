"""The building process as its parent sees it: started, followed, held to its memory, judged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from edge_claid import errors
from edge_claid.engines.builder_process import Request
from edge_claid.engines.memory import RESERVE, OutOfMemoryError, available_bytes, resident_bytes, what_to_close
from edge_claid.errors import BuildError

_MB = 1 << 20
_LOOK_SECONDS = 0.2
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Built:
    """What building took: seconds, and the most memory the builder was seen to hold."""

    seconds: float
    memory: int


def run_builder(name: str, request: Request, allowed: int, progress: Progress = lambda phase, share: None) -> Built:
    """Build one engine in a process of its own.

    name: shown in messages. allowed: bytes it may hold; beyond them, and where the whole machine runs short, it is
    ended. progress: told the phase and how much of the build is done, 0 to 1.
    Raises BuildError with the library's reason, or that memory did not suffice; UsageError, MachineError, StorageError.
    """
    started = time.monotonic()
    command = [sys.executable, "-m", "edge_claid.engines.builder_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        watch = _Watch(child, allowed)
        said = _Tail(child.stderr)
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            # A builder that is gone already does not read; what it said last tells why.
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(request.as_json().encode())
            last = _follow(child.stdout, progress)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            watch.end()
    _judge(name, last, code, watch, said.text())
    return Built(time.monotonic() - started, watch.most)


class _Watch:
    """Looks at the builder's memory now and then, and ends it before it ends the machine."""

    def __init__(self, child: subprocess.Popen[bytes], allowed: int) -> None:
        self._child, self._allowed = child, allowed
        self.most = 0
        self.reason = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="builder memory", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            held, free = resident_bytes(self._child.pid), available_bytes()
            self.most = max(self.most, held or 0)
            if held is not None and held > self._allowed:
                self.reason = f"it held {held // _MB:,} MB and {self._allowed // _MB:,} MB were allowed"
            elif free is not None and free < RESERVE // 2:
                self.reason = f"the machine had {free // _MB:,} MB left while it held {(held or 0) // _MB:,} MB"
            if self.reason:
                self._child.kill()
                return


class _Tail:
    """The last of what a process writes to stderr, read as it comes so that it never waits for us."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream, self._kept = stream, b""
        self._thread = threading.Thread(target=self._read, name="builder messages", daemon=True)
        self._thread.start()

    def text(self) -> str:
        self._thread.join(2)
        lines = [line for line in self._kept.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else ""

    def _read(self) -> None:
        assert self._stream is not None
        while chunk := os.read(self._stream.fileno(), 1 << 14):
            self._kept = (self._kept + chunk)[-8192:]


def _follow(lines: IO[bytes], progress: Progress) -> dict[str, Any]:
    """Tell the builder's progress on; its last line."""
    share, last = _Share(), {}
    for raw in lines:
        last = json.loads(raw)
        if "phase" in last:
            progress(last["phase"], share.after(last))
    return last


class _Share:
    """How much of the build is done: the steps of the outermost phase, and within one those of the phase below it."""

    def __init__(self) -> None:
        self._outermost, self._step, self._steps = "", 0, 1
        self._done = 0.0

    def after(self, line: dict[str, Any]) -> float:
        steps = max(line["steps"], 1)
        if line["parent"] is None:
            self._outermost, self._step, self._steps = line["phase"], line["step"], steps
            share = self._step / self._steps
        elif line["parent"] == self._outermost:
            share = (self._step + line["step"] / steps) / self._steps
        else:
            share = self._done
        # Phases of one name come and go; what is told does not go back.
        self._done = max(self._done, min(share, 1.0))
        return self._done


def _judge(name: str, last: dict[str, Any], code: int, watch: _Watch, said: str) -> None:
    if last.get("done") and code == 0:
        return
    short = watch.reason
    if not short and (
        last.get("failed") == "memory" or code == -signal.SIGKILL or "out of memory" in str(last).lower()
    ):
        short = "the system or the GPU had none left"
    if short:
        raise OutOfMemoryError(f"building {name} ran out of memory ({short}): {what_to_close()}")
    if "failed" in last:
        kind = getattr(errors, last["failed"], BuildError)
        raise kind(f"building {name} failed: {last['reason']}")
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    raise BuildError(f"building {name} failed: the builder {ended}" + (f" ({said})" if said else ""))
