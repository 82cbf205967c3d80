"""Objects to find, from pictures and boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_claid.config import LiveSettings
from edge_claid.frames.reading import read_picture
from edge_claid.live.find import Finder, Target
from edge_claid.live.threshold import Threshold
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame

Box = Sequence[float]


def target_from_picture(
    pipeline: Pipeline, picture: str | os.PathLike[str] | Frame, box: Box | None = None, name: str = ""
) -> Target:
    """A target from a picture file or frame, in a box or the whole of it.

    name: the file's name without its suffix where empty. Raises BadImageError, UsageError (a box outside the picture).
    """
    frame = picture if isinstance(picture, Frame) else read_picture(os.fspath(picture))
    descriptor = pipeline.describe(frame, box=box).values[0]
    return Target(name or Path(frame.name).stem or "target", frame.name or None, descriptor)


def finder_of(targets: Sequence[Target], settings: LiveSettings, threshold: Threshold) -> Finder:
    """A finder of these targets; two of one name are told apart by a number."""
    names: dict[str, int] = {}
    told = []
    for target in targets:
        names[target.name] = count = names.get(target.name, 0) + 1
        told.append(target if count == 1 else replace(target, name=f"{target.name} {count}"))
    return Finder(told, settings, threshold)
