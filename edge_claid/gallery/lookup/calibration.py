"""Scores to probabilities: the curves a gallery keeps of its own scores (measured in ``calibrate``)."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from edge_claid.gallery.storage import identity
from edge_claid.gallery.store import Gallery

VERSION = 2
FEWEST_TRUE, FEWEST_WRONG = 4, 12  # scores of either side under which nothing is said
SAMPLES = 200  # points each side of a curve is fitted on
GROWTH = 2.0  # a gallery that has grown by this factor is calibrated anew: its best wrong score has risen
_META = "calibration"


@dataclass(frozen=True)
class Calibration:
    """Scores, or standings (see ``naming``), to probabilities.

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

    @classmethod
    def from_record(cls, stored: Mapping[str, object]) -> Calibration | None:
        """What ``dataclasses.asdict`` gave; None for anything that is none."""
        try:
            numbers = {part.name: float(stored[part.name]) for part in fields(cls) if part.name != "space"}  # type: ignore[arg-type]
            counts = {name: int(numbers[name]) for name in ("true", "false", "images")}
            found = cls(**{**numbers, **counts, "space": str(stored["space"])})  # type: ignore[arg-type]
        except (ValueError, KeyError, TypeError, OverflowError):
            return None
        sound = all(map(math.isfinite, numbers.values())) and found.slope > 0 and found.spread > 0
        return found if sound else None


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
    return float(slope), float(middle - theta[1] / slope)


def _gumbel(maxima: np.ndarray) -> tuple[float, float]:
    """Place and spread of a Gumbel distribution through lower quantiles of the maxima.

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


def stored(gallery: Gallery, kind: str, scored_by: str) -> Calibration | None:
    """A curve of the gallery, "frame" or "search"; None where it has none that fits its code space, labels and size.

    scored_by: "codes" or "descriptors" (see GallerySearch.scored_by).
    """
    with gallery.reading() as connection:
        text = identity.read_meta(connection).get(_META, "")
    try:
        curves = json.loads(text)
        found = Calibration.from_record(curves[kind]) if curves["version"] == VERSION else None
    except (ValueError, KeyError, TypeError):
        return None
    fits = (
        found is not None and found.space == measured_with(gallery, scored_by) and len(gallery) <= GROWTH * found.images
    )
    return found if fits else None


def store(gallery: Gallery, curves: Mapping[str, Calibration]) -> None:
    """Keep curves with the gallery, which must be open for writing. Raises StorageError."""
    content = {"version": VERSION, **{kind: asdict(curve) for kind, curve in curves.items()}}
    with gallery.writing() as connection:
        identity.write_meta(connection, **{_META: json.dumps(content)})


def forget(connection: sqlite3.Connection) -> None:
    """Drop all curves, within a transaction: another pipeline gives other scores, whatever they are coded in."""
    connection.execute("DELETE FROM meta WHERE key = ?", (_META,))


def measured_with(gallery: Gallery, scored_by: str) -> str:
    """What a curve depends on beside the pictures: the code space, and whether there are labels."""
    space = gallery.space
    labels = "labels" if gallery.info().labels else "no labels"
    return f"{'' if space is None else space.id}, {scored_by}, {labels}"
