"""One look: a frame through the networks to regions and their descriptors, each stage timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame, Regions


@dataclass(frozen=True)
class Look:
    """What the networks saw in one frame.

    regions: the tree, row 0 the whole frame. descriptors: (R, D) float32, a row a region, before projection.
    stages: seconds spent in each stage.
    """

    regions: Regions
    descriptors: np.ndarray
    stages: dict[str, float] = field(default_factory=dict)


class Looker(Protocol):
    """What the loop needs of the networks; called from several threads at once."""

    def look(self, frame: Frame) -> Look:
        """Raises BadImageError for a frame that cannot be used."""


class PipelineLooker:
    """Looks with a pipeline.

    vit_side: the ViT sees the frame at about that many pixels squared; None as the pipeline is set. It decides only
    which regions are proposed, not what a descriptor means, so it may differ from the gallery's.
    """

    def __init__(self, pipeline: Pipeline, vit_side: int | None = None) -> None:
        self._pipeline, self._side = pipeline, vit_side

    def look(self, frame: Frame) -> Look:
        clock = [time.perf_counter()]
        if self._pipeline.on_gpu:
            described = self._pipeline.describe_regions(frame, self._side)
            return Look(described.regions, described.descriptors.values, {"gpu": time.perf_counter() - clock[0]})
        tokens = self._pipeline.tokens(frame, self._side)
        clock.append(time.perf_counter())
        regions = self._pipeline.detect(tokens)
        clock.append(time.perf_counter())
        feature_map = self._pipeline.feature_map(frame)
        clock.append(time.perf_counter())
        descriptors = self._pipeline.pool(feature_map, regions)
        clock.append(time.perf_counter())
        names = ("vit", "regions", "convolutional", "descriptors")
        return Look(regions, descriptors.values, dict(zip(names, np.diff(clock).tolist(), strict=True)))
