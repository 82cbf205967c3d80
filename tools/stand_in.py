"""A cheap stand-in for the networks: what a picture is described as depends on its pixels alone.

Everything around it is the product: the command line, the readers of pictures, enrolment, the gallery, code spaces.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from edge_claid.records import Described, Descriptors, Frame, Regions

DIM = 32
GRIDS = ((5, 7), (6, 6))  # of tokens; the networks that stand in may change, and every other has another grid
# Codes small enough to be trained in a moment.
SETTINGS = "[codes]\nwidth = 16\nbytes = 4\nviews = 0\n"


def write_picture(path: Path, seed: int) -> None:
    """A picture of seeded noise, so that every seed has another content."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_video(path: Path, seeds: list[int]) -> None:
    """A video of coarse noise, another one each second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        # The process that writes it is to be forked, so it starts no threads.
        stream.codec_context.thread_count = 1
        stream.gop_size = 5
        for seed in seeds:
            coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
            pixels = coarse.repeat(8, 0).repeat(8, 1)
            for _ in range(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def describe(frame: Frame, network: int = 0) -> Described:
    """Two to twelve regions with unit descriptors around a few centres, drawn from the pixels' checksum.

    network: which one is stood in for; each describes in its own way.
    """
    grid = GRIDS[network % len(GRIDS)]
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(frame.pixels).tobytes(), network))
    count = int(rng.integers(2, 13))
    width, height = frame.size
    corners = np.sort(rng.uniform(0, (width, height), (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    corners[0] = [0, 0, width, height]
    parents, depths = np.zeros(count, np.int32), np.ones(count, np.int32)
    parents[0], depths[0] = -1, 0
    masks = rng.integers(0, 2, (count, grid[0] * grid[1]), np.uint8)
    shares = rng.random((2, count)).astype(np.float32)
    packed = np.packbits(masks, axis=1, bitorder="little")
    areas = masks.sum(1).astype(np.int32)
    regions = Regions(corners, parents, depths, areas, shares[0], shares[1], packed, grid, frame.size)
    centres = np.random.default_rng(0).normal(size=(40, DIM))
    values = centres[rng.integers(0, 40, count)] + 0.3 * rng.normal(size=(count, DIM))
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return Described(regions, Descriptors(unit.astype(np.float32)))


class StandInPipeline:
    """Takes the pipeline's place in the command line. network: the one that is opened from now on."""

    network = 0
    descriptor_dim = DIM

    def __init__(self) -> None:
        self.id = f"stand-in {self.network}"
        self.describe_settings = {"network": self.id}

    @classmethod
    def open(cls, *_: object, **__: object) -> StandInPipeline:
        return cls()

    def __enter__(self) -> StandInPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        return (describe(frame, self.network) for frame in frames)

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """None for each picture: what is in a view of noise tells nothing of a match."""
        return (None for _ in pictures)
