"""Records of a gallery and their bytes. What is read back is checked, since a gallery file may come from anybody."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import GalleryError
from edge_claid.records import Described, Regions

TREE_BYTES = 20  # per region: parents, depths, areas int32; energy, connectivity float32
BOX_BYTES = 16  # per region: four float32
MOST_REGIONS = 100_000
UNFINISHED = -2  # in place of a time, of a video's frames until all of them are in the gallery
# Between a video's path and the time of its frame; every path of a frame lies between these two.
FRAME_MARK, AFTER_FRAME_MARK = b"#t=", b"#t>"


@dataclass(frozen=True)
class ImageRow:
    """One enrolled image.

    root: name of the enrolment root; path: relative to it, with "/". content_hash: BLAKE2b-256 of the file's bytes.
    size: bytes; mtime_ns: ns since 1970; width, height: upright pixels; regions: how many.
    label, taken (ISO time from EXIF), latitude, longitude (degrees): None where unknown.
    displaced: its file now holds another picture; not searched.
    """

    id: int
    root_id: int
    root: str
    path: str
    content_hash: bytes
    size: int
    mtime_ns: int
    width: int
    height: int
    regions: int
    label: str | None
    taken: str | None
    latitude: float | None
    longitude: float | None
    displaced: bool = False


@dataclass(frozen=True)
class NewImage:
    """One picture to be added: its place, its file's facts and what the pipeline said of it."""

    root_id: int
    path: str
    content_hash: bytes
    size: int
    mtime_ns: int
    described: Described
    label: str | None = None
    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def name_bytes(name: str) -> bytes:
    """A file name as it is stored: the system's own bytes, since not every name is text."""
    return os.fsencode(name)


def name_from_bytes(stored: bytes) -> str:
    return os.fsdecode(require_bytes(stored))


def require_bytes(value: object) -> bytes:
    """SQLite stores any kind of value in any column. Raises GalleryError where it is not bytes."""
    if not isinstance(value, bytes):
        raise GalleryError(f"a value of the wrong kind ({type(value).__name__} for bytes)")
    return value


def require_kinds(row: Sequence[object], *kinds: type | tuple[type, ...]) -> None:
    """Raises GalleryError where a row's values are not of these kinds, one after the other."""
    if not all(map(isinstance, row, kinds)):
        found = ", ".join(type(value).__name__ for value in row)
        raise GalleryError(f"values of the wrong kind ({found})")


def checksum(*blobs: bytes) -> int:
    """CRC-32 over the blobs one after the other. Raises GalleryError for what is none."""
    if not all(isinstance(blob, bytes) for blob in blobs):
        raise GalleryError("a value of the wrong kind where bytes belong")
    value = 0
    for blob in blobs:
        value = zlib.crc32(blob, value)
    return value


def tree_bytes(regions: Regions) -> bytes:
    whole = [np.ascontiguousarray(part, "<i4") for part in (regions.parents, regions.depths, regions.areas)]
    shares = [np.ascontiguousarray(part, "<f4") for part in (regions.energy, regions.connectivity)]
    return b"".join(part.tobytes() for part in whole + shares)


def box_bytes(regions: Regions) -> bytes:
    return np.ascontiguousarray(regions.boxes, "<f4").tobytes()


def boxes_from_bytes(content: bytes) -> np.ndarray:
    """(R, 4) float32. Raises GalleryError where the bytes are no boxes."""
    if len(require_bytes(content)) % BOX_BYTES:
        raise GalleryError("boxes of odd length")
    boxes = np.frombuffer(content, "<f4").reshape(-1, 4).astype(np.float32, copy=False)
    if not np.isfinite(boxes).all():
        raise GalleryError("boxes that are no numbers")
    return boxes


def half_bytes(values: np.ndarray) -> bytes:
    """(R, D) descriptors as float16."""
    return np.ascontiguousarray(values, "<f2").tobytes()


def matrix_from_bytes(content: bytes, rows: int, dtype: str) -> np.ndarray:
    """(rows, width) array of equal rows. Raises GalleryError where the length does not fit."""
    require_kinds((content, rows), bytes, int)
    values = np.frombuffer(content, dtype) if len(content) % np.dtype(dtype).itemsize == 0 else None
    if values is None or rows < 1 or len(values) % rows or not len(values):
        raise GalleryError(f"{len(content)} bytes do not make {rows} equal rows")
    return values.reshape(rows, -1)


def packed_masks(regions: Regions) -> bytes:
    return zlib.compress(np.ascontiguousarray(regions.masks, np.uint8).tobytes(), 6)


def regions_from_bytes(
    boxes: bytes, tree: bytes, packed: bytes, grid: tuple[int, int], image_size: tuple[int, int]
) -> Regions:
    """The regions of one image. Raises GalleryError where the parts do not fit each other."""
    require_kinds((boxes, tree, packed, *grid, *image_size), bytes, bytes, bytes, int, int, int, int)
    corners = boxes_from_bytes(boxes)
    count = len(corners)
    if len(tree) != count * TREE_BYTES or not 0 < count <= MOST_REGIONS:
        raise GalleryError("a region tree of another length than its boxes")
    whole = np.frombuffer(tree, "<i4", 3 * count).reshape(3, count)
    shares = np.frombuffer(tree, "<f4", 2 * count, 12 * count).reshape(2, count)
    if whole[0].max() >= count or whole[0].min() < -1:
        raise GalleryError("a region tree whose parents are no regions")
    masks = _unpacked(packed, count, grid)
    parents, depths, areas = whole.astype(np.int32)
    energy, connectivity = shares.astype(np.float32)
    return Regions(corners, parents, depths, areas, energy, connectivity, masks, grid, image_size)


def _unpacked(packed: bytes, count: int, grid: tuple[int, int]) -> np.ndarray:
    if not (0 < grid[0] <= 4096 and 0 < grid[1] <= 4096):
        raise GalleryError("a token grid of impossible size")
    size = count * ((grid[0] * grid[1] + 7) // 8)
    try:
        # Bounded: a hostile blob may unfold to any size.
        content = zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise GalleryError(f"region masks that cannot be unpacked ({error})") from error
    if len(content) != size:
        raise GalleryError("region masks of another size than their grid")
    return np.frombuffer(content, np.uint8).reshape(count, -1)
