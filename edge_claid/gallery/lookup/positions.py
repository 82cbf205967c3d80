"""Which images a search holds, and how it keeps in step with the file without reading anything twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import GalleryError
from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.rows import boxes_from_bytes

ROWS_AT_ONCE = 4096  # images; bounds what opening needs beside the codes themselves
IDS_AT_ONCE = 500
_PRIME = 1_000_003

Parts = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Origin:
    """What gives the stored content its meaning; where it differs, all is to be read anew.

    pipeline: id, None before the first image. width: dimensions of a descriptor. space: row and identity of the active
    code space, or None.
    """

    pipeline: str | None
    width: int
    space: tuple[int, str] | None


class Positions:
    """The images of a search by position; a position is given once, in the order of reading.

    image_ids: (I,) int64, for ``Gallery.images_by_id``. starts: (I + 1,) int64; regions starts[i]:starts[i + 1] belong
    to position i. live: (I,) bool, False once the image is removed; it keeps its position and its regions.
    """

    def __init__(self, table: str, dtype: str, width: int) -> None:
        """table: "codes" or "descriptors". dtype, width: of one region's row there."""
        self._table, self._dtype, self._width = table, np.dtype(dtype), width
        self.image_ids: np.ndarray = np.empty(0, np.int64)
        self.starts: np.ndarray = np.zeros(1, np.int64)
        self.live = np.empty(0, bool)

    def __len__(self) -> int:
        """Images that are searched."""
        return int(np.count_nonzero(self.live))

    def compare(self, connection: sqlite3.Connection) -> tuple[np.ndarray, list[int]]:
        """Positions (n,) int32 of images that are no longer searched, not live from now on; ids searched again.

        To be followed by ``read`` inside the same read transaction.
        """
        # From the index alone, since the rows of images are large; and as a rule nothing but additions has happened.
        searched = "FROM images INDEXED BY images_by_path WHERE displaced = 0 AND id <= ?"
        last = (int(self.image_ids.max(initial=-1)),)
        sums = f"SELECT count(*), coalesce(sum(id), 0), coalesce(sum(id * id % {_PRIME}), 0) {searched}"
        live_ids = self.image_ids[self.live]
        expected = (len(live_ids), int(live_ids.sum()), int((live_ids * live_ids % _PRIME).sum()))
        if connection.execute(sums, last).fetchone() == expected:
            return np.empty(0, np.int32), []
        there = np.array(connection.execute(f"SELECT id {searched}", last).fetchall(), np.int64).ravel()
        gone = np.flatnonzero(self.live & ~np.isin(self.image_ids, there))
        self.live[gone] = False
        return gone.astype(np.int32), there[~np.isin(there, self.image_ids[self.live])].tolist()

    def read(self, connection: sqlite3.Connection, returned: Sequence[int] = ()) -> Parts:
        """What was added since the last time: (values (n, width), position of each row's image (n,) int32) in parts.

        returned: ids of images to read again. To be used up inside one read transaction.
        Raises GalleryError where something is missing or does not fit.
        """
        last = int(self.image_ids.max(initial=-1))
        displaced = {row[0] for row in connection.execute("SELECT id FROM images WHERE displaced = 1")}
        yield from self._parts(self._rows_of(connection, returned))
        rows = connection.execute(f"SELECT image, content FROM {self._table} WHERE image > ? ORDER BY image", (last,))
        yield from self._parts(iter(lambda: rows.fetchmany(ROWS_AT_ONCE), []), displaced)
        total = connection.execute("SELECT count(*) FROM images WHERE displaced = 0").fetchone()[0]
        if total != len(self):
            raise GalleryError(f"{self._table} of {abs(total - len(self))} images are missing")

    def of_ids(self, image_ids: Iterable[int]) -> np.ndarray:
        """(I,) bool: which positions hold these images."""
        return self.live & np.isin(self.image_ids, np.fromiter(image_ids, np.int64))

    def boxes(self, connection: sqlite3.Connection, positions: np.ndarray) -> list[np.ndarray]:
        """Boxes (R, 4) float32 of the images at these positions, in their order; pixels of the original image.

        Raises GalleryError where an image is gone or its boxes do not fit.
        """
        found: dict[int, bytes] = {}
        for some in _portions(self.image_ids[positions].tolist()):
            query = f"SELECT image, boxes FROM regions WHERE image IN ({_marks(some)})"
            found.update(connection.execute(query, some).fetchall())
        return [self._own_boxes(found.get(int(self.image_ids[i])), i) for i in positions]

    def _own_boxes(self, content: bytes | None, position: int) -> np.ndarray:
        if content is None:
            raise GalleryError("an image was removed meanwhile")
        boxes = boxes_from_bytes(content)
        if len(boxes) != self.starts[position + 1] - self.starts[position]:
            raise GalleryError("an image's boxes do not fit its regions")
        return boxes

    def _rows_of(self, connection: sqlite3.Connection, image_ids: Sequence[int]) -> Iterator[list[tuple[int, bytes]]]:
        for some in _portions(image_ids):
            query = f"SELECT image, content FROM {self._table} WHERE image IN ({_marks(some)}) ORDER BY image"
            yield connection.execute(query, some).fetchall()

    def _parts(self, pages: Iterable[list[tuple[int, bytes]]], but: set[int] | None = None) -> Parts:
        new_ids, new_starts, images, start = [self.image_ids], [self.starts], len(self.image_ids), int(self.starts[-1])
        for page in pages:
            rows = [row for row in page if row[0] not in but] if but else page
            if not rows:
                continue
            ids, blobs = zip(*rows, strict=True)
            counts = self._counts(blobs)
            new_ids.append(np.array(ids, np.int64))
            new_starts.append(start + np.cumsum(counts))
            values = np.frombuffer(b"".join(blobs), self._dtype).reshape(-1, self._width)
            yield values, np.repeat(np.arange(images, images + len(ids), dtype=np.int32), counts)
            images, start = images + len(ids), int(new_starts[-1][-1])
        self.image_ids, self.starts = np.concatenate(new_ids), np.concatenate(new_starts)
        self.live = np.concatenate([self.live, np.ones(images - len(self.live), bool)])

    def _counts(self, blobs: tuple[bytes, ...]) -> np.ndarray:
        try:
            lengths = np.fromiter(map(len, blobs), np.int64, len(blobs))
        except TypeError as error:
            raise GalleryError(f"{self._table} that are no bytes") from error
        row_bytes = self._width * self._dtype.itemsize
        if not lengths.all() or (lengths % row_bytes).any():
            raise GalleryError(f"{self._table} do not fit their regions")
        return lengths // row_bytes


def version(connection: sqlite3.Connection) -> tuple[int, int]:
    """Changes with every commit, by this connection or by another."""
    return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes


def read_origin(connection: sqlite3.Connection) -> Origin:
    meta = identity.read_meta(connection)
    width = meta.get("descriptor_dim", "0")
    if not width.isdecimal() or len(width) > 6:
        raise GalleryError(f"descriptors of {width[:20]!r} dimensions")
    return Origin(meta.get("pipeline_id"), int(width), stored_space.active(connection))


def _portions(image_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (image_ids[start : start + IDS_AT_ONCE] for start in range(0, len(image_ids), IDS_AT_ONCE))


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
