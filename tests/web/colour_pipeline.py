"""A stand-in for the networks: a region is described by its colours, so that things of one colour find each other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge_claid import ops
from edge_claid.config import Settings
from edge_claid.frames.reading import read_picture
from edge_claid.pipeline import checked_box
from edge_claid.records import Described, Descriptors, Frame, Regions

GRID, DIM = (6, 8), 27
COLOURS = {"red": (220, 30, 30), "green": (30, 190, 60), "blue": (40, 60, 220), "yellow": (235, 210, 40)}


class ColourPipeline:
    """seconds: what a frame takes."""

    descriptor_dim = DIM

    on_gpu = False
    code_scan = staticmethod(ops.load().code_scan)

    def __init__(self, seconds: float = 0.0, id: str = "colours") -> None:
        self.settings, self.id, self._seconds = Settings(), id, seconds
        self.describe_settings = {"network": id}

    def describe(
        self, image: Frame, box: Sequence[float] | None = None, boxes: Sequence[Sequence[float]] | None = None
    ) -> Descriptors:
        width, height = image.size
        rows = [checked_box(box, image)] if box is not None else list(boxes or [(0, 0, width, height)])
        return Descriptors(np.stack([_colours(image.pixels, row) for row in rows]))

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described]:
        for frame in frames:
            regions = self.detect(frame)
            yield Described(regions, self.pool(frame, regions))

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        for path, boxes in pictures:
            pixels = read_picture(path).pixels
            yield np.stack([np.stack([_colours(pixels, box) for box in boxes])] * (1 + count))

    def tokens(self, frame: Frame, side: int | None = None) -> Frame:
        time.sleep(self._seconds)
        return frame

    def detect(self, frame: Frame) -> Regions:
        """The whole picture, and every window of a coarse grid of two sizes."""
        width, height = frame.size
        boxes = [(0.0, 0.0, float(width), float(height))]
        for share in (0.25, 0.5):
            for y in np.arange(0.0, 1.01 - share, share / 2):
                boxes += [
                    (x * width, y * height, (x + share) * width, (y + share) * height)
                    for x in np.arange(0.0, 1.01 - share, share / 2)
                ]
        count = len(boxes)
        parents, depths = np.zeros(count, np.int32), np.ones(count, np.int32)
        parents[0], depths[0] = -1, 0
        masks = np.full((count, GRID[0] * GRID[1] // 8), 255, np.uint8)
        areas, shares = np.full(count, 4, np.int32), np.full((2, count), 0.5, np.float32)
        return Regions(
            np.array(boxes, np.float32), parents, depths, areas, shares[0], shares[1], masks, GRID, frame.size
        )

    def feature_map(self, frame: Frame) -> Frame:
        return frame

    def pool(self, frame: Frame, regions: Regions) -> Descriptors:
        return Descriptors(np.stack([_colours(frame.pixels, box) for box in regions.boxes]))


def _colours(pixels: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """(DIM,) of unit norm: how often each of 27 coarse colours occurs."""
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    coarse = pixels[y0:y1:2, x0:x1:2].reshape(-1, 3) // 86
    counts = np.bincount(coarse @ np.array([9, 3, 1]), minlength=DIM).astype(np.float32) + 1e-3
    return counts / np.linalg.norm(counts)


def picture_of(colour: str, size: tuple[int, int] = (160, 120), shade: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: a square of the colour on grey, with a little noise so that no two are alike."""
    width, height = size
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[height // 6 : height * 5 // 6, width // 4 : width * 3 // 4] = COLOURS[colour]
    noise = np.random.default_rng(shade).integers(0, 12, pixels.shape)
    return (pixels.astype(np.int64) + noise).clip(0, 255).astype(np.uint8)
