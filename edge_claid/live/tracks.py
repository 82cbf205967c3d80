"""Tracks: sightings of one thing in consecutive frames, tied together, named by agreement, their boxes smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_claid.config import LiveSettings
from edge_claid.live.answer import Box, Sighting, TrackAnswer
from edge_claid.live.association import assign, box_overlaps, nearness
from edge_claid.live.motion import SmoothBox
from edge_claid.live.votes import Votes

MOST_TRACKS = 64  # a frame gives far fewer sightings; a bound for sources that flicker


class Track:
    """One thing followed over looks. number: its id, never given twice in a run."""

    def __init__(self, number: int, sighting: Sighting, moment: float, settings: LiveSettings) -> None:
        self.number = number
        self.motion = SmoothBox(sighting.box, moment)
        self._coast_looks = settings.coast_looks
        self.votes = Votes(settings.looks, settings.agreement, settings.window)
        self.descriptor: np.ndarray | None = sighting.descriptor
        self.last_seen = moment
        self.missed, self.known = 0, False  # known: was confirmed once
        self._vote(sighting)

    @property
    def item(self) -> str | None:
        """What it is held to be: agreed on, else leading."""
        return self.votes.item or self.votes.leading

    def take(self, sighting: Sighting, moment: float) -> None:
        """A look that shows the thing."""
        if self.missed:
            self.motion.stop()
        if self.missed > self._coast_looks:
            # Back after a while: looks from before its absence say nothing of what stands there now.
            self.votes.clear()
        self.motion.correct(sighting.box, moment)
        self._vote(sighting)
        mixed = sighting.descriptor if self.descriptor is None else 0.7 * self.descriptor + 0.3 * sighting.descriptor
        self.descriptor = mixed / max(float(np.linalg.norm(mixed)), 1e-12)
        self.last_seen, self.missed = moment, 0

    def miss(self) -> None:
        """A look that does not show it."""
        self.missed += 1
        self._vote(None)

    def _vote(self, sighting: Sighting | None) -> None:
        self.votes.add(sighting)
        self.known = self.known or self.votes.item is not None

    def answer(self, moment: float, size: tuple[int, int]) -> TrackAnswer:
        """What to say of it at this moment; boxes are kept inside the frame of `size` (width, height)."""
        state = "confirmed" if self.votes.item else "unknown" if self.votes.settled else "tentative"
        item = self.votes.item if self.votes.settled else self.votes.leading
        looks = self.votes.supporting(item) if item else []
        box = _inside(self.motion.predicted(moment), size)
        if not looks:
            return TrackAnswer(self.number, None, math.nan, math.nan, box, None, state)
        latest = looks[-1]
        match = float(np.mean([look.match for look in looks]))
        return TrackAnswer(self.number, latest.label, latest.score, match, box, latest.gallery_image, state)


class Tracker:
    """Keeps the tracks of one stream; ``update`` once a frame, in order.

    Moments are seconds of one clock that does not jump (see live/lookup.py); a step backwards counts as none.
    """

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._tracks: list[Track] = []
        self._next, self._moment = 1, -math.inf
        self._size: tuple[int, int] | None = None

    def names_at(self, moment: float) -> list[tuple[str, Box]]:
        """Agreed items and where they should be at this moment: what the next look may expect."""
        return [(t.votes.item, t.motion.predicted(max(moment, t.last_seen))) for t in self._tracks if t.votes.item]

    def forget(self) -> None:
        """Drop all tracks: what they were named by is gone. Their ids are not given again."""
        self._tracks.clear()

    def forget_looks(self) -> None:
        """Keep the tracks but not what they looked like: descriptors of the next sightings are of another space."""
        for track in self._tracks:
            track.descriptor = None

    def update(self, sightings: Sequence[Sighting], moment: float, size: tuple[int, int]) -> tuple[TrackAnswer, ...]:
        """Take in one look and answer for it. size: (width, height) of the frame; another size starts anew."""
        if size != self._size:
            self.forget()
        self._size = size
        self._moment = moment = max(moment, self._moment)
        free = set(range(len(sightings)))
        missed = set(self._tracks)
        for track, sighting in self._continued(sightings, moment):
            track.take(sightings[sighting], moment)
            free.discard(sighting)
            missed.discard(track)
        for track in missed:
            track.miss()
        self._tracks = [track for track in self._tracks if self._worth_keeping(track, moment)]
        for sighting in sorted(free)[: max(0, MOST_TRACKS - len(self._tracks))]:
            self._tracks.append(Track(self._next, sightings[sighting], moment, self._settings))
            self._next += 1
        shown = [track for track in self._tracks if self._worth_showing(track)]
        return tuple(track.answer(moment, size) for track in shown if not self._doubled(track, shown, moment))

    def _continued(self, sightings: Sequence[Sighting], moment: float) -> list[tuple[Track, int]]:
        """Tracks with the sightings that continue them."""
        if not self._tracks or not sightings:
            return []
        expected = np.array([track.motion.predicted(moment) for track in self._tracks])
        seen = np.array([sighting.box for sighting in sightings])
        benefit = box_overlaps(expected, seen)
        near = nearness(expected, seen)
        for row, track in enumerate(self._tracks):
            for column, sighting in enumerate(sightings):
                benefit[row, column] = self._benefit(track, sighting, benefit[row, column], near[row, column])
        return [(self._tracks[row], column) for row, column in assign(benefit)]

    def _benefit(self, track: Track, sighting: Sighting, overlap: float, near: float) -> float:
        """How well a sighting continues a track, 0 for not at all, at most 1: place first, then looks and name."""
        if sighting.item is None and (track.votes.item is not None or (track.known and track.missed)):
            # A region that nothing names, where a named thing should be, is as likely what stands behind it; and that
            # has a track of its own by the time the name's votes have run out.
            return 0.0
        same = track.item is not None and track.item == sighting.item
        alike = 0.0 if track.descriptor is None else max(0.0, float(track.descriptor @ sighting.descriptor))
        # A thing that moves fast no longer overlaps where it was; its name or its looks tell that it is the same.
        place = overlap if overlap >= self._settings.least_overlap else 0.5 * near if same or alike > 0.7 else 0.0
        return 0.0 if place <= 0.0 else 0.5 * place + 0.25 * alike + 0.25 * same

    def _worth_keeping(self, track: Track, moment: float) -> bool:
        fresh = moment - track.last_seen <= self._settings.forget_seconds
        return track.missed <= self._settings.coast_looks or (track.known and fresh)

    def _doubled(self, track: Track, shown: Sequence[Track], moment: float) -> bool:
        """Missed in this look where another track of its name was seen: one thing is shown once.

        A track that has only begun is the thing itself, which has jumped; an old one only where the two overlap.
        """
        if track.missed == 0:
            return False
        others = [other for other in shown if not other.missed and other.item == track.item]
        if any(not other.known for other in others):
            return True
        box = np.array([track.motion.predicted(moment)])
        seen = [other.motion.predicted(moment) for other in others]
        return bool(seen) and float(box_overlaps(box, np.array(seen)).max()) >= self._settings.least_overlap

    def _worth_showing(self, track: Track) -> bool:
        """Seen in this look, or agreed on and missed for a moment only."""
        return track.missed == 0 or (track.votes.item is not None and track.missed <= self._settings.coast_looks)


def _inside(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    x0, y0 = min(max(box[0], 0.0), width - 1.0), min(max(box[1], 0.0), height - 1.0)
    return (x0, y0, min(max(box[2], x0 + 1.0), float(width)), min(max(box[3], y0 + 1.0), float(height)))
