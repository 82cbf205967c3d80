"""A cheap stand-in for the networks: what a picture is described as depends on its pixels alone.

Everything around it is the product: the command line, the readers of pictures, enrolment, the gallery, code spaces.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from edge_claid.records import Described, Descriptors, Frame, Regions

DIM, GRID = 32, (5, 7)
# Codes small enough to be trained in a moment.
SETTINGS = "[codes]\nwidth = 16\nbytes = 4\nviews = 0\n"


def write_picture(path: Path, seed: int) -> None:
    """A picture of seeded noise, so that every seed has another content."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def describe(frame: Frame) -> Described:
    """Two to twelve regions with unit descriptors around a few centres, drawn from the pixels' checksum."""
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(frame.pixels).tobytes()))
    count = int(rng.integers(2, 13))
    width, height = frame.size
    corners = np.sort(rng.uniform(0, (width, height), (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    corners[0] = [0, 0, width, height]
    parents, depths = np.zeros(count, np.int32), np.ones(count, np.int32)
    parents[0], depths[0] = -1, 0
    masks = rng.integers(0, 2, (count, GRID[0] * GRID[1]), np.uint8)
    shares = rng.random((2, count)).astype(np.float32)
    packed = np.packbits(masks, axis=1, bitorder="little")
    areas = masks.sum(1).astype(np.int32)
    regions = Regions(corners, parents, depths, areas, shares[0], shares[1], packed, GRID, frame.size)
    centres = np.random.default_rng(0).normal(size=(40, DIM))
    values = centres[rng.integers(0, 40, count)] + 0.3 * rng.normal(size=(count, DIM))
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return Described(regions, Descriptors(unit.astype(np.float32)))


class StandInPipeline:
    """Takes the pipeline's place in the command line."""

    id = "stand-in"
    descriptor_dim = DIM

    def __init__(self) -> None:
        self.describe_settings = {"network": "stand-in"}

    @classmethod
    def open(cls, *_: object, **__: object) -> StandInPipeline:
        return cls()

    def __enter__(self) -> StandInPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        return (describe(frame) for frame in frames)
