"""Has a gallery outgrown its code book? What the codes of new images lose, beside what they lost when it was trained.

An image's residual is kept with its codes, the code space's error when it was adopted with the space; nothing is read
twice for the comparison, and descriptors need not be kept for it.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass

from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.open_file import OpenFile

TRAINED_ON = 40_000  # regions a code space is trained on at most
NEWEST = 1_000  # images whose error stands for that of what comes now
LEAST_NEW = 0.05  # share of new regions below which one odd picture would speak for all
# A gallery whose codes lose a quarter more than they had to; what training anew gains there: tools/bench_drift.py.
LIMIT = 1.25
# Regions a code book was not trained on lose more than those it was by a factor of 1 + (SCALE / n) ** POWER for n
# regions trained on; fitted to 3,300, 7,800 and 16,000 regions of photographs, with codes of 16 bytes.
SCALE, POWER = 4_225, 0.85


@dataclass(frozen=True)
class Drift:
    """Mean squared quantisation errors per region, of projected descriptors of unit norm.

    at_training: of all images when the code space was adopted. newest: of up to NEWEST images enrolled since.
    present: of all images now. expected: of all images, were a code book trained on them and they like the old ones.
    ratio: present / expected. drifted: the code space should be trained anew.
    """

    at_training: float
    newest: float
    present: float
    expected: float
    ratio: float
    drifted: bool


def read_drift(connection: sqlite3.Connection) -> Drift | None:
    """The drift, or None where there is no code space, no new image, or nothing was measured. In a read transaction."""
    space = stored_space.measured(connection)
    if space is None or not isinstance(space[0], float) or not space[0] > 0:
        return None
    at_training, last = space[0], space[1] or 0
    measured = (
        "SELECT sum(residual * regions) / sum(regions) FROM (SELECT c.residual, i.regions FROM images i"
        " JOIN codes c ON c.image = i.id WHERE i.displaced = 0 AND c.residual IS NOT NULL AND i.id > ?"
        " ORDER BY i.id DESC LIMIT ?)"
    )
    newest = connection.execute(measured, (last, NEWEST)).fetchone()[0]
    present = connection.execute(measured, (-1, -1)).fetchone()[0]
    if newest is None or present is None:  # ids below zero are in damaged files only
        return None
    counts = "SELECT sum(regions) FILTER (WHERE id <= ?), sum(regions) FROM images WHERE displaced = 0"
    before, now = connection.execute(counts, (last,)).fetchone()
    expected = at_training * error_factor(now) / error_factor(before or 0)
    ratio = present / expected
    drifted = ratio > LIMIT and now - (before or 0) >= LEAST_NEW * now
    return Drift(at_training, newest, present, expected, ratio, drifted)


def error_factor(regions: int) -> float:
    """Error of a gallery of so many regions in a code book trained on it, beside that of one of endlessly many.

    Those trained on lie nearer to their codewords than to the true ones, by as much as others lie farther; of a gallery
    larger than TRAINED_ON some were not trained on.
    """
    trained = min(max(regions, 512), TRAINED_ON)
    apart = math.sqrt(1 + (SCALE / trained) ** POWER)
    share = trained / max(regions, trained)
    return share / apart + (1 - share) * apart


def drift_of(gallery: OpenFile) -> Drift | None:
    """How far the gallery has outgrown its code space; None where that cannot be told."""
    with gallery.reading() as connection:
        return read_drift(connection)


def drift_warning(gallery: OpenFile) -> str | None:
    """One line for the end of an enrolment where the code space should be trained anew, else None."""
    with gallery.reading() as connection:
        drift = read_drift(connection)
        kept = identity.read_meta(connection).get("keep_descriptors") == "1"
    if drift is None or not drift.drifted:
        return None
    more = round(100 * (drift.ratio - 1))
    way = "retrain" if kept else "reencode"
    return (
        f"gallery {gallery.path} has outgrown its code book: its codes lose {more} % more than in one trained on all "
        f"of it; `edge-claid gallery {way} {gallery.path}` trains it anew"
    )
