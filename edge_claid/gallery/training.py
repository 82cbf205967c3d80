"""A code space for a gallery, learned from the gallery itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from edge_claid.codes.space import CodeSpace, train_space
from edge_claid.config import CodeSettings
from edge_claid.gallery.drift import TRAINED_ON
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)


class ViewDescriber(Protocol):
    """What training needs of a pipeline."""

    def view_scatter(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> np.ndarray | None:
        """Scatter (D, D) of descriptors over augmented views of (file, boxes), None where none can be read."""


def trained_space(
    gallery: Gallery, settings: CodeSettings, pipeline: ViewDescriber | None, within: np.ndarray | None = None
) -> CodeSpace:
    """Fit projection and code book on the gallery's stored descriptors.

    pipeline: describes views of some of the gallery's own pictures for the whitening; None, or pictures that are out of
    reach, leave that part out. within: that scatter where it is known already. Raises UsageError for too few regions.
    """
    descriptors = gallery.descriptors(TRAINED_ON)
    if within is None and pipeline is not None and settings.views:
        within = own_views(gallery, settings, pipeline)
    return train_space(descriptors, settings, within=within)


def own_views(gallery: Gallery, settings: CodeSettings, pipeline: ViewDescriber) -> np.ndarray | None:
    """Scatter (D, D) of the descriptors of regions over views, from pictures spread evenly over the gallery."""
    rows = list(gallery.images())
    spread = np.unique(np.linspace(0, len(rows) - 1, settings.views).round().astype(int)) if rows else ()
    chosen = [rows[i] for i in spread]
    places = {root.id: root.location for root in all_roots(gallery)}
    pictures = ((os.path.join(places[row.root_id], row.path), gallery.regions(row.id).boxes) for row in chosen)
    log.info("looking at %d of the gallery's pictures in several views", len(chosen))
    scatter = pipeline.view_scatter(pictures, settings.views_each)
    if scatter is None:
        log.warning("no picture of the gallery can be read; its code space is trained without views")
    return scatter
