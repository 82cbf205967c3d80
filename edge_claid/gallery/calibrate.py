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

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Protocol

import numpy as np

from edge_claid.errors import EdgeClaidError
from edge_claid.gallery import identity
from edge_claid.gallery.region_lookup import look_up
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.rows import ImageRow
from edge_claid.gallery.search import GallerySearch
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)

VERSION = 1
PICTURES, VIEWS = 48, 2  # pictures of the gallery that are looked at, and augmented views of each
FEWEST_TRUE, FEWEST_WRONG = 4, 12  # scores of either side under which nothing is said
SAMPLES = 200  # points each side of the curve is fitted on
GROWTH = 2.0  # a gallery that has grown by this factor is calibrated anew: its best wrong score has risen
_META = "calibration"


@dataclass(frozen=True)
class Calibration:
    """Scores to probabilities.

    slope, centre: of the logistic curve of a true match, at even odds that the thing is in the picture at all.
    place, spread: of the Gumbel distribution of a picture's best wrong score. true, false: scores it was fitted on.
    images: in the gallery then. space: code space and labels it was measured with.
    """

    slope: float
    centre: float
    place: float
    spread: float
    true: int
    false: int
    images: int = 0
    space: str = ""

    @property
    def measured(self) -> bool:
        """Whether it was fitted on this gallery; else its probabilities are not to be shown."""
        return self.true > 0

    def match(self, scores: np.ndarray | float) -> np.ndarray:
        """Probability of a true match for each score, same shape, float64."""
        return 1.0 / (1.0 + np.exp(-np.clip(self.slope * (np.asarray(scores, np.float64) - self.centre), -60, 60)))

    def score_at(self, match: float) -> float:
        """The score of this probability, 0 < match < 1."""
        return self.centre + math.log(match / (1.0 - match)) / self.slope

    def score_for_rate(self, false_alarms_per_hour: float, frames_per_hour: float) -> float:
        """Score that pictures without anything of the gallery exceed so often, votes over looks left out of account.

        Votes make alarms rarer than that, so the rate is an upper bound (Gumbel, Statistics of Extremes, 1958).
        """
        each = min(max(false_alarms_per_hour / max(frames_per_hour, 1e-9), 1e-15), 0.5)
        return self.place - self.spread * math.log(-math.log1p(-each))

    def to_json(self) -> str:
        """As it is stored with a gallery."""
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Calibration | None:
        """What ``to_json`` wrote; None for another version or anything that is none."""
        try:
            stored = json.loads(text)
            if stored.pop("version") != VERSION:
                return None
            numbers = {part.name: float(stored[part.name]) for part in fields(cls) if part.name != "space"}
            counts = {name: int(numbers[name]) for name in ("true", "false", "images")}
            found = cls(**{**numbers, **counts, "space": str(stored["space"])})  # type: ignore[arg-type]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        sound = all(map(math.isfinite, numbers.values())) and found.slope > 0 and found.spread > 0
        return found if sound else None


class ViewDescriber(Protocol):
    """What calibration needs of a pipeline."""

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """Descriptors (1 + count, R, D) of (file, boxes) and augmented views, in order; None: it cannot be read."""


def fit(true: np.ndarray, wrong: np.ndarray, *, images: int = 0, space: str = "") -> Calibration | None:
    """Fit on pictures' best scores for an item they show, true (n,), and for items they do not show, wrong (m,).

    None where there are too few of them to say anything.
    """
    if len(true) < FEWEST_TRUE or len(wrong) < FEWEST_WRONG:
        return None
    place, spread = _gumbel(wrong)
    shares = (np.arange(SAMPLES) + 0.5) / SAMPLES
    middle = place - spread * math.log(math.log(2.0))
    elsewhere = np.linspace(middle, max(float(np.median(true)), middle + spread), SAMPLES)
    seen = np.quantile(true, shares)
    slope, centre = _logistic(np.concatenate([seen, elsewhere]), place - spread * np.log(-np.log(shares)))
    return Calibration(slope, centre, place, spread, len(true), len(wrong), images, space)


def _logistic(true: np.ndarray, false: np.ndarray) -> tuple[float, float]:
    """Slope and centre of the logistic curve between two sides of equal weight (Platt scaling; Newton's method).

    Sides that do not overlap would make it infinitely steep: a small ridge on the slope bounds it.
    """
    scores = np.concatenate([true, false])
    targets = np.concatenate([np.ones(len(true)), np.zeros(len(false))])
    weights = np.concatenate([np.full(len(true), 0.5 / len(true)), np.full(len(false), 0.5 / len(false))])
    middle, scale = scores.mean(), max(scores.std(), 1e-6)
    design = np.stack([(scores - middle) / scale, np.ones(len(scores))], axis=1)
    ridge = np.diag([1e-4, 0.0])
    theta = np.array([1.0, 0.0])
    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -40, 40)))
        gradient = design.T @ (weights * (targets - chance)) - ridge @ theta
        curvature = (design * (weights * chance * (1 - chance))[:, None]).T @ design + ridge + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        theta = theta + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    slope = max(float(theta[0]), 1e-3) / scale
    return slope, float(middle - theta[1] / slope)


