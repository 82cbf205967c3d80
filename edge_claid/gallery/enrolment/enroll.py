"""Enrolment: files to images in the gallery, in batches that are committed before they are reported.

Three things run at once: the feed (walk, read, hash, decode), the pipeline's networks, and, here, the commits.
An interruption at any moment leaves a sound gallery, and the same call goes on where it ended.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from edge_claid.errors import BadImageError, GalleryError, StorageError, UsageError
from edge_claid.gallery.clips import require_spacing
from edge_claid.gallery.drift import drift_warning
from edge_claid.gallery.enrolment.budget import estimate, require_reserve, require_room
from edge_claid.gallery.enrolment.changes import Changes
from edge_claid.gallery.enrolment.dry_run import rehearse
from edge_claid.gallery.enrolment.feed import Feed
from edge_claid.gallery.enrolment.handover import Handover
from edge_claid.gallery.enrolment.options import Describer, EnrollOptions
from edge_claid.gallery.enrolment.outcome import Outcome, Summary
from edge_claid.gallery.enrolment.prune import prune
from edge_claid.gallery.enrolment.survey import FileSource, Finding, Survey
from edge_claid.gallery.roots import all_roots, register_root
from edge_claid.gallery.store import Gallery

# A batch is committed when it holds so many files or its first has waited so long; each commit waits for the disk.
_BATCH_FILES, _BATCH_SECONDS = 64, 2.0

log = logging.getLogger(__name__)


def enroll(
    gallery: Gallery | None,
    sources: Sequence[FileSource],
    pipeline: Describer | None,
    options: EnrollOptions | None = None,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> Summary:
    """Bring the gallery in step with the sources; ``report`` is called for each file after its commit.

    gallery: open for writing; None only with ``dry_run``, for one that does not exist yet. pipeline: None only with
    ``dry_run``. Raises GalleryError where the gallery is of another pipeline, StorageError where it cannot be written
    or would not fit, and KeyboardInterrupt after what was ready has been committed. A source that is lost on the way
    ends its own part only and stands in the summary's ``lost``.
    """
    options = options or EnrollOptions()
    if options.prune and not all(source.whole for source in sources):
        raise UsageError("--prune needs folders as sources: a file or a pattern does not tell what else is gone")
    if options.dry_run:
        return rehearse(gallery, sources, options, report)
    if gallery is None or pipeline is None:
        raise ValueError("enrolment without dry_run needs a gallery and a pipeline")
    gallery.bind(pipeline.id, pipeline.describe_settings, pipeline.descriptor_dim, options.keep_descriptors)
    return _Enrolment(gallery, sources, pipeline, options, report).run()


class _Enrolment:
    """One run: the describing thread settles findings, this one commits and reports them."""

    def __init__(
        self,
        gallery: Gallery,
        sources: Sequence[FileSource],
        pipeline: Describer,
        options: EnrollOptions,
        report: Callable[[Outcome], None],
    ):
        self._gallery, self._pipeline, self._options, self._report = gallery, pipeline, options, report
        self._sources = [(source, register_root(gallery, source.root, source.name)) for source in sources]
        for source, root in self._sources:
            if source.video_every is not None:
                require_spacing(gallery, root, source.video_every)
        self._settled: Handover[Finding | Exception | None] = Handover(256)
        self._stop = options.stop
        self._survey = Survey(gallery, all_roots(gallery))
        self._feed = Feed(self._sources, self._survey, self._settled.put, self._stop)
        self._summary = Summary()
        self._changes = Changes(gallery, self._survey, options.labels)
        self._batch: list[Finding] = []
        self._uncoded = gallery.info().regions if gallery.space is None else None

    def run(self) -> Summary:
        started = time.monotonic()
        self._plan()
        describing = threading.Thread(target=self._describe, name="describe", daemon=True)
        describing.start()
        try:
            self._commit_settled()
        except BaseException as error:
            self._stop.set()
            self._drain(describing)
            if not isinstance(error, (StorageError, GalleryError)):
                self._commit()
            raise
        self._finish()
        self._summary.seconds = time.monotonic() - started
        return self._summary

    def _plan(self) -> None:
        """Tell what lies ahead; refuse what cannot fit."""
        options, path = self._options, self._gallery.path
        ahead = estimate(self._gallery, self._sources, self._pipeline.descriptor_dim, options, path)
        options.planned(ahead)
        require_room(ahead, path, options.reserve)

    def _describe(self) -> None:
        """In its own thread: every frame through the networks, each result to the committing thread."""
        try:
            for result in self._pipeline.describe_many(self._feed.frames()):
                finding = self._feed.waiting.popleft()
                if isinstance(result, BadImageError):
                    finding.status, finding.reason = "rejected", str(result).removeprefix(f"{finding.path}: ")
                elif isinstance(result, Exception):
                    raise result
                else:
                    finding.described = result
                self._settled.put(finding)
            self._settled.put(None)
        except Exception as error:
            # The committing thread raises it.
            self._settled.put(error)

    def _commit_settled(self) -> None:
        """Commit what the describing thread settles, until it ends. Raises what it raised."""
        due = time.monotonic() + _BATCH_SECONDS
        while True:
            with contextlib.suppress(queue.Empty):
                settled = self._settled.get(timeout=max(0.01, due - time.monotonic()))
                if settled is None:
                    return self._commit()
                if isinstance(settled, Exception):
                    raise settled
                self._batch.append(settled)
            if len(self._batch) >= _BATCH_FILES or time.monotonic() >= due:
                self._commit()
                due = time.monotonic() + _BATCH_SECONDS

    def _drain(self, describing: threading.Thread) -> None:
        """Take what the describing thread still gives until it ends, so that it never waits for room."""
        while describing.is_alive() or not self._settled.empty():
            with contextlib.suppress(queue.Empty):
                settled = self._settled.get(timeout=0.05)
                if isinstance(settled, Finding):
                    self._batch.append(settled)

    def _commit(self) -> None:
        if not self._batch:
            return
        require_reserve(self._gallery.path, sum(self._summary.counts.values()), self._options.reserve)
        with self._gallery.batch() as batch:
            applied = [self._changes.apply(batch, finding) for finding in self._batch]
        outcomes = [outcome for outcome in applied if outcome is not None]
        self._batch = []
        for outcome in outcomes:
            self._tell(outcome)
        if self._uncoded is not None:
            self._uncoded += sum(o.regions for o in outcomes if o.status in ("added", "replaced"))
            if self._uncoded >= self._options.train_early:
                self._train()

    def _finish(self) -> None:
        """After the last file: what is gone is removed, and a gallery that has grown enough gets its code space."""
        lost = self._feed.lost_now() if self._options.prune else self._feed.lost
        self._summary.lost = {self._sources[number][0].uri: reason for number, reason in self._feed.lost.items()}
        self._summary.stopped = self._stop.is_set()
        if self._summary.stopped:
            return
        for number, (source, root) in enumerate(self._sources):
            if not source.whole or number in lost:
                continue
            if self._options.prune:
                for outcome in prune(self._gallery, root, self._feed.listed.get(number, 0), self._changes.copies):
                    self._tell(outcome)
            with self._gallery.batch() as batch:
                batch.remove_displaced(root.id)
        if self._uncoded is not None and self._uncoded >= self._options.train_least:
            self._train()
        self._summary.outgrown = drift_warning(self._gallery)

    def _train(self) -> None:
        if self._options.train is None or self._gallery.space is not None:
            self._uncoded = None
            return
        log.info("training the gallery's code space")
        started = time.monotonic()
        space = self._options.train(self._gallery, self._pipeline)
        images, coded = len(self._gallery), 0

        def advance(more: int) -> None:
            nonlocal coded
            coded += more
            self._options.training("coding pictures in the new code space", coded, images)

        self._gallery.adopt_space(space, advance=advance)
        self._summary.training_seconds += time.monotonic() - started
        self._uncoded = None

    def _tell(self, outcome: Outcome) -> None:
        self._summary.counts[outcome.status] += 1
        self._report(outcome)
