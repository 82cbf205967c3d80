"""A watched folder: what has come into it since it was last looked at, once it has stopped growing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from edge_claid.frames.folder import PictureFile, PictureFiles

# Two looks this far apart that find a file the same prove that nobody writes to it; so does a time stamp that is older,
# unless the clock cannot be believed.
SETTLED_SECONDS = 2.0
_OLD_NS = 5_000_000_000
_YEAR_1980_NS = 315_532_800 * 1_000_000_000

_Facts = tuple[int, int, int]


class Arrivals(PictureFiles):
    """Lists only files that are new, or other than they were, since they were last ``taken``.

    growing: files that the last look found too young to be read.
    """

    def __init__(self, root: str, video_every: float | None = None):
        super().__init__(root, root, video_every=video_every, one_device=True)
        self._taken: dict[str, _Facts] = {}
        self._seen: dict[str, tuple[_Facts, float]] = {}
        self._ready: dict[str, tuple[PictureFile, _Facts]] = {}
        self.growing = 0

    def look(self) -> int:
        """Walk the folder; how many files are ready."""
        now = time.monotonic()
        taken, seen = self._taken, self._seen
        self._taken, self._seen, self._ready, self.growing = {}, {}, {}, 0
        for file in super().files():
            facts = (file.size, file.mtime_ns, _mtime(file.sidecar))
            if taken.get(file.relative) == facts:
                self._taken[file.relative] = facts
                continue
            first = seen.get(file.relative)
            since = first[1] if first is not None and first[0] == facts else now
            if file.problem or _old(file) or now - since >= SETTLED_SECONDS:
                self._ready[file.relative] = (file, facts)
            else:
                self.growing += 1
            self._seen[file.relative] = (facts, since)
        return len(self._ready)

    def files(self) -> Iterator[PictureFile]:
        """What the last look found ready."""
        for file, _ in list(self._ready.values()):
            yield file

    def take(self) -> None:
        """What was ready is done with, until it changes."""
        self._taken.update((name, facts) for name, (_, facts) in self._ready.items())
        for name in self._ready:
            self._seen.pop(name, None)
        self._ready = {}


def _old(file: PictureFile) -> bool:
    return _YEAR_1980_NS <= file.mtime_ns < time.time_ns() - _OLD_NS


def _mtime(path: str | None) -> int:
    try:
        return os.stat(path).st_mtime_ns if path is not None else 0
    except OSError:
        return 0
