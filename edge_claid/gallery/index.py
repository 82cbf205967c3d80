"""A gallery's content as arrays, for those who look at all of it at once; a search reads by ``positions``."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import GalleryError
from edge_claid.gallery.storage.rows import BOX_BYTES, boxes_from_bytes, matrix_from_bytes


@dataclass(frozen=True)
class Index:
    """N regions of I images, image by image in the order of their ids.

    image_ids: (I,) int64, for ``Gallery.images_by_id``. starts: (I + 1,) int64; regions starts[i]:starts[i + 1]
    belong to image i. image_index: (N,) int32, that i for every region. boxes: (N, 4) float32, original pixels.
    codes: (N, M) uint8 of the gallery's code space, or None. descriptors: (N, D) float16 before projection, or None.
    """

    image_ids: np.ndarray
    starts: np.ndarray
    image_index: np.ndarray
    boxes: np.ndarray
    codes: np.ndarray | None
    descriptors: np.ndarray | None

    def __len__(self) -> int:
        return len(self.boxes)


def load(connection: sqlite3.Connection, coded: bool, described: bool) -> Index:
    """Read the index; to be called inside one read transaction.

    coded, described: load codes, descriptors. Raises GalleryError where a part is missing or does not fit.
    """
    searched = "SELECT id FROM images WHERE displaced = 0 ORDER BY id"
    image_ids = np.array([row[0] for row in connection.execute(searched)], np.int64)
    blobs = _column(connection, "regions", "boxes", image_ids)
    boxes = boxes_from_bytes(b"".join(blobs))
    lengths = np.array([len(blob) for blob in blobs], np.int64)
    if (lengths % BOX_BYTES).any() or (lengths == 0).any():
        raise GalleryError("some boxes are damaged; `edge-claid gallery verify` says which")
    counts = lengths // BOX_BYTES
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    image_index = np.repeat(np.arange(len(image_ids), dtype=np.int32), counts)
    codes = _stacked(connection, "codes", image_ids, counts, "u1") if coded else None
    descriptors = _stacked(connection, "descriptors", image_ids, counts, "<f2") if described else None
    return Index(image_ids, starts, image_index, boxes, codes, descriptors)


def sample_descriptors(connection: sqlite3.Connection, limit: int) -> np.ndarray:
    """(N, D) float16 descriptors of images spread evenly over the gallery, N at most about ``limit``.

    Raises GalleryError where they do not fit together.
    """
    described = "SELECT d.image, i.regions FROM descriptors d JOIN images i ON i.id = d.image WHERE i.displaced = 0"
    counts = dict(connection.execute(f"{described} ORDER BY d.image").fetchall())
    if not counts:
        return np.empty((0, 0), np.float16)
    share = min(1.0, limit / sum(counts.values()))
    parts = []
    for image_id, count in counts.items():
        # Multiples of the golden ratio spread the images taken evenly, whatever the order they were enrolled in.
        if (image_id * 0.6180339887498949) % 1.0 < share:
            content = connection.execute("SELECT content FROM descriptors WHERE image = ?", (image_id,)).fetchone()[0]
            parts.append(matrix_from_bytes(content, count, "<f2"))
    if len({part.shape[1] for part in parts}) > 1:
        raise GalleryError("descriptors of different widths; `edge-claid gallery verify` says which")
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float16)


def _column(connection: sqlite3.Connection, table: str, column: str, image_ids: np.ndarray) -> list[bytes]:
    rows = connection.execute(f"SELECT image, {column} FROM {table} ORDER BY image").fetchall()
    if len(rows) != len(image_ids):
        searched = set(image_ids.tolist())
        rows = [row for row in rows if row[0] in searched]
    if [row[0] for row in rows] != image_ids.tolist():
        raise GalleryError(f"{table} are missing for some images; `edge-claid gallery verify` says for which")
    if not all(isinstance(row[1], bytes) for row in rows):
        raise GalleryError(f"{table} hold values of the wrong kind; `edge-claid gallery verify` says where")
    return [row[1] for row in rows]


def _stacked(
    connection: sqlite3.Connection, table: str, image_ids: np.ndarray, counts: np.ndarray, dtype: str
) -> np.ndarray:
    blobs = _column(connection, table, "content", image_ids)
    if not blobs:
        return np.empty((0, 0), dtype)
    lengths = np.array([len(blob) for blob in blobs], np.int64)
    row_bytes = int(lengths[0] // max(int(counts[0]), 1))
    if row_bytes == 0 or row_bytes % np.dtype(dtype).itemsize or (lengths != counts * row_bytes).any():
        raise GalleryError(f"{table} do not fit their regions; `edge-claid gallery verify` says which")
    return np.frombuffer(b"".join(blobs), dtype).reshape(int(counts.sum()), -1)
