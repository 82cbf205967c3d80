"""What Python users call: a gallery that enrols and searches by itself.

with edge_claid.Pipeline.open() as pipeline, edge_claid.Gallery.open("shop.claid") as gallery:
    gallery.enroll("photos/", pipeline)
    for hit in gallery.search(pipeline.describe("query.jpg", box=(120, 80, 340, 300)), k=10):
        print(hit.image, hit.score, hit.box)
"""

from __future__ import annotations

import os
from collections.abc import Callable

from edge_claid import ops
from edge_claid.codes.space import regions_needed
from edge_claid.errors import UsageError
from edge_claid.frames import open_source
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery import store
from edge_claid.gallery.batch import Space
from edge_claid.gallery.enroll import EnrollOptions, enroll
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.outcome import Outcome, Summary
from edge_claid.gallery.search import GallerySearch
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
        prune: bool = False,
        report: Callable[[Outcome], None] = lambda outcome: None,
    ) -> Summary:
        """Bring the gallery in step with a folder, a picture or a glob; what is known costs nothing.

        report: told of every file as it is settled. Raises UsageError, GalleryError, StorageError; a picture that
        cannot be used is reported as rejected and the rest goes on.
        """
        pictures = open_source(source)
        if not isinstance(pictures, PictureFiles):
            raise UsageError(f"{os.fspath(source)}: a video cannot be enrolled; enrol pictures or a folder of them")
        codes = pipeline.settings.codes
        options = EnrollOptions(
            labels=Labels(text=label),
            prune=prune,
            train=lambda gallery, describer: trained_space(gallery, codes, pipeline),
            train_least=max(EnrollOptions.train_least, regions_needed(codes)),
        )
        return enroll(self, [pictures], pipeline, options, report)

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
