"""Changes that are committed together: what a batch reports has happened, and all of it or nothing."""

from __future__ import annotations

import sqlite3
from typing import Protocol

import numpy as np

from edge_claid.codes.space import CodeSpace
from edge_claid.gallery.storage.rows import (
    AFTER_FRAME_MARK,
    FRAME_MARK,
    UNFINISHED,
    NewImage,
    box_bytes,
    checksum,
    half_bytes,
    name_bytes,
    packed_masks,
    tree_bytes,
)


class Space(Protocol):
    """A code space: what the gallery needs of edge_claid.codes.space.CodeSpace."""

    @property
    def id(self) -> str:
        """Names the space by its content."""

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """(R, D) float32 to (R, M) uint8."""

    def to_bytes(self) -> bytes:
        """The space as it is stored."""


class Batch:
    """Changes inside one transaction; made by ``Gallery.batch()``.

    space: (row id, space) of the active code space, or None. keep: descriptors are stored beside the codes.
    """

    def __init__(self, connection: sqlite3.Connection, space: tuple[int, Space] | None, keep: bool):
        self._connection = connection
        self._space = space
        self._keep = keep

    @property
    def connection(self) -> sqlite3.Connection:
        """The open transaction, for other modules of this package."""
        return self._connection

    def add(self, image: NewImage) -> tuple[str, int]:
        """Add a picture, or recognise it: (status, image id).

        "added"; "replaced": the path held another picture before, which is displaced; "known": the same content is
        in the gallery already, nothing changes.
        """
        known = self._one("SELECT id FROM images WHERE hash = ?", image.content_hash)
        if known is not None:
            return "known", known
        replaced = self.displace(image.root_id, image.path)
        width, height = image.described.regions.image_size
        place = (image.root_id, name_bytes(image.path), image.content_hash, image.size, image.mtime_ns)
        facts = (int(width), int(height), len(image.described.regions))
        words = (image.label, image.taken, image.latitude, image.longitude)
        cursor = self._connection.execute(
            "INSERT INTO images (root, path, hash, size, mtime_ns, width, height, regions, label, taken, latitude,"
            " longitude) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (*place, *facts, *words),
        )
        assert cursor.lastrowid is not None
        self._write_content(cursor.lastrowid, image)
        return ("replaced" if replaced else "added"), cursor.lastrowid

    def move(self, image_id: int, root_id: int, path: str, size: int, mtime_ns: int) -> None:
        """The same picture under another name. A picture that had that name before is displaced."""
        self.displace(root_id, path, but=image_id)
        self._connection.execute(
            "UPDATE images SET root = ?, path = ?, size = ?, mtime_ns = ?, displaced = 0 WHERE id = ?",
            (root_id, name_bytes(path), size, mtime_ns, image_id),
        )

    def displace(self, root_id: int, path: str, but: int = -1) -> bool:
        """Take the picture at this path out of the search; True where there was one (other than ``but``)."""
        cursor = self._connection.execute(
            "UPDATE images SET displaced = 1 WHERE root = ? AND path = ? AND displaced = 0 AND id <> ?",
            (root_id, name_bytes(path), but),
        )
        return cursor.rowcount > 0

    def touch(self, image_id: int, size: int, mtime_ns: int) -> None:
        """Same place, same content, another modification time."""
        self._connection.execute(
            "UPDATE images SET size = ?, mtime_ns = ?, displaced = 0 WHERE id = ?", (size, mtime_ns, image_id)
        )

    def has(self, image_id: int) -> bool:
        return self._one("SELECT id FROM images WHERE id = ?", image_id) is not None

    def label(self, image_id: int, text: str | None) -> None:
        self._connection.execute("UPDATE images SET label = ? WHERE id = ?", (text, image_id))

    def remove(self, image_id: int) -> bool:
        """Remove a picture with all that hangs on it; True where there was one.

        Of a frame's video the other frames are looked at again by the next enrolment, which finds this one lacking.
        """
        place = self._connection.execute("SELECT root, path FROM images WHERE id = ?", (image_id,)).fetchone()
        if place is None:
            return False
        self._connection.execute("DELETE FROM images WHERE id = ?", (image_id,))
        video, mark, _ = place[1].rpartition(FRAME_MARK)
        if mark:
            siblings = (UNFINISHED, place[0], video + mark, video + AFTER_FRAME_MARK)
            update = "UPDATE images SET mtime_ns = ? WHERE root = ? AND path >= ? AND path < ?"
            self._connection.execute(update, siblings)
        return True

    def remove_displaced(self, root_id: int) -> int:
        """Remove what lost its file to another picture and turned up nowhere else; how many."""
        return self._connection.execute("DELETE FROM images WHERE root = ? AND displaced = 1", (root_id,)).rowcount

    def _write_content(self, image_id: int, image: NewImage) -> None:
        regions, values = image.described.regions, image.described.descriptors.values
        if len(values) != len(regions):
            raise ValueError(f"{len(regions)} regions with {len(values)} descriptors")
        boxes, tree, packed = box_bytes(regions), tree_bytes(regions), packed_masks(regions)
        insert = self._connection.execute
        insert("INSERT INTO regions VALUES (?,?,?,?)", (image_id, boxes, tree, checksum(boxes, tree)))
        insert("INSERT INTO masks VALUES (?,?,?,?,?)", (image_id, *regions.grid, packed, checksum(packed)))
        half = half_bytes(values)
        if self._space is not None:
            # Coded from the stored precision, so that coding now or from stored descriptors gives the same codes.
            rounded = np.frombuffer(half, "<f2").reshape(values.shape).astype(np.float32)
            write_codes(self._connection, image_id, self._space, rounded)
        if self._space is None or self._keep:
            insert("INSERT INTO descriptors VALUES (?,?,?)", (image_id, half, checksum(half)))

    def _one(self, query: str, *values: object) -> int | None:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]


def write_codes(
    connection: sqlite3.Connection, image_id: int, space: tuple[int, Space], descriptors: np.ndarray
) -> None:
    """Code the (R, D) float32 descriptors of one image and store that, in place of any before."""
    row, coder = space
    codes = np.ascontiguousarray(coder.encode(descriptors), np.uint8)
    content = codes.tobytes()
    lost = residual(coder, descriptors, codes)
    connection.execute("REPLACE INTO codes VALUES (?,?,?,?,?)", (image_id, row, content, checksum(content), lost))


def residual(space: Space, descriptors: np.ndarray, codes: np.ndarray) -> float | None:
    """Mean squared L2 error of an image's codes, between projected descriptors of unit norm and what is decoded.

    descriptors: (R, D) float32. codes: (R, M) uint8. None for a space that does not decode.
    """
    if not isinstance(space, CodeSpace):
        return None
    lost = space.project(descriptors) - space.book.decode(codes)
    return float(np.square(lost).sum(axis=1).mean())
