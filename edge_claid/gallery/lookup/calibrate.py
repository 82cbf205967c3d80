"""How likely a score means a true match, learned from the gallery's own pictures.

What is judged in a frame of a stream is the best standing of an item (see ``naming.py`` here), in a search the score
of an image. False side: the best of pictures for items they do not show (of other labels; where nothing is
labelled, for other pictures). True side: augmented views of a picture, judged for that picture's own item. Nothing is
annotated for it.

Two things keep this honest. A gallery holds pairs of pictures of one thing that no label tells of: the false side is a
Gumbel distribution through the lower quantiles of the scores, which such pairs do not move. And a thing is met in other
light and from other sides than any augmented view shows: half of the true side is spread evenly from the middle of the
false scores up to the middle of the views'.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from edge_claid.gallery.lookup import calibration
from edge_claid.gallery.lookup.calibration import Calibration
from edge_claid.gallery.lookup.naming import Items, item_scores
from edge_claid.gallery.lookup.region_lookup import looking
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)

PICTURES, VIEWS = 48, 2  # pictures of the gallery that are looked at, and augmented views of each
QUERIES = 6  # regions of a view that stand for queries of a search
NEAREST = 4  # as LiveSettings.nearest
FEWEST = 20  # pictures a gallery needs for it
MOST_EXACT = 100_000  # regions up to which float descriptors are compared where they are kept: 0.2 GB

Told = Callable[[str, int, int], None]


class ViewDescriber(Protocol):
    """What calibration needs of a pipeline."""

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """Descriptors (1 + count, R, D) of (file, boxes) and augmented views, in order; None: it cannot be read."""


def calibrate(
    gallery: Gallery,
    frames: GallerySearch,
    queries: GallerySearch,
    pipeline: ViewDescriber,
    told: Told = lambda *_: None,
) -> dict[str, Calibration]:
    """Measure both sides on pictures spread evenly over the gallery; frames, queries: what each will be scored with.

    told: what is done, how many pictures of how many; what it raises ends the measurement.
    Gives the curves "frame" (a picture's best standing for an item) and "search" (an image's score for one region as a
    query); one is missing where too few pictures can be read.
    """
    rows = list(gallery.images())
    labels = {row.id: row.label for row in rows}
    items = Items.of(labels)
    chosen = _chosen(rows, items)
    log.info("calibrating: looking at %d of the gallery's pictures in several views", len(chosen))
    sides: dict[str, tuple[list[float], list[float]]] = {"frame": ([], []), "search": ([], [])}
    views = pipeline.described_views(_pictures(gallery, chosen), VIEWS)
    for number, (row, seen) in enumerate(zip(chosen, views, strict=True), 1):
        told("measuring how sure answers are", number, len(chosen))
        for view in () if seen is None else seen[1:]:
            named, misnamed = _standings(frames, view, items.key_of.get(row.id), items)
            sides["frame"][0].extend(named)
            sides["frame"][1].extend(misnamed)
            some = view[np.unique(np.linspace(0, len(view) - 1, QUERIES).round().astype(int))]
            own, others = _scores(queries, some, row.id, labels)
            sides["search"][0].extend(own.ravel())
            sides["search"][1].extend(others.max(axis=1) if others.size else ())
    found = {}
    for kind, search in (("frame", frames), ("search", queries)):
        space = calibration.measured_with(gallery, search.scored_by)
        if (curve := calibration.fit(*map(np.array, sides[kind]), images=len(rows), space=space)) is not None:
            found[kind] = curve
    if "frame" not in found:
        log.warning("too few pictures of the gallery can be read to calibrate it; `match` stays unknown")
    return found


def frame_search(gallery: Gallery, code_scan: Callable[[int], Any]) -> GallerySearch:
    """The search that frames of a stream are looked up with.

    By float descriptors where a small gallery keeps them all: codes cost small things a third of their score.
    """
    info = gallery.info()
    exact = info.keep_descriptors and info.described_images == info.images and info.regions <= MOST_EXACT
    return GallerySearch(gallery, code_scan, exact=exact)


def keep_calibrated(
    gallery: Gallery, code_scan: Callable[[int], Any], pipeline: ViewDescriber, told: Told = lambda *_: None
) -> None:
    """Measure the curves and store them, where the gallery, open for writing, has none that fit it.

    told: what is done, how many pictures of how many. A gallery of fewer than FEWEST pictures is left as it is.
    """
    if len(gallery) < FEWEST:
        return
    frames = frame_search(gallery, code_scan)
    if calibration.stored(gallery, "frame", frames.scored_by) is not None:
        return
    queries = frames if frames.scored_by == "codes" else GallerySearch(gallery, code_scan)
    calibration.store(gallery, calibrate(gallery, frames, queries, pipeline, told))


def _chosen(rows: list[ImageRow], items: Items) -> list[ImageRow]:
    """Pictures that are looked at: half of them of items that can be named, where there are so many."""
    chosen = _spread([row for row in rows if row.id in items.key_of], PICTURES // 2)
    taken = {row.id for row in chosen}
    return chosen + _spread([row for row in rows if row.id not in taken], PICTURES - len(chosen))


def _pictures(gallery: Gallery, chosen: list[ImageRow]) -> list[tuple[str, np.ndarray]]:
    """Files of images and their regions' boxes."""
    places = {root.id: root.location for root in all_roots(gallery)}
    return [(os.path.join(places[row.root_id], row.path), gallery.regions(row.id).boxes) for row in chosen]


def _spread(rows: list[ImageRow], count: int) -> list[ImageRow]:
    places = np.unique(np.linspace(0, len(rows) - 1, max(count, 0)).round().astype(int)) if rows else ()
    return [rows[place] for place in places]


def _standings(
    search: GallerySearch, regions: np.ndarray, own: str | None, items: Items
) -> tuple[list[float], list[float]]:
    """Best standings of the regions (R, D) of one picture: for its own item, and for any other; none or one of each."""
    found = item_scores(search, regions, items, NEAREST, also=() if own is None else (own,))
    if found is None:
        return [], []
    best = dict(zip(found.items, found.standings.max(axis=0).tolist(), strict=True))
    others = [standing for key, standing in best.items() if key != own]
    return [best[own]] if own in best else [], [max(others)] if others else []


def _scores(
    search: GallerySearch, queries: np.ndarray, image_id: int, labels: Mapping[int, str | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of queries (Q, D) cut from an image: for it, (Q, 0 or 1), and for images of other items, (Q, n)."""
    label = labels.get(image_id)
    other = {image for image in labels if image != image_id and (not label or labels[image] != label)}
    with looking(search, queries) as looked:
        if looked is None:
            return np.empty((len(queries), 0)), np.empty((len(queries), 0))
        return looked.scores_of([image_id]).scores, looked.matches(2, other).scores
