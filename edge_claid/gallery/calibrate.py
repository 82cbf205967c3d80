"""How likely a score means a true match, learned from the gallery's own pictures.

What is judged is a picture's best score for an item, as a frame of a stream is judged. False side: the best scores of
pictures for items they do not show (of other labels; where nothing is labelled, for other pictures). True side:
augmented views of a picture, scored for that picture's own item. Nothing is annotated for it.

Two things keep this honest. A gallery holds pairs of pictures of one thing that no label tells of: the false side is a
Gumbel distribution through the lower quantiles of the scores, which such pairs do not move. And a thing is met in other
light and from other sides than any augmented view shows: half of the true side is spread evenly from the middle of the
false scores up to the middle of the views'.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from edge_claid.errors import EdgeClaidError
from edge_claid.gallery import calibration
from edge_claid.gallery.calibration import Calibration
from edge_claid.gallery.region_lookup import look_up
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.rows import ImageRow
from edge_claid.gallery.search import GallerySearch
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)

PICTURES, VIEWS = 48, 2  # pictures of the gallery that are looked at, and augmented views of each
QUERIES = 6  # regions of a view that stand for queries of a search


class ViewDescriber(Protocol):
    """What calibration needs of a pipeline."""

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """Descriptors (1 + count, R, D) of (file, boxes) and augmented views, in order; None: it cannot be read."""


def calibrate(
    gallery: Gallery, frames: GallerySearch, queries: GallerySearch, pipeline: ViewDescriber
) -> dict[str, Calibration]:
    """Measure both sides on pictures spread evenly over the gallery; frames, queries: what each will be scored with.

    Gives the curves "frame" (a picture's best score for an item) and "search" (an image's score for one region as a
    query); one is missing where too few pictures can be read.
    """
    rows = list(gallery.images())
    labels = {row.id: row.label for row in rows}
    items = namable(labels)
    chosen = _spread([row for row in rows if row.id in items], PICTURES // 2)
    taken = {row.id for row in chosen}
    chosen += _spread([row for row in rows if row.id not in taken], PICTURES - len(chosen))
    places = {root.id: root.location for root in all_roots(gallery)}
    pictures = [(os.path.join(places[row.root_id], row.path), gallery.regions(row.id).boxes) for row in chosen]
    log.info("calibrating: looking at %d of the gallery's pictures in several views", len(chosen))
    sides: dict[str, tuple[list[float], list[float]]] = {"frame": ([], []), "search": ([], [])}
    for row, seen in zip(chosen, pipeline.described_views(pictures, VIEWS), strict=True):
        for view in () if seen is None else seen[1:]:
            own, others = _scores(frames, view, row.id, labels, items)
            sides["frame"][0].extend(own.max(axis=0))
            sides["frame"][1].extend([others.max()] if others.size else ())
            some = view[np.unique(np.linspace(0, len(view) - 1, QUERIES).round().astype(int))]
            own, others = _scores(queries, some, row.id, labels, set(labels))
            sides["search"][0].extend(own.ravel())
            sides["search"][1].extend(others.max(axis=1) if others.size else ())
    found = {}
    for kind, search in (("frame", frames), ("search", queries)):
        space = calibration.measured_with(gallery, search.scored_by)
        curve = calibration.fit(*map(np.array, sides[kind]), images=len(rows), space=space)
        if curve is not None:
            found[kind] = curve
    if "frame" not in found:
        log.warning("too few pictures of the gallery can be read to calibrate it; `match` stays unknown")
    return found


def calibrated(
    gallery: Gallery, frames: GallerySearch, queries: GallerySearch, pipeline: ViewDescriber
) -> Calibration | None:
    """The stored curve of frames, or one measured now and stored where the gallery can be written."""
    found = calibration.stored(gallery, "frame", frames.scored_by)
    if found is not None or not len(gallery):
        return found
    curves = calibrate(gallery, frames, queries, pipeline)
    try:
        with Gallery.open(gallery.path, "rw", wait_seconds=2.0, read_space=gallery.space_reader) as writable:
            calibration.store(writable, curves)
    except EdgeClaidError as error:
        log.debug("calibration is not stored: %s", error)
    return curves.get("frame")


def namable(labels: Mapping[int, str | None]) -> set[int]:
    """Images whose items can be announced: those with a label, or all where none has one."""
    labelled = {image for image, label in labels.items() if label}
    return labelled or set(labels)


def _spread(rows: list[ImageRow], count: int) -> list[ImageRow]:
    places = np.unique(np.linspace(0, len(rows) - 1, max(count, 0)).round().astype(int)) if rows else ()
    return [rows[place] for place in places]


def _scores(
    search: GallerySearch, queries: np.ndarray, image_id: int, labels: Mapping[int, str | None], items: set[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of queries (Q, D) cut from an image: for it, (Q, 0 or 1), and for images of other items, (Q, n)."""
    own = [image_id] if image_id in items else []
    label = labels.get(image_id)
    other = {image for image in items if image != image_id and (not label or labels[image] != label)}
    matches = look_up(search, queries, k=2, also=own, only=other)
    is_own = np.isin(matches.image_ids, own)
    return matches.scores[:, is_own], matches.scores[:, ~is_own]
