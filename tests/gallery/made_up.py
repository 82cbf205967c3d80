"""A pipeline, a code space and pictures made up for the tests of the gallery: plain arithmetic, no network."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from edge_claid.errors import BadImageError
from edge_claid.records import Described, Descriptors, Frame, Regions

GRID = (5, 7)
DIM = 24


def picture_bytes(seed: int, size: tuple[int, int] = (64, 48), format: str = "PNG", **save: object) -> bytes:
    """A picture of seeded coarse noise, so that every seed has another content."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.NEAREST)
    out = io.BytesIO()
    coarse.save(out, format, **save)
    return out.getvalue()


def write_picture(path: Path, seed: int, **kwargs: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(seed, **kwargs))
    return path


def described(seed: int, count: int = 4, size: tuple[int, int] = (64, 48)) -> Described:
    """Regions and unit descriptors that depend on the seed alone."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, min(size), (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    corners[0] = [0, 0, *size]
    parents = np.array([-1, *rng.integers(0, np.arange(1, count))], np.int32)
    depths = np.zeros(count, np.int32)
    for row in range(1, count):
        depths[row] = depths[parents[row]] + 1
    masks = rng.integers(0, 2, (count, GRID[0] * GRID[1]), np.uint8)
    areas = masks.sum(1).astype(np.int32)
    shares = rng.random((2, count)).astype(np.float32)
    packed = np.packbits(masks, axis=1, bitorder="little")
    regions = Regions(corners, parents, depths, areas, shares[0], shares[1], packed, GRID, size)
    values = rng.normal(size=(count, DIM)).astype(np.float32)
    return Described(regions, Descriptors(values / np.linalg.norm(values, axis=1, keepdims=True)))


class MadeUpPipeline:
    """Describes a frame by its pixels' sum; counts how many it was given; fails on frames whose name says so."""

    descriptor_dim = DIM

    def __init__(self, id: str = "aa11", settings: dict | None = None, fail_on: str = "\0"):
        self.id = id
        self.describe_settings = settings or {"network": "made-up", "regions": {"alpha": 0.2, "sizes": (1, 2)}}
        self.frames_seen: list[str] = []
        self._fail_on = fail_on

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        for frame in frames:
            self.frames_seen.append(frame.name)
            if self._fail_on in frame.name:
                yield BadImageError(f"{frame.name}: made to fail")
            else:
                yield described(int(frame.pixels.astype(np.int64).sum()), size=frame.size)

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """None for each picture: views of what is made up tell nothing of a match."""
        return (None for _ in pictures)


class MadeUpSpace:
    """Codes are the first bytes of the descriptors, scaled; the space is its own width."""

    def __init__(self, code_bytes: int = 3):
        self.code_bytes = code_bytes
        self.id = f"space-{code_bytes}"

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        return np.clip(descriptors[:, : self.code_bytes] * 127 + 128, 0, 255).astype(np.uint8)

    def to_bytes(self) -> bytes:
        return bytes([self.code_bytes])

    @classmethod
    def from_bytes(cls, content: bytes) -> MadeUpSpace:
        return cls(content[0])
