"""An answer drawn on its frame."""

from __future__ import annotations

import numpy as np

from edge_claid import drawing
from edge_claid.live.answer import FrameAnswer, TrackAnswer

COLOURS = {"confirmed": (30, 160, 70), "tentative": (225, 150, 20), "unknown": (120, 120, 120)}


def drawn(answer: FrameAnswer) -> np.ndarray:
    """A copy of the frame, (H, W, 3) uint8 RGB, with a box and a caption for every track; unknown ones lie below."""
    pixels = answer.frame.pixels
    order = sorted(answer.tracks, key=lambda track: list(COLOURS).index(track.state), reverse=True)
    for track in order:
        pixels = drawing.with_boxes(pixels, [track.box], COLOURS[track.state], caption(track))
    return pixels


def caption(track: TrackAnswer) -> str:
    """What stands at a track's box."""
    if track.state == "unknown":
        return "unknown"
    name = track.label or track.gallery_image or "?"
    sure = "" if np.isnan(track.match) else f" {track.match:.0%}"
    return f"{name}{sure}" + ("?" if track.state == "tentative" else "")
