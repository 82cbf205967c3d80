"""The pictures behind a gallery, as a network learns from them: with the boxes that the gallery has of them."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np

from edge_claid.errors import GalleryError
from edge_claid.frames.reading import read_picture
from edge_claid.gallery.clips import file_of
from edge_claid.gallery.drift import TRAINED_ON
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.store import Gallery
from edge_claid.learn.finetune import TrainingPicture
from edge_claid.records import Frame


class InputMaker(Protocol):
    """What learning from pictures needs of a pipeline."""

    def descriptor_input(self, frame: Frame) -> np.ndarray:
        """(1, 3, H, W) float32, what the convolutional network sees of a picture."""


class GalleryPictures:
    """Images of a gallery, evenly spread, with about ``most`` regions in all.

    Raises GalleryError at once where a picture of any image is gone: the gallery could not be moved afterwards.
    """

    def __init__(self, gallery: Gallery, pipeline: InputMaker, most: int = TRAINED_ON) -> None:
        places = {root.id: root.location for root in all_roots(gallery)}
        rows = [(row, os.path.join(places[row.root_id], row.path)) for row in gallery.images()]
        missing = [path for _, path in rows if not os.path.lexists(file_of(path))]
        if missing:
            raise GalleryError(
                f"gallery {gallery.path}: the pictures of {len(missing)} images are gone (first: {missing[0]}); bring "
                f"them back, or remove those images: `edge-claid gallery reencode {gallery.path} --drop-missing`"
            )
        share = min(1.0, most / max(sum(row.regions for row, _ in rows), 1))
        chosen = np.linspace(0, max(len(rows) - 1, 0), round(len(rows) * share)).round().astype(int)
        self._gallery, self._pipeline = gallery, pipeline
        self._rows = [rows[i] for i in chosen if rows[i][0].regions]

    @property
    def regions(self) -> list[int]:
        """How many regions each picture has."""
        return [row.regions for row, _ in self._rows]

    def __getitem__(self, index: int) -> TrainingPicture:
        """Raises BadImageError for one that cannot be read, GalleryError for one of another size than it was."""
        row, path = self._rows[index]
        frame = read_picture(path)
        if frame.size != (row.width, row.height):
            raise GalleryError(f"{path} has changed since it was enrolled: enrol its folder again")
        boxes = np.ascontiguousarray(self._gallery.regions(row.id).boxes, np.float32)
        return TrainingPicture(self._pipeline.descriptor_input(frame)[0], boxes, frame.size)
