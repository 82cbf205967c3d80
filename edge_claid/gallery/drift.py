"""Has a gallery outgrown its code book? What the codes of new images lose, beside what they lost when it was trained.

An image's residual is kept with its codes, the code space's error when it was adopted with the space; nothing is read
twice for the comparison, and descriptors need not be kept for it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_claid.gallery.store import Gallery

TRAINED_ON = 40_000  # regions a code space is trained on at most
NEWEST = 1_000  # images whose error stands for that of what comes now
LEAST_REGIONS = 500  # fewer new regions than these, about fifteen images, tell of the images and not of the gallery
LIMIT = 1.25


@dataclass(frozen=True)
class Drift:
    """Mean squared quantisation errors per region, of projected descriptors of unit norm.

    at_training: of all images when the code space was adopted. newest: of up to NEWEST images enrolled since.
    expected: what new images like the old ones would lose to a code book trained on the gallery of today.
    regions: of the newest images. ratio: newest / expected. drifted: the code space should be trained anew.
    """

    at_training: float
    newest: float
    expected: float
    regions: int
    ratio: float
    drifted: bool


def read_drift(connection: sqlite3.Connection) -> Drift | None:
    """The drift, or None where there is no code space, no new image, or nothing was measured. In a read transaction."""
    space = connection.execute("SELECT error, newest FROM code_spaces WHERE active = 1").fetchone()
    if space is None or not isinstance(space[0], float) or not space[0] > 0:
        return None
    at_training, last = space[0], space[1] or 0
    weighted, regions = connection.execute(
        "SELECT sum(residual * regions), sum(regions) FROM (SELECT c.residual, i.regions FROM images i"
        " JOIN codes c ON c.image = i.id WHERE i.id > ? AND i.displaced = 0 AND c.residual IS NOT NULL"
        " ORDER BY i.id DESC LIMIT ?)",
        (last, NEWEST),
    ).fetchone()
    if not regions:
        return None
    before, now = connection.execute(
        "SELECT sum(regions) FILTER (WHERE id <= ?), sum(regions) FROM images", (last,)
    ).fetchone()
    newest, expected = weighted / regions, expected_error(at_training, before or 0, now)
    ratio = newest / expected
    return Drift(at_training, newest, expected, regions, ratio, regions >= LEAST_REGIONS and ratio > LIMIT)


def expected_error(at_training: float, trained_on: int, now: int) -> float:
    """Error of images that were not trained on, for a code book trained on ``now`` regions.

    at_training: error of the very regions trained on, ``trained_on`` of them. A codeword is the mean of n / 256 of
    them: these lie nearer to it than to the true mean by a share of 256 / n, others farther by as much.
    """
    known, all_of_it = (256 / min(max(count, 512), TRAINED_ON) for count in (trained_on, now))
    return at_training / (1 - known) * (1 + all_of_it)


def drift_of(gallery: Gallery) -> Drift | None:
    """How far the gallery has outgrown its code space; None where that cannot be told."""
    with gallery.reading() as connection:
        return read_drift(connection)


def drift_warning(gallery: Gallery) -> str | None:
    """One line for the end of an enrolment where the code space should be trained anew, else None."""
    drift = drift_of(gallery)
    if drift is None or not drift.drifted:
        return None
    more = round(100 * (drift.ratio - 1))
    way = "retrain" if gallery.info().keep_descriptors else "reencode"
    return (
        f"gallery {gallery.path} has outgrown its code book: new images lose {more} % more than to one "
        f"trained on all; `edge-claid gallery {way} {gallery.path}` trains it anew"
    )
