"""A code space for a gallery, learned from the gallery itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from itertools import count
from typing import Protocol

import numpy as np

from edge_claid.codes.space import CodeSpace, require_trainable, train_space
from edge_claid.config import CodeSettings
from edge_claid.gallery.drift import TRAINED_ON
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)


# Told of a step of a training: what it is, how much of it is done, of how much.
Told = Callable[[str, int, int], None]


def untold(what: str, done: int, total: int) -> None:
    """For a training that nobody watches."""


class ViewDescriber(Protocol):
    """What training needs of a pipeline."""

    def view_scatter(
        self, pictures: Iterable[tuple[str, np.ndarray]], count: int, done: Callable[[], None] = lambda: None
    ) -> np.ndarray | None:
        """Scatter (D, D) of descriptors over augmented views of (file, boxes), None where none can be read.

        done: called after each picture.
        """


def trained_space(
    gallery: Gallery,
    settings: CodeSettings,
    pipeline: ViewDescriber | None,
    within: np.ndarray | None = None,
    told: Told = untold,
) -> CodeSpace:
    """Fit projection and code book on the gallery's stored descriptors.

    pipeline: describes views of some of the gallery's own pictures for the whitening; None, or pictures that are out of
    reach, leave that part out. within: that scatter where it is known already. Raises UsageError for too few regions.
    """
    descriptors = gallery.descriptors(TRAINED_ON)
    require_trainable(len(descriptors), settings)  # before minutes of looking at views
    if within is None and pipeline is not None and settings.views:
        within = own_views(gallery, settings, pipeline, told)
    told("training the code book", 0, 1)
    return train_space(descriptors, settings, within=within, parts=gallery.descriptor_parts)


def own_views(
    gallery: Gallery, settings: CodeSettings, pipeline: ViewDescriber, told: Told = untold
) -> np.ndarray | None:
    """Scatter (D, D) of the descriptors of regions over views, from pictures spread evenly over the gallery."""
    rows = list(gallery.images())
    spread = np.unique(np.linspace(0, len(rows) - 1, settings.views).round().astype(int)) if rows else ()
    chosen = [rows[i] for i in spread]
    places = {root.id: root.location for root in all_roots(gallery)}
    pictures = ((os.path.join(places[row.root_id], row.path), gallery.regions(row.id).boxes) for row in chosen)
    log.info("looking at %d of the gallery's pictures in several views", len(chosen))
    looked_at = count(1)

    def done() -> None:
        told("training on views of the gallery's pictures", next(looked_at), len(chosen))

    scatter = pipeline.view_scatter(pictures, settings.views_each, done)
    if scatter is None:
        log.warning("no picture of the gallery can be read; its code space is trained without views")
    return scatter
