"""The values that flow between the stages, one record each.

Boxes are ``x0, y0, x1, y1`` in pixels of the original image, x1 and y1 exclusive.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edge_claid.errors import MachineError


@dataclass(frozen=True)
class Frame:
    """One decoded picture.

    pixels: (H, W, 3) uint8, RGB, upright (EXIF orientation applied).
    name: what to call it in messages.
    """

    pixels: np.ndarray
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class TimedFrame:
    """One frame of a stream.

    number: place in the source, from 0; frames that a live source dropped are counted, so gaps are dropped frames.
    time: seconds from the start of a file (a still picture: its number), or Unix time of capture for a live source.
    captured: time.monotonic() of capture, the same clock in every process of this machine; no clock change moves it.
    """

    frame: Frame
    number: int
    time: float
    captured: float


@dataclass(frozen=True)
class SourceEvent:
    """A stream's change of state.

    state: "lost" (a live source gave frames and gives none), "reconnecting" (it is being opened anew), "back" (the next
    read gives a frame), "ended" (no frame will come). time: Unix time. reason: why, without credentials.
    """

    state: Literal["lost", "reconnecting", "back", "ended"]
    time: float
    reason: str = ""


@dataclass(frozen=True)
class Tokens:
    """Patch tokens of one picture.

    features: (N, D) float32, as the network gave them (not normalised), N = grid[0] * grid[1], row-major.
    grid: (rows, columns) of the token grid.
    image_size: (width, height) of the original picture that the grid covers.
    """

    features: np.ndarray
    grid: tuple[int, int]
    image_size: tuple[int, int]


@dataclass(frozen=True)
class FeatureMap:
    """Convolutional map of one picture.

    values: (C, h, w) float32; cell (y, x) covers an equal share of the original picture.
    image_size: (width, height) of the original picture that the map covers.
    inner: maps of the same picture from earlier in the network, each of its own C, h, w; finer ones later.
    """

    values: np.ndarray
    image_size: tuple[int, int]
    inner: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Regions:
    """Instance regions of one picture as a tree; row 0 is the root, the whole picture.

    boxes: (R, 4) float32, pixels of the original picture.
    parents: (R,) int32, row of the nearest kept ancestor, -1 for the root.
    depths: (R,) int32, levels below the root in the decomposition.
    areas: (R,) int32, tokens of the region.
    energy: (R,) float32, share of the region's tokens among the image's high-energy tokens (CLAID eq. 10).
    connectivity: (R,) float32, mean internal connectivity (CLAID eq. 9).
    masks: (R, ceil(N / 8)) uint8, token membership packed little-endian (numpy.packbits, bitorder="little").
    grid: (rows, columns) of the token grid the masks are laid on.
    image_size: (width, height) of the original picture.
    """

    boxes: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    areas: np.ndarray
    energy: np.ndarray
    connectivity: np.ndarray
    masks: np.ndarray
    grid: tuple[int, int]
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.boxes)

    def mask(self, row: int) -> np.ndarray:
        """Token mask of one region: (rows, columns) bool."""
        count = self.grid[0] * self.grid[1]
        return np.unpackbits(self.masks[row], count=count, bitorder="little").astype(bool).reshape(self.grid)

    def to_supervision(self, masks: bool = False) -> Any:
        """As ``supervision.Detections``, row for row; ``class_id`` is the depth, ``data`` has parent, depth and energy.

        masks: give each region's mask too, (R, height, width) bool of the whole picture, which takes much memory.
        Raises MachineError where the package supervision is not installed.
        """
        data = {"parent": self.parents, "depth": self.depths, "energy": self.energy}
        drawn = np.stack([self._mask_of_pixels(row) for row in range(len(self))]) if masks and len(self) else None
        boxes, levels = self.boxes.astype(np.float32), self.depths.astype(int)
        return _supervision().Detections(xyxy=boxes, mask=drawn, class_id=levels, data=data)

    def _mask_of_pixels(self, row: int) -> np.ndarray:
        """(height, width) bool of the picture: each pixel is of the region that its token is of."""
        (rows, columns), (width, height) = self.grid, self.image_size
        y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
        return self.mask(row)[np.ix_(y, x)]


@dataclass(frozen=True)
class Descriptors:
    """Descriptors of the regions of one picture.

    values: (R, D) float32, rows of unit L2 norm, pooled but not yet projected (the projection is the gallery's).
    aspects: (R,) float32, width / height of the described boxes, or None where no box of like shape is expected.
    """

    values: np.ndarray
    aspects: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Described:
    """What the pipeline knows of one picture: its regions and their descriptors, row for row."""

    regions: Regions
    descriptors: Descriptors


@dataclass(frozen=True)
class Hit:
    """One gallery picture that answers a query.

    image: path relative to the enrolment root; root: that root's name.
    score: cosine-like, larger is better, at most 1.
    box: where the object is held to be, pixels of the original picture.
    label: the picture's label, or None. match: probability of a true match, or None where unknown.
    """

    image: str
    root: str
    score: float
    box: tuple[float, float, float, float]
    label: str | None = None
    match: float | None = None

    def to_supervision(self) -> Any:
        """As ``supervision.Detections`` of one row, in pixels of the hit's picture; several are ``Detections.merge``d.

        ``confidence`` is the score, ``class_id`` 0; ``data`` has ``image``, ``root``, ``class_name`` (the label, or "")
        and ``match`` (NaN where unknown). Raises MachineError where the package supervision is not installed.
        """
        data = {
            "image": np.array([self.image]),
            "root": np.array([self.root]),
            "class_name": np.array([self.label or ""]),
            "match": np.array([np.nan if self.match is None else self.match], np.float32),
        }
        box, score = np.array([self.box], np.float32), np.array([self.score], np.float32)
        return _supervision().Detections(xyxy=box, confidence=score, class_id=np.zeros(1, int), data=data)


def _supervision() -> Any:
    # Not by an import statement: it is no part of the install, and draws with libraries that the run time keeps out.
    try:
        return importlib.import_module("supervision")
    except ImportError as error:
        raise MachineError(f"supervision cannot be imported ({error}): pip install supervision") from error
