"""Videos to key frames for the networks: hashed first, decoded one frame ahead, known frames settled undescribed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import BadImageError
from edge_claid.gallery.clips import Clip, frame_digest, frame_path
from edge_claid.gallery.enrolment.survey import Fetched, FileSource, Finding, Survey
from edge_claid.gallery.storage.rows import UNFINISHED
from edge_claid.records import Frame


@dataclass(frozen=True)
class Video:
    """A video that a stat did not settle."""

    finding: Finding
    source: FileSource
    file: Any


class ClipFeed:
    """settle, reject: told of findings, as in Feed. halted: number of a source to whether it is read no further."""

    def __init__(
        self,
        survey: Survey,
        settle: Callable[[Finding], None],
        reject: Callable[[Finding, BadImageError], None],
        halted: Callable[[int], bool],
        pool: ThreadPoolExecutor,
    ):
        self._survey = survey
        self._settle = settle
        self._reject = reject
        self._halted = halted
        self._pool = pool

    def is_new(self, video: Video) -> bool:
        """Hash a video; False where that settled it."""
        return self._hashed(video) is not None

    def _hashed(self, video: Video) -> Fetched | None:
        finding = video.finding
        if self._halted(finding.source):
            return None
        try:
            fetched = self._pool.submit(video.source.digest, video.file).result()
        except BadImageError as error:
            self._reject(finding, error)
            return None
        self._survey.clip_by_content(finding, fetched, video.source.video_every)
        if finding.status == "new":
            return fetched
        self._settle(finding)
        return None

    def frames(self, video: Video) -> Iterator[tuple[Finding, Frame]]:
        """Frames of one video that have to be described; then its end is settled, unless it was not reached."""
        fetched = self._hashed(video)
        if fetched is None:
            return
        whole = video.finding
        assert whole.root is not None
        clip = Clip(whole.path, whole.relative, whole.root, whole.size, whole.mtime_ns, whole.digest)
        problem: BadImageError | None = None
        try:
            for seconds, frame in self._one_ahead(video.source.key_frames(video.file)):
                if self._halted(whole.source):
                    return
                if frame is None:
                    continue
                finding = self._frame(whole, clip, seconds)
                if finding.status == "new":
                    yield finding, frame
                else:
                    self._settle(finding)
        except BadImageError as error:
            problem = error
        self._end(video, fetched, clip, problem)

    def _end(self, video: Video, fetched: Fetched, clip: Clip, problem: BadImageError | None) -> None:
        whole = video.finding
        if problem is not None and (not clip.given or isinstance(problem.__cause__, OSError)):
            # Not read to its end, so the next run looks at it again.
            self._reject(whole, problem)
            return
        if video.source.facts(video.file) != (fetched.size, fetched.mtime_ns):
            self._reject(whole, BadImageError("changed while it was read"))
            return
        clip.problem = None if problem is None else str(problem).removeprefix(f"{whole.path}: ")
        whole.status, whole.clip = "clip", clip
        self._settle(whole)

    def _frame(self, whole: Finding, clip: Clip, seconds: float) -> Finding:
        place = frame_path(clip.relative, seconds)
        finding = Finding(
            frame_path(whole.path, seconds),
            place,
            whole.root,
            whole.source,
            size=clip.size,
            mtime_ns=UNFINISHED,
            digest=frame_digest(clip.digest, seconds),
            sidecar=whole.sidecar,
            clip=clip,
        )
        clip.places.add(place)
        clip.given += 1
        self._survey.frame_by_content(finding)
        return finding

    def _one_ahead(self, frames: Iterator[Any]) -> Iterator[Any]:
        """The next frame is decoded while the last one is worked on."""
        coming = self._pool.submit(next, frames, None)
        while (one := coming.result()) is not None:
            coming = self._pool.submit(next, frames, None)
            yield one
