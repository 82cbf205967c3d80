"""How likely a score means a true match, learned from the gallery's own pictures.

True side: regions seen in augmented views of a picture, scored against that picture. False side: the same regions'
best scores against pictures of other things (of other labels, where labels are known). Nothing is annotated for it.
A gallery holds pairs of pictures of one thing that no label tells of: false scores beyond the median true one are held
to be such pairs and left out, and the tail is fitted on quantiles, which a few that remain do not move.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Protocol

import numpy as np

from edge_claid.errors import EdgeClaidError
from edge_claid.gallery import identity
from edge_claid.gallery.region_lookup import look_up
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.search import GallerySearch
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)

VERSION = 1
PICTURES, VIEWS = 48, 2  # pictures of the gallery that are looked at, and augmented views of each
FEWEST = 30  # scores of either side under which nothing is said
GROWTH = 2.0  # a gallery that has grown by this factor is calibrated anew: its best wrong score has risen
_META = "calibration"


@dataclass(frozen=True)
class Calibration:
    """Scores to probabilities.

    slope, centre: of the logistic curve of a true match, at even odds that the thing is in the gallery at all.
    place, spread: of the Gumbel distribution of the best wrong score in one picture. true, false: scores it was fitted
    on. dropped: false scores held to be unlabelled true pairs. images: in the gallery then. space: code space, or "".
    """

    slope: float
    centre: float
    place: float
    spread: float
    true: int
    false: int
    dropped: int
    images: int
    space: str

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
            counts = {name: int(numbers[name]) for name in ("true", "false", "dropped", "images")}
            found = cls(**{**numbers, **counts, "space": str(stored["space"])})  # type: ignore[arg-type]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        sound = all(map(math.isfinite, numbers.values())) and found.slope > 0 and found.spread > 0
        return found if sound else None


class ViewDescriber(Protocol):
    """What calibration needs of a pipeline."""

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """Descriptors (1 + count, R, D) of (file, boxes) and augmented views, in order; None: it cannot be read."""


def fit(
    true: np.ndarray,
    false: np.ndarray,
    worst: np.ndarray,
    *,
    images: int = 0,
    space: str = "",
    fewest_true: int = FEWEST,
) -> Calibration | None:
    """Fit on scores: true and false matches, (n,) each, and the best wrong score of each picture, (m,).

    None where there are too few of them to say anything.
    """
    if len(true) < fewest_true or len(false) < FEWEST or len(worst) < 8:
        return None
    ceiling = float(np.median(true))
    kept = false[false < ceiling]
    if len(kept) < FEWEST:
        return None
    slope, centre = _logistic(true, kept)
    place, spread = _gumbel(worst)
    dropped = len(false) - len(kept)
    return Calibration(slope, centre, place, spread, len(true), len(kept), dropped, images, space)


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
    """Place and spread of a Gumbel distribution through the quartiles below three quarters of the maxima.

    Its quantile at p is place - spread log(-log p). The top quarter, where unlabelled true pairs are, has no say.
    """
    shares = np.array([0.1, 0.25, 0.5, 0.75])
    levels = np.quantile(maxima, shares)
    reduced = -np.log(-np.log(shares))
    spread = float(
        ((reduced - reduced.mean()) * (levels - levels.mean())).sum() / ((reduced - reduced.mean()) ** 2).sum()
    )
    spread = max(spread, 1e-4)
    return float(levels.mean() - spread * reduced.mean()), spread


def stored(gallery: Gallery) -> Calibration | None:
    """The gallery's calibration, None where it has none that fits its code space and size."""
    with gallery.reading() as connection:
        found = Calibration.from_json(identity.read_meta(connection).get(_META, ""))
    fits = found is not None and found.space == _space_of(gallery) and len(gallery) <= GROWTH * max(found.images, 1)
    return found if fits else None


def store(gallery: Gallery, calibration: Calibration) -> None:
    """Keep it with the gallery, which must be open for writing. Raises StorageError."""
    with gallery.writing() as connection:
        identity.write_meta(connection, **{_META: calibration.to_json()})


def calibrate(gallery: Gallery, search: GallerySearch, pipeline: ViewDescriber) -> Calibration | None:
    """Measure both sides on pictures spread evenly over the gallery; None where too few can be read."""
    rows = list(gallery.images())
    spread = np.unique(np.linspace(0, len(rows) - 1, PICTURES).round().astype(int)) if rows else ()
    chosen = [rows[i] for i in spread]
    places = {root.id: root.location for root in all_roots(gallery)}
    pictures = [(os.path.join(places[row.root_id], row.path), gallery.regions(row.id).boxes) for row in chosen]
    labels = {row.id: row.label for row in rows}
    log.info("calibrating: looking at %d of the gallery's pictures in several views", len(chosen))
    true, false, worst = [], [], []
    for row, seen in zip(chosen, pipeline.described_views(pictures, VIEWS), strict=True):
        if seen is None:
            continue
        for view in seen[1:]:
            own, others = _sides(search, view, row.id, labels)
            true.append(own)
            if len(others):
                false.append(others)
                worst.append(others.max())
    if not true or not false:
        log.warning("too few pictures of the gallery can be read to calibrate it; `match` stays unknown")
        return None
    both = np.concatenate(true), np.concatenate(false)
    return fit(*both, np.array(worst), images=len(rows), space=_space_of(gallery))


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


def _sides(
    search: GallerySearch, queries: np.ndarray, image_id: int, labels: dict[int, str | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of regions (R, D) of one image against it, and their best ones against images of other things."""
    matches = look_up(search, queries, k=4, also=[image_id])
    own = matches.image_ids == image_id
    label = labels.get(image_id)
    other = np.array(
        [i != image_id and (label is None or labels.get(int(i)) != label) for i in matches.image_ids], bool
    )
    wrong = matches.scores[:, other].max(axis=1) if other.any() else np.empty(0)
    return matches.scores[:, own].ravel(), wrong


def _space_of(gallery: Gallery) -> str:
    space = gallery.space
    return "" if space is None else space.id
