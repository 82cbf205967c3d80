"""Queries to hits: a scan for the images with the best regions, then all their regions for score and box."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from sqlite3 import Connection
from typing import Any

import numpy as np

from edge_claid.codes.projection import Projection, small_projection
from edge_claid.codes.space import CodeSpace
from edge_claid.config import SearchSettings
from edge_claid.errors import GalleryError, UsageError
from edge_claid.gallery.lookup import calibration, positions
from edge_claid.gallery.lookup.localise import agreed_region, image_scores
from edge_claid.gallery.lookup.positions import Origin, Positions
from edge_claid.gallery.lookup.scorers import CodeScorer, FloatScorer, Scorer
from edge_claid.gallery.store import Gallery
from edge_claid.records import Descriptors, Hit

# Without a code space the projection is fitted on the regions themselves, which takes seconds for thousands of them:
# from FEW regions on it is kept until there are an eighth more or fewer than it was fitted on.
FEW, CHANGED = 512, 1 / 8


class GallerySearch:
    """A gallery's regions in memory, ready for queries. ``refresh`` takes up what has changed in the gallery since.

    exact: score by float descriptors, which the gallery must keep. code_scan: the op that scans codes.
    May be used from several threads; the gallery stays the caller's.
    Raises GalleryError where the gallery is damaged or ``exact`` is asked of one without descriptors.
    """

    def __init__(
        self,
        gallery: Gallery,
        code_scan: Callable[[int], Any],
        settings: SearchSettings | None = None,
        *,
        exact: bool = False,
        threads: int = 1,
    ) -> None:
        self._gallery, self._code_scan, self._exact, self._threads = gallery, code_scan, exact, threads
        self._settings = settings or SearchSettings()
        self._lock = threading.RLock()
        self._version: tuple[int, int]
        self._origin: Origin
        self._positions: Positions
        self._scorer: Scorer | None
        self._fitted = 0  # regions the projection was fitted on, where it is none of a code space
        with gallery.reading() as connection:
            self._open(connection)
        self._curve = calibration.stored(gallery, "search", self.scored_by)

    def __len__(self) -> int:
        """Images that are searched."""
        return len(self._positions)

    def refresh(self) -> bool:
        """Bring the search in step with the gallery: added images are read, removed ones left out; True on a change.

        Costs microseconds where nobody wrote to the gallery. Raises GalleryError where it is damaged, or was moved to
        another pipeline, whose descriptors mean something else.
        """
        with self._lock, self._gallery.reading() as connection:
            version, origin = positions.version(connection), positions.read_origin(connection)
            if version == self._version:
                return False
            if self._origin.pipeline not in (None, origin.pipeline):
                raise GalleryError(f"gallery {self._gallery.path} was moved to another pipeline; open it anew")
            if origin != self._origin or self._scorer is None:
                self._open(connection)
                return True
            gone, returned = self._positions.compare(connection)
            self._scorer.remove(gone)
            added = self._take_up(self._scorer, connection, returned)
            if origin.space is None and self._outgrown():
                self._open(connection)
            self._version = version
            return added > 0 or len(gone) > 0

    @property
    def scored_by(self) -> str:
        """What scores are cosines of: "codes" or "descriptors"."""
        return "codes" if isinstance(self._scorer, CodeScorer) else "descriptors"

    @property
    def projection(self) -> Projection | None:
        """What descriptors go through before they are scored; None while nothing is searched."""
        return None if self._scorer is None else self._scorer.projection

    def _outgrown(self) -> bool:
        """Whether the projection, fitted on the regions themselves, must be fitted anew."""
        regions = int(np.diff(self._positions.starts)[self._positions.live].sum())
        return self._fitted < FEW or abs(regions - self._fitted) > CHANGED * self._fitted

    def _match(self, score: float) -> float | None:
        """Probability of a true match, None where the gallery is not calibrated for this kind of scores."""
        return None if self._curve is None else round(float(self._curve.match(score)), 4)

    @contextlib.contextmanager
    def scoring(self) -> Iterator[tuple[Positions, Scorer | None]]:
        """What is searched and how it is scored (None while nothing is), for other modules of this package.

        Neither changes while the block runs.
        """
        with self._lock:
            yield self._positions, self._scorer

    def _open(self, connection: Connection) -> None:
        """Read everything, inside the caller's read transaction."""
        self._version, self._origin = positions.version(connection), positions.read_origin(connection)
        space = self._gallery.space
        self._scorer = None
        if isinstance(space, CodeSpace) and not self._exact:
            self._positions = Positions("codes", "u1", space.book.subspaces)
            self._scorer = CodeScorer(self._positions, space, self._code_scan, self._threads)
            self._take_up(self._scorer, connection)
            return
        self._positions = Positions("descriptors", "<f2", max(self._origin.width, 1))
        if isinstance(space, CodeSpace):
            self._scorer = FloatScorer(self._positions, space.projection)
            self._take_up(self._scorer, connection)
            return
        parts = list(self._parts(connection))
        if parts:
            values, images = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            self._scorer = FloatScorer(self._positions, small_projection(values, parts=self._gallery.descriptor_parts))
            self._scorer.append(values, images)
            self._fitted = len(values)

    def _take_up(self, scorer: Scorer, connection: Connection, returned: Sequence[int] = ()) -> int:
        """How many regions were new."""
        count = 0
        for values, images in self._parts(connection, returned):
            scorer.append(values, images)
            count += len(values)
        return count

    def _parts(self, connection: Connection, returned: Sequence[int] = ()) -> positions.Parts:
        path = self._gallery.path
        try:
            yield from self._positions.read(connection, returned)
        except GalleryError as error:
            if self._exact and not self._gallery.info().keep_descriptors:
                hint = "enrol with --keep-descriptors"
                raise GalleryError(f"gallery {path} does not keep all float descriptors; {hint}") from error
            raise GalleryError(f"gallery {path}: {error}; `edge-claid gallery verify` says which") from error

    def query(self, descriptors: Descriptors, k: int = 10, only: Collection[int] | None = None) -> list[Hit]:
        """The k best images for an object, or for all of several objects at once.

        descriptors: (B, D), a row for every object asked for; an image's score is the mean over the objects, its box
        the one around all of them.
        k: 0 for all images. only: ids of the images to search among, all where None. Raises UsageError for k < 0.
        """
        if k < 0:
            raise UsageError(f"the number of hits is {k}; it must be 0 (all images) or more")
        with self._lock:
            try:
                return self._answer(descriptors, k, only)
            except GalleryError:
                # An image that was found may have been removed since.
                if not self.refresh():
                    raise
                return self._answer(descriptors, k, only)

    def _answer(self, descriptors: Descriptors, k: int, only: Collection[int] | None) -> list[Hit]:
        allowed = None if only is None else self._positions.of_ids(only)
        total = len(self) if allowed is None else int(np.count_nonzero(allowed))
        count = total if k == 0 else min(k, total)
        if self._scorer is None or count == 0:
            return []
        queries = descriptors.values
        # The scan ranks by one region an image; what it finds is ranked again by several, so more are taken than asked.
        wide = total if len(queries) > 1 else min(total, max(self._settings.shortlist, 2 * count))
        images = self._scorer.nearest_images(queries[:1], wide, allowed)[0]
        found = [self._scorer.region_scores(query, images) for query in queries]
        scores = np.mean([image_scores(regions) for regions in found], axis=0)
        order = np.argsort(-scores, kind="stable")[:count]
        best = images[order]
        with self._gallery.reading() as connection:
            regions = self._positions.boxes(connection, best)
            rows = self._gallery.images_by_id(self._positions.image_ids[best])
        aspects = [None] * len(queries) if descriptors.aspects is None else descriptors.aspects.tolist()
        boxes = np.array(
            [
                self._boxes(regions, [scores_of[i] for i in order], aspect)
                for scores_of, aspect in zip(found, aspects, strict=True)
            ]
        )
        around = np.concatenate([boxes[:, :, :2].min(axis=0), boxes[:, :, 2:].max(axis=0)], axis=1).tolist()
        return [
            Hit(row.path, row.root, score, (box[0], box[1], box[2], box[3]), row.label, self._match(score))
            for row, score, box in zip(rows, scores[order].tolist(), around, strict=True)
        ]

    def _boxes(self, regions: list[np.ndarray], scores: list[np.ndarray], aspect: float | None) -> list[np.ndarray]:
        """One object's box in each of several images, (4,) each, from all their regions (R, 4) and their scores."""
        return [
            own[agreed_region(own, own_scores, self._settings.temperature, aspect)]
            for own, own_scores in zip(regions, scores, strict=True)
        ]
