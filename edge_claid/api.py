"""What Python users call: a gallery that enrols and searches by itself.

with edge_claid.Pipeline.open() as pipeline, edge_claid.Gallery.open("shop.claid") as gallery:
    gallery.enroll("photos/", pipeline)
    for hit in gallery.search(pipeline.describe("query.jpg", box=(120, 80, 340, 300)), k=10):
        print(hit.image, hit.score, hit.box)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from edge_claid import ops
from edge_claid.codes.space import regions_needed
from edge_claid.errors import UsageError
from edge_claid.frames.source import open_pictures
from edge_claid.gallery import store
from edge_claid.gallery.enrolment.budget import Estimate
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome, Summary
from edge_claid.gallery.labels import Labels, read_labels
from edge_claid.gallery.lookup.calibrate import keep_calibrated
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.storage.batch import Space
from edge_claid.gallery.training import trained_space
from edge_claid.pipeline import Pipeline
from edge_claid.records import Descriptors, Hit


class Gallery(store.Gallery):
    """A gallery file; see edge_claid.gallery.store.Gallery for all it can do."""

    _search: tuple[bool, GallerySearch] | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: str = "create",
        *,
        wait_seconds: float = 30.0,
        read_space: Callable[[bytes], Space] | None = None,
    ) -> Gallery:
        """Open a gallery, made where it is missing; mode "r" never writes. Raises GalleryError, StorageError."""
        opened = super().open(path, mode, wait_seconds=wait_seconds, read_space=read_space)
        assert isinstance(opened, Gallery)
        return opened

    def enroll(
        self,
        source: str | os.PathLike[str],
        pipeline: Pipeline,
        *,
        label: str | None = None,
        labels: str | os.PathLike[str] | None = None,
        prune: bool = False,
        keep_descriptors: bool | None = None,
        video_every: float | None = 1.0,
        report: Callable[[Outcome], None] = lambda outcome: None,
        planned: Callable[[Estimate], None] = lambda estimate: None,
        training: Callable[[str, int, int], None] = lambda what, done, total: None,
        stop: threading.Event | None = None,
    ) -> Summary:
        """Bring the gallery in step with a folder, a picture, a video or a glob; what is known costs nothing.

        label: for every picture. labels: a CSV table of path and label. keep_descriptors: keep float descriptors beside
        the codes (None: as the gallery is set). video_every: seconds between key frames of videos, None for no videos.
        report: told of every file once it is stored. planned: told what disk and memory it will take, before the work.
        training: told of a code space's training: what, done, of how much. stop: once set, the run ends after what is
        in work. Raises UsageError, GalleryError, StorageError, and SourceError where the source was lost on the way;
        a picture that cannot be used is reported as rejected and the rest goes on.
        """
        pictures = open_pictures(source, video_every)
        codes = pipeline.settings.codes
        options = EnrollOptions(
            labels=_labels(label, labels),
            prune=prune,
            keep_descriptors=keep_descriptors,
            train=lambda gallery, describer: trained_space(gallery, codes, pipeline, told=training),
            train_least=max(EnrollOptions.train_least, regions_needed(codes)),
            training=training,
            planned=planned,
            stop=stop or threading.Event(),
        )
        summary = enroll(self, [pictures], pipeline, options, report)
        if not summary.stopped:
            keep_calibrated(self, ops.load().code_scan, pipeline, training)
        summary.require_sources()
        return summary

    def search(self, query: Descriptors, k: int = 10, *, exact: bool = False) -> list[Hit]:
        """The k best images for what ``pipeline.describe`` gave, best first; k = 0 for all.

        exact: score by float descriptors where the gallery keeps them. The gallery is read into memory at the first
        call, and what was changed since at the others. Raises GalleryError, UsageError.
        """
        if self._search is None or self._search[0] != exact:
            self._search = (exact, GallerySearch(self, ops.load().code_scan, exact=exact))
        else:
            self._search[1].refresh()
        return self._search[1].query(query, k)


def _labels(label: str | None, labels: str | os.PathLike[str] | None) -> Labels:
    if label is not None and labels is not None:
        raise UsageError("label and labels exclude each other")
    return Labels(text=label) if labels is None else read_labels(labels)
