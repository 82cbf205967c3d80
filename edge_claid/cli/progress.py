"""How far a long job is: a bar where stderr is a terminal, else a plain line every 10 seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY_SECONDS = 10.0


class FileProgress:
    """Counts files as they are done. Use in a ``with`` block.

    count: tells how many there are; runs in the background, as a walk over a large stick takes its time.
    """

    def __init__(self, what: str, count: Callable[[], int]):
        self._what = what
        self._count = count
        self._total: int | None = None
        self._done: Counter[str] = Counter()
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._bar: Progress | None = None

    def __enter__(self) -> FileProgress:
        threading.Thread(target=self._find_total, name="count files", daemon=True).start()
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            # Rich would send stdout to stderr with the bar, so it may touch stdout only where that is the terminal too.
            terminal = sys.stdout.isatty()
            self._bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=terminal, transient=True)
            self._task = self._bar.add_task(self._what, total=None)
            self._bar.start()
        else:
            threading.Thread(target=self._tell_now_and_then, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()

    def advance(self, status: str) -> None:
        """One more file is done."""
        self._done[status] += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=1, total=self._total, description=f"{self._what} {self._rate():.1f}/s")

    def line(self) -> str:
        """Where it stands, in words."""
        done = sum(self._done.values())
        total = f" of {self._total}" if self._total else ""
        left = ""
        if self._total and 0 < done < self._total:
            seconds = (time.monotonic() - self._started) * (self._total - done) / done
            left = f", about {seconds / 60:.0f} min left" if seconds >= 60 else f", about {seconds:.0f} s left"
        rejected = f", {self._done['rejected']} rejected" if self._done["rejected"] else ""
        return f"{self._what}: {done}{total} files, {self._rate():.1f} files/s{rejected}{left}"

    def _rate(self) -> float:
        return sum(self._done.values()) / max(time.monotonic() - self._started, 1e-3)

    def _find_total(self) -> None:
        self._total = self._count()

    def _tell_now_and_then(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            print(self.line(), file=sys.stderr, flush=True)
