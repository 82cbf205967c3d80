"""Files to frames ahead of the networks: walk, read, hash and decode in the background, bounded in memory.

Pictures come first, in the order of the walk, then the key frames of the videos.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from edge_claid.errors import BadImageError
from edge_claid.gallery.enrolment.clip_feed import ClipFeed, Video
from edge_claid.gallery.enrolment.presence import Presence
from edge_claid.gallery.enrolment.survey import Fetched, FileSource, Finding, Survey
from edge_claid.gallery.roots import Root
from edge_claid.records import Frame

# Held at once beyond the one picture in work: bytes of files read, bytes of pixels decoded, and how many of each.
READ_BYTES, PIXEL_BYTES, _AHEAD = 64_000_000, 192_000_000, 8


class Feed:
    """Frames of all files that need the networks; every other file goes to ``settle`` with its verdict.

    A finding leaves ``waiting`` from the left as its frame's description arrives. lost: number of a source to why it
    is held to be lost; nothing more is read from it, and what could not be read because of that is not settled.
    """

    def __init__(
        self,
        sources: Sequence[tuple[FileSource, Root | None]],
        survey: Survey,
        settle: Callable[[Finding], None],
        stop: threading.Event,
    ):
        self._sources = sources
        self._survey = survey
        self._settle = settle
        self._stop = stop
        self._presence = [Presence(source.root) for source, _ in sources]
        self._videos: list[Video] = []
        self.waiting: deque[Finding] = deque()
        self.listed: dict[int, int] = {}

    @property
    def lost(self) -> dict[int, str]:
        return {number: one.lost for number, one in enumerate(self._presence) if one.lost is not None}

    def lost_now(self) -> dict[int, str]:
        """As ``lost``, after every source was looked at once more."""
        for one in self._presence:
            one.look()
        return self.lost

    def frames(self) -> Iterator[Frame]:
        """Decoded frames, until the files or ``stop`` end them."""
        with ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2), "read") as pool:
            clips = ClipFeed(self._survey, self._settle, self.rejected, self._halted, pool)
            try:
                for finding, frame in self._decoded(pool):
                    self.waiting.append(finding)
                    yield frame
                for video in self._videos:
                    for finding, frame in clips.frames(video):
                        self.waiting.append(finding)
                        yield frame
            finally:
                # What is still queued would be read and decoded for nothing.
                pool.shutdown(wait=True, cancel_futures=True)

    def checked(self) -> Iterator[Finding]:
        """Files that would need the networks, nothing decoded: for a dry run."""
        with ThreadPoolExecutor(2, "read") as pool:
            for finding, _, _, _ in self._fetched(pool):
                yield finding
            clips = ClipFeed(self._survey, self._settle, self.rejected, self._halted, pool)
            for video in self._videos:
                if clips.is_new(video):
                    count = video.source.expected_frames(video.file)
                    video.finding.reason = f"a video of at most {count} key frames"
                    yield video.finding

    def rejected(self, finding: Finding, error: BadImageError) -> None:
        """A file that cannot be used; said of the file only where its source is still there."""
        cause = error.__cause__
        if isinstance(cause, OSError) and self._presence[finding.source].read_failed(cause):
            return
        finding.status, finding.reason = "rejected", str(error).removeprefix(f"{finding.path}: ")
        self._settle(finding)

    def _halted(self, source: int) -> bool:
        return self._stop.is_set() or self._presence[source].lost is not None

    def _decoded(self, pool: ThreadPoolExecutor) -> Iterator[tuple[Finding, Frame]]:
        ahead: deque[tuple[Finding, int, Future[Frame]]] = deque()
        held = 0
        for finding, source, fetched, pixel_bytes in self._fetched(pool):
            while ahead and (held + pixel_bytes > PIXEL_BYTES or len(ahead) >= _AHEAD):
                held -= ahead[0][1]
                yield from self._ready(*ahead.popleft())
            ahead.append((finding, pixel_bytes, pool.submit(source.decode, fetched, finding.path)))
            held += pixel_bytes
        while ahead:
            yield from self._ready(*ahead.popleft())

    def _ready(self, finding: Finding, _: int, future: Future[Frame]) -> Iterator[tuple[Finding, Frame]]:
        if self._stop.is_set():
            return
        try:
            frame = future.result()
        except BadImageError as error:
            self.rejected(finding, error)
        else:
            yield finding, frame

    def _fetched(self, pool: ThreadPoolExecutor) -> Iterator[tuple[Finding, FileSource, Fetched, int]]:
        """New pictures with their content and the bytes their pixels will take."""
        ahead: deque[tuple[int, Finding, FileSource, Future[tuple[Fetched, int] | None]]] = deque()
        held = 0
        for finding, source, file in self._unsettled():
            size = finding.size
            while ahead and (held + size > READ_BYTES or len(ahead) >= _AHEAD):
                held -= ahead[0][0]
                yield from self._looked_at(*ahead.popleft())
            held += size
            ahead.append((size, finding, source, pool.submit(self._look, source, file, finding)))
        while ahead:
            yield from self._looked_at(*ahead.popleft())

    def _unsettled(self) -> Iterator[tuple[Finding, FileSource, object]]:
        for number, (source, root) in enumerate(self._sources):
            for file in source.files():
                finding = self._survey.by_stat(file, root, number)
                if finding.status == "rejected":
                    # The walk met what it could not enter or look at.
                    self._presence[number].look()
                if self._halted(number):
                    break
                self.listed[number] = self.listed.get(number, 0) + (not file.folder)
                if finding.status != "new":
                    self._settle(finding)
                elif not file.video_by_name:
                    yield finding, source, file
                elif source.video_every is not None:
                    self._videos.append(Video(finding, source, file))
                else:
                    finding.status, finding.reason = "skipped", "a video; --video-every enrols its key frames"
                    self._settle(finding)

    def _look(self, source: FileSource, file: object, finding: Finding) -> tuple[Fetched, int] | None:
        """In a worker: content and hash. None where the finding is settled by them."""
        fetched = source.fetch(file)
        if fetched is None:
            finding.status, finding.reason = "skipped", "not a picture"
            return None
        self._survey.by_content(finding, fetched)
        if finding.status != "new":
            return None
        header, finding.exif = source.check(fetched, finding.path)
        return fetched, header.width * header.height * 3

    def _looked_at(
        self, _: int, finding: Finding, source: FileSource, future: Future[tuple[Fetched, int] | None]
    ) -> Iterator[tuple[Finding, FileSource, Fetched, int]]:
        if self._stop.is_set():
            return
        try:
            looked = future.result()
        except BadImageError as error:
            self.rejected(finding, error)
            return
        self._presence[finding.source].read_worked()
        if looked is None:
            self._settle(finding)
        else:
            yield finding, source, *looked
