"""What the live look-up says: sightings of one look, tracks over many, a frame's answer, and events between frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_claid.records import Frame

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sighting:
    """What one look at a frame holds a region to be.

    box: pixels of the frame. item: key of the gallery item or target that was looked for, or None for a region that
    resembles none. label, gallery_image: that item's label, and path of the gallery picture that spoke for it, or None.
    score: cosine-like. match: probability of a true match, NaN where no gallery item was compared.
    descriptor: (d,) float32 of unit norm, projected; ties looks of one thing together.
    """

    box: Box
    item: str | None
    label: str | None
    gallery_image: str | None
    score: float
    match: float
    descriptor: np.ndarray


@dataclass(frozen=True)
class TrackAnswer:
    """One track at one frame. state: "tentative", "confirmed" or "unknown". Label, image: None if nothing is named.

    score: best cosine of this or the latest look that named the item. match: mean probability over those looks.
    box: smoothed, pixels of the frame.
    """

    id: int
    label: str | None
    score: float
    match: float
    box: Box
    gallery_image: str | None
    state: str

    def as_json(self) -> dict[str, Any]:
        """Fit for a JSON line; numbers that are not known are null."""
        return {
            "id": self.id,
            "label": self.label,
            "score": _rounded(self.score, 4),
            "match": _rounded(self.match, 4),
            "box": [round(value, 1) for value in self.box],
            "gallery_image": self.gallery_image,
            "state": self.state,
        }


@dataclass(frozen=True)
class FrameAnswer:
    """The answer to one frame.

    frame: the picture. number: frames of the source before it. time: seconds in a clip, Unix time of a live source.
    latency_ms: from capture to this answer. stages: milliseconds spent in each stage.
    """

    frame: Frame
    number: int
    time: float
    latency_ms: float
    tracks: tuple[TrackAnswer, ...]
    stages: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The line that ``live --json`` prints for a frame."""
        return {
            "frame": self.number,
            "time": round(self.time, 3),
            "latency_ms": round(self.latency_ms, 1),
            "tracks": [track.as_json() for track in self.tracks],
        }


@dataclass(frozen=True)
class LiveEvent:
    """Something that happened between frames. event: "source", "gallery" or "summary"; facts: what else is known."""

    event: str
    state: str
    time: float
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The line that ``live --json`` prints for an event."""
        return {"event": self.event, "state": self.state, "time": round(self.time, 3), **self.facts}


def _rounded(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)
