"""Objects to find, from pictures and boxes, each with a curve of its own from score to probability."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_claid.config import LiveSettings
from edge_claid.descriptors.views import augmented_view
from edge_claid.frames.reading import read_picture
from edge_claid.gallery import calibration
from edge_claid.gallery.calibration import Calibration
from edge_claid.gallery.region_lookup import look_up
from edge_claid.live.find import Finder, Target
from edge_claid.live.holdings import UNMEASURED, Holdings
from edge_claid.live.threshold import Threshold
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame

VIEWS = 6  # augmented views of the target's picture that give the true side of its curve
Box = Sequence[float]


def target_from_picture(
    pipeline: Pipeline, picture: str | os.PathLike[str] | Frame, box: Box | None = None, name: str = ""
) -> Target:
    """A target from a picture file or frame, in a box or the whole of it.

    name: the file's name without its suffix where empty. Raises BadImageError, UsageError (a box outside the picture).
    """
    frame = picture if isinstance(picture, Frame) else read_picture(os.fspath(picture))
    own = pipeline.describe(frame, box=box).values
    width, height = frame.size
    chosen = np.array([box if box is not None else (0, 0, width, height)], np.float64)
    rng = np.random.default_rng(0)
    views = [own]
    for _ in range(VIEWS):
        pixels, moved = augmented_view(frame.pixels, chosen, rng)
        size = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        inside = np.clip(moved[0], 0, size)
        if (inside[2:] - inside[:2] >= 2).all():
            views.append(pipeline.describe(Frame(pixels, frame.name), box=inside.tolist()).values)
    shown = None if not frame.name else frame.name
    return Target(name or Path(frame.name).stem or "target", shown, np.concatenate(views))


def curve_of(target: Target, holdings: Holdings) -> Calibration:
    """How likely a score of this target means a true match: false side from the gallery, true side from its views.

    The same as for a whole gallery (see ``edge_claid.gallery.calibrate``), for one object: what pictures of other
    things score for it. UNMEASURED where the gallery holds too few pictures for that.
    """
    if not len(holdings.items):
        return UNMEASURED
    wrong = look_up(holdings.search, target.descriptors[:1], k=len(holdings.items), most=len(holdings.items))
    views = holdings.project(target.descriptors)
    return calibration.fit(views[1:] @ views[0], wrong.scores[0]) or UNMEASURED


def finder_of(targets: Sequence[Target], holdings: Holdings, settings: LiveSettings, threshold: Threshold) -> Finder:
    """A finder of these targets; two of one name are told apart by a number."""
    names: dict[str, int] = {}
    told = []
    for target in targets:
        names[target.name] = count = names.get(target.name, 0) + 1
        told.append(target if count == 1 else replace(target, name=f"{target.name} {count}"))
    return Finder(told, [curve_of(target, holdings) for target in told], settings, threshold)
