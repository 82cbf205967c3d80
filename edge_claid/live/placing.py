"""From scores of a frame's regions to sightings: one box for each thing, however many nested regions show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.config import LiveSettings
from edge_claid.gallery.lookup.localise import agreed_region
from edge_claid.live.answer import Box, Sighting
from edge_claid.live.association import box_overlaps, nearness
from edge_claid.records import Regions

MOST_SIGHTINGS = 32  # named things in one frame
SAME_PLACE = 0.5  # IoU from which two regions show one thing
INSIDE = 0.7  # share of the smaller of two boxes that lies in the other, from which they are nested
APART = 0.3  # the same share up to which two boxes can be two things of one item
REACH = 0.5  # nearness from which a region is where a track should be
SMALLEST_UNKNOWN, LARGEST_UNKNOWN = 0.01, 0.4  # share of the frame that a region without a name may take


@dataclass(frozen=True)
class Named:
    """Scores of a frame's regions against items.

    items: keys, (I,). scores: (R, I), cosine-like. standings: (R, I), how far each score stands out (see
    ``gallery.lookup.naming``). match: probability of a true match, (R, I), NaN where unknown. rank: (R, I), what
    regions are compared by where several would do. least: standing that names an item, (I,); least_expected: the same
    where a track of that name should be; least_again: where one is, or should be, elsewhere. label_of, image_of: what
    to show for region r and item i.
    values: (R, d) projected descriptors of unit norm.
    """

    items: Sequence[str]
    scores: np.ndarray
    standings: np.ndarray
    match: np.ndarray
    rank: np.ndarray
    least: np.ndarray
    least_expected: np.ndarray
    least_again: np.ndarray
    label_of: Callable[[int, int], str | None]
    image_of: Callable[[int, int], str | None]
    values: np.ndarray


def sightings_from_scores(
    regions: Regions, named: Named, expected: Sequence[tuple[str, Box]], settings: LiveSettings
) -> list[Sighting]:
    """Things named in a frame, best first.

    The best region and item are taken, the box agreed on by the regions around that region; then all regions that
    overlap it are out for that item, and all in its place for every item. A second place of an item must rank not far
    below the first and stand out more, or a thing's background would be found all over the frame: two equal things are
    rarer than one. expected: items with the boxes where tracks of that name should be.
    """
    boxes = regions.boxes.astype(np.float64)
    if not named.items or not len(boxes):
        return []
    needed = _needed(boxes, named, expected)
    usable = (named.standings >= needed) & (named.rank >= settings.least_share * named.rank.max(axis=0))
    rank = np.where(usable, named.rank, -np.inf)
    overlap, shared = box_overlaps(boxes, boxes), _shared(boxes)
    again = (named.standings < named.least_again) & (needed > named.least_expected)
    found: list[Sighting] = []
    while len(found) < MOST_SIGHTINGS:
        row, column = (int(place) for place in np.unravel_index(int(rank.argmax()), rank.shape))
        if not np.isfinite(rank[row, column]):
            break
        around = np.flatnonzero(np.isfinite(rank[:, column]) & (overlap[row] > 0.1))
        placed = int(around[agreed_region(boxes[around], rank[around, column], settings.temperature)])
        found.append(_sighting(boxes[placed], row, column, named))
        rank[(shared[row] > APART) | (shared[placed] > APART) | again[:, column], column] = -np.inf
        rank[(overlap[row] >= SAME_PLACE) | (overlap[placed] >= SAME_PLACE)] = -np.inf
    return found


def unknown_sightings(regions: Regions, values: np.ndarray, taken: Sequence[Sighting], most: int) -> list[Sighting]:
    """Regions that stand for themselves though nothing names them: large ones of high energy, none over another.

    values: (R, d) projected descriptors. taken: sightings already made.
    """
    boxes = regions.boxes.astype(np.float64)
    width, height = regions.image_size
    shares = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / (width * height)
    fit = (regions.depths > 0) & (shares >= SMALLEST_UNKNOWN) & (shares <= LARGEST_UNKNOWN)
    order = np.flatnonzero(fit)[np.argsort(-(regions.energy * np.sqrt(shares))[fit], kind="stable")]
    kept = [np.array(sighting.box) for sighting in taken]
    found: list[Sighting] = []
    for row in order:
        if len(found) >= most:
            break
        if kept and _inside_any(boxes[row], np.array(kept)):
            continue
        kept.append(boxes[row])
        found.append(Sighting(_corners(boxes[row]), None, None, None, float("nan"), float("nan"), values[row]))
    return found


def _needed(boxes: np.ndarray, named: Named, expected: Sequence[tuple[str, Box]]) -> np.ndarray:
    """Standing that each region needs to name each item, (R, I)."""
    needed = np.tile(named.least, (len(boxes), 1))
    columns = {item: column for column, item in enumerate(named.items)}
    for column in {columns[item] for item, _ in expected if item in columns}:
        places = np.array([box for item, box in expected if columns.get(item) == column], np.float64)
        near = (nearness(places, boxes) > REACH).any(axis=0)
        needed[:, column] = np.where(near, named.least_expected[column], named.least_again[column])
    return needed


def _sighting(box: np.ndarray, row: int, column: int, named: Named) -> Sighting:
    score, match = float(named.scores[row, column]), float(named.match[row, column])
    label, image = named.label_of(row, column), named.image_of(row, column)
    return Sighting(_corners(box), named.items[column], label, image, score, match, named.values[row])


def _shared(boxes: np.ndarray) -> np.ndarray:
    """(R, R): share of the smaller of two boxes that lies in the other."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.prod(np.maximum(high - low, 0.0), axis=-1) / np.maximum(np.minimum.outer(areas, areas), 1e-9)


def _inside_any(box: np.ndarray, others: np.ndarray) -> bool:
    return bool((_shared(np.concatenate([box[None], others]))[0, 1:] > INSIDE).any())


def _corners(box: np.ndarray) -> Box:
    x0, y0, x1, y1 = box.tolist()
    return (x0, y0, x1, y1)
