"""How far a long job is: a bar where stderr is a terminal, else a plain line every 10 seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY_SECONDS = 10.0
# The rate is that of the last while: a folder of known files, told in a second, says nothing of the new ones after it.
_WINDOW_SECONDS = 60.0


class FileProgress:
    """Counts files as they are done. Use in a ``with`` block.

    count: tells how many there are; runs in the background, as a walk over a large stick takes its time. None where
    ``expect`` will tell. lines: what goes to stdout meanwhile is read by programs: at a terminal, which `ssh -t` and
    others pretend to be, a bar would break long lines of it.
    """

    def __init__(self, what: str, count: Callable[[], int] | None = None, lines: bool = False):
        self._what = what
        self._lines = lines
        self._count = count
        self._total: int | None = None
        self._done: Counter[str] = Counter()
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._phase: tuple[str, int, int, float] | None = None
        self._ended = threading.Event()
        self._bar: Progress | None = None

    def __enter__(self) -> FileProgress:
        if self._count is not None:
            threading.Thread(target=self._find_total, args=(self._count,), name="count files", daemon=True).start()
        if sys.stderr.isatty() and not (self._lines and sys.stdout.isatty()):
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

    def expect(self, total: int) -> None:
        """There are so many in all."""
        self._total = total
        self._marks = deque([(time.monotonic(), 0)])

    def advance(self, status: str) -> None:
        """One more file is done."""
        self._done[status] += 1
        self._phase = None
        now = time.monotonic()
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, sum(self._done.values())))
            while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_SECONDS:
                self._marks.popleft()
        if self._bar is not None:
            told = f"{self._what} {self._rate():.1f}/s"
            self._bar.update(self._task, completed=sum(self._done.values()), total=self._total, description=told)

    def phase(self, what: str, done: int, total: int) -> None:
        """Work of another kind, until the next ``advance``: so much of it is done."""
        same = self._phase is not None and self._phase[0] == what
        self._phase = (what, done, total, self._phase[3] if same and self._phase else time.monotonic())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=what)

    def line(self) -> str:
        """Where it stands, in words."""
        if self._phase is not None:
            what, done, total, since = self._phase
            seconds = time.monotonic() - since
            # One long step has no share that could be told.
            share = f"{done} of {total}, " if total > 1 else ""
            return f"{what}: {share}{seconds:.0f} s{_left(seconds, done, total)}"
        done = sum(self._done.values())
        of = f" of {self._total}" if self._total else ""
        left = ""
        if self._total and done < self._total and self._rate() > 0:
            left = _left(
                (time.monotonic() - self._marks[0][0]), done - self._marks[0][1], self._total - self._marks[0][1]
            )
        rejected = f", {self._done['rejected']} rejected" if self._done["rejected"] else ""
        return f"{self._what}: {done}{of} files, {self._rate():.1f} files/s{rejected}{left}"

    def _rate(self) -> float:
        since, before = self._marks[0]
        return (sum(self._done.values()) - before) / max(time.monotonic() - since, 1e-3)

    def _find_total(self, count: Callable[[], int]) -> None:
        self._total = count()

    def _tell_now_and_then(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            print(self.line(), file=sys.stderr, flush=True)


def _left(seconds: float, done: int, total: int) -> str:
    """Time left, where ``done`` of ``total`` took ``seconds``."""
    if not 0 < done < total:
        return ""
    left = seconds * (total - done) / done
    return f", about {left / 60:.0f} min left" if left >= 60 else f", about {left:.0f} s left"