def _gumbel(maxima: np.ndarray) -> tuple[float, float]:
    """Place and spread of a Gumbel distribution through lower quantiles of the maxima.

    Its quantile at p is place - spread log(-log p). The top tenth, where unlabelled true pairs are, has no say.
    """
    shares = np.array([0.25, 0.5, 0.75, 0.9])
    levels = np.quantile(maxima, shares)
    reduced = -np.log(-np.log(shares))
    spread = float(
        ((reduced - reduced.mean()) * (levels - levels.mean())).sum() / ((reduced - reduced.mean()) ** 2).sum()
    )
    spread = max(spread, 1e-4)
    return float(levels.mean() - spread * reduced.mean()), spread


def stored(gallery: Gallery) -> Calibration | None:
    """The gallery's calibration, None where it has none that fits its code space, labels and size."""
    with gallery.reading() as connection:
        found = Calibration.from_json(identity.read_meta(connection).get(_META, ""))
    fits = found is not None and found.space == _measured_with(gallery) and len(gallery) <= GROWTH * found.images
    return found if fits else None


def store(gallery: Gallery, calibration: Calibration) -> None:
    """Keep it with the gallery, which must be open for writing. Raises StorageError."""
    with gallery.writing() as connection:
        identity.write_meta(connection, **{_META: calibration.to_json()})


def calibrate(gallery: Gallery, search: GallerySearch, pipeline: ViewDescriber) -> Calibration | None:
    """Measure both sides on pictures spread evenly over the gallery; None where too few can be read."""
    rows = list(gallery.images())
    labels = {row.id: row.label for row in rows}
    items = namable(labels)
    chosen = _spread([row for row in rows if row.id in items], PICTURES // 2)
    chosen += _spread([row for row in rows if row not in chosen], PICTURES - len(chosen))
    places = {root.id: root.location for root in all_roots(gallery)}
    pictures = [(os.path.join(places[row.root_id], row.path), gallery.regions(row.id).boxes) for row in chosen]
    log.info("calibrating: looking at %d of the gallery's pictures in several views", len(chosen))
    true: list[float] = []
    wrong: list[float] = []
    for row, seen in zip(chosen, pipeline.described_views(pictures, VIEWS), strict=True):
        for view in () if seen is None else seen[1:]:
            own, others = _best_scores(search, view, row.id, labels, items)
            true += own
            wrong += others
    found = fit(np.array(true), np.array(wrong), images=len(rows), space=_measured_with(gallery))
    if found is None:
        log.warning("too few pictures of the gallery can be read to calibrate it; `match` stays unknown")
    return found


def calibrated(gallery: Gallery, search: GallerySearch, pipeline: ViewDescriber) -> Calibration | None:
    """The stored calibration, or one measured now and stored where the gallery can be written."""
    found = stored(gallery)
    if found is None and len(gallery):
        found = calibrate(gallery, search, pipeline)
        if found is not None:
            try:
                with Gallery.open(gallery.path, "rw", wait_seconds=2.0, read_space=gallery.space_reader) as writable:
                    store(writable, found)
            except EdgeClaidError as error:
                log.debug("calibration is not stored: %s", error)
    return found


def namable(labels: Mapping[int, str | None]) -> set[int]:
    """Images whose items can be announced: those with a label, or all where none has one."""
    labelled = {image for image, label in labels.items() if label}
    return labelled or set(labels)


def _spread(rows: list[ImageRow], count: int) -> list[ImageRow]:
    places = np.unique(np.linspace(0, len(rows) - 1, max(count, 0)).round().astype(int)) if rows else ()
    return [rows[place] for place in places]


def _best_scores(
    search: GallerySearch, queries: np.ndarray, image_id: int, labels: Mapping[int, str | None], items: set[int]
) -> tuple[list[float], list[float]]:
    """Best score of a view's regions (R, D) for its own item, where it is one, and for any other item."""
    own = [image_id] if image_id in items else []
    label = labels.get(image_id)
    other = {image for image in items if image != image_id and (not label or labels[image] != label)}
    matches = look_up(search, queries, k=2, also=own, only=other)
    is_own = np.isin(matches.image_ids, own)
    sides = (matches.scores[:, is_own], matches.scores[:, ~is_own])
    return tuple([float(side.max())] if side.size else [] for side in sides)  # type: ignore[return-value]


def _measured_with(gallery: Gallery) -> str:
    space = gallery.space
    return f"{'' if space is None else space.id} {'labels' if gallery.info().labels else ''}"
