"""Rows of images read from a gallery; to be called inside one read transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from edge_claid.errors import GalleryError
from edge_claid.gallery.storage.rows import ImageRow, name_from_bytes, regions_from_bytes, require_kinds
from edge_claid.records import Regions

PAGE = 1000  # images read at once

_COLUMNS = (
    "SELECT i.id, i.root, r.name, i.path, i.hash, i.size, i.mtime_ns, i.width, i.height, i.regions, i.label,"
    " i.taken, i.latitude, i.longitude, i.displaced FROM images i JOIN roots r ON r.id = i.root"
)
_MEND = "`edge-claid gallery verify --repair` keeps what is sound"
_TEXT, _NUMBER = (str, type(None)), (float, int, type(None))
_KINDS = (int, int, bytes, bytes, bytes, int, int, int, int, int, _TEXT, _TEXT, _NUMBER, _NUMBER, int)


def page_after(connection: sqlite3.Connection, last: int, displaced: bool) -> list[ImageRow]:
    """Up to PAGE images by id, beginning after the id ``last``."""
    where = f"{_COLUMNS} WHERE i.displaced = ? AND i.id > ? ORDER BY i.id LIMIT {PAGE}"
    return [_image_row(row) for row in connection.execute(where, (int(displaced), last))]


def newest_before(connection: sqlite3.Connection, last: int | None, limit: int, text: str = "") -> list[ImageRow]:
    """Up to ``limit`` searched images by falling id, from the one before ``last`` on (None: from the newest).

    text: only those whose label or path holds it, upper and lower case alike for ASCII.
    """
    where = f"{_COLUMNS} WHERE i.displaced = 0 AND i.id < ?"
    values: list[object] = [2**62 if last is None else last]
    if text:
        where += " AND (instr(lower(i.label), lower(?)) OR instr(lower(CAST(i.path AS TEXT)), lower(?)))"
        values += [text, text]
    return [_image_row(row) for row in connection.execute(f"{where} ORDER BY i.id DESC LIMIT ?", (*values, limit))]


def found_by_id(connection: sqlite3.Connection, image_ids: Sequence[int]) -> dict[int, ImageRow]:
    """Those of these ids that are there."""
    found: dict[int, ImageRow] = {}
    for start in range(0, len(image_ids), 500):
        some = image_ids[start : start + 500]
        query = f"{_COLUMNS} WHERE i.id IN ({','.join('?' * len(some))})"
        found.update((row[0], _image_row(row)) for row in connection.execute(query, some))
    return found


def first_where(connection: sqlite3.Connection, condition: str, *values: object) -> ImageRow | None:
    """The image that meets a condition on ``i``, the table of images."""
    row = connection.execute(f"{_COLUMNS} WHERE {condition}", values).fetchone()
    return None if row is None else _image_row(row)


def all_where(connection: sqlite3.Connection, condition: str, *values: object) -> list[ImageRow]:
    """The images that meet a condition on ``i``, by id."""
    return [_image_row(row) for row in connection.execute(f"{_COLUMNS} WHERE {condition} ORDER BY i.id", values)]


def regions_of(connection: sqlite3.Connection, image_id: int) -> Regions | None:
    """The region tree of one image, None where it is missing. Raises GalleryError where it is damaged."""
    query = (
        "SELECT r.boxes, r.tree, m.packed, m.rows, m.columns, i.width, i.height FROM images i"
        " JOIN regions r ON r.image = i.id JOIN masks m ON m.image = i.id WHERE i.id = ?"
    )
    row = connection.execute(query, (image_id,)).fetchone()
    if row is None:
        return None
    try:
        return regions_from_bytes(row[0], row[1], row[2], (row[3], row[4]), (row[5], row[6]))
    except GalleryError as error:
        raise GalleryError(f"image {image_id}: {error}") from error


def _image_row(row: tuple[Any, ...]) -> ImageRow:
    try:
        require_kinds(row, *_KINDS)
    except GalleryError as error:
        raise GalleryError(f"the entry of image {row[0]} is damaged: {error}; {_MEND}") from error
    names = name_from_bytes(row[2]), name_from_bytes(row[3])
    return ImageRow(row[0], row[1], *names, *row[4:-1], bool(row[-1]))  # type: ignore[call-arg]
