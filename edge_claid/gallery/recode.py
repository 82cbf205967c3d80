"""A gallery takes a code space: every image coded from its stored descriptors, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import numpy as np

from edge_claid.errors import GalleryError
from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.batch import Space, write_codes
from edge_claid.gallery.storage.open_file import OpenFile
from edge_claid.gallery.storage.rows import checksum, matrix_from_bytes

_LACKING = "SELECT count(*) FROM images i LEFT JOIN descriptors d ON d.image = i.id WHERE d.image IS NULL"


def require_descriptors(gallery: OpenFile) -> None:
    """Raises GalleryError with the fix where an image has no stored descriptors to code anew."""
    with gallery.reading() as connection:
        _require_descriptors(connection, gallery.path)


def recode(
    connection: sqlite3.Connection,
    path: str,
    space: Space,
    keep_descriptors: bool | None,
    advance: Callable[[int], None] = lambda images: None,
) -> None:
    """Make ``space`` the active one and code all images in it. Raises GalleryError where descriptors are missing."""
    _require_descriptors(connection, path)
    row = _activate(connection, space)
    connection.execute("DELETE FROM codes")
    last = -1
    while True:
        page = connection.execute(
            "SELECT d.image, i.regions, d.content FROM descriptors d JOIN images i ON i.id = d.image"
            " WHERE d.image > ? ORDER BY d.image LIMIT 64",
            (last,),
        ).fetchall()
        if not page:
            break
        for image_id, count, content in page:
            values = matrix_from_bytes(content, count, "<f2").astype(np.float32)
            write_codes(connection, image_id, (row, space), values)
        last = page[-1][0]
        advance(len(page))
    connection.execute("DELETE FROM code_spaces WHERE active = 0")
    # What new images are measured against (see drift).
    connection.execute(
        "UPDATE code_spaces SET newest = (SELECT max(id) FROM images), error = (SELECT sum(c.residual * i.regions)"
        " / sum(i.regions) FROM codes c JOIN images i ON i.id = c.image WHERE c.residual IS NOT NULL)"
    )
    stored_space.seal(connection)
    if keep_descriptors is not None:
        identity.write_meta(connection, keep_descriptors="1" if keep_descriptors else "0")
    if identity.read_meta(connection).get("keep_descriptors") != "1":
        connection.execute("DELETE FROM descriptors")


def _require_descriptors(connection: sqlite3.Connection, path: str) -> None:
    missing = connection.execute(_LACKING).fetchone()[0]
    if missing:
        raise GalleryError(
            f"gallery {path}: {missing} images have no stored descriptors to code anew; "
            f"`edge-claid gallery reencode {path}` makes them from the pictures"
        )


def _activate(connection: sqlite3.Connection, space: Space) -> int:
    content = space.to_bytes()
    connection.execute("UPDATE code_spaces SET active = 0")
    # A new row even for an equal space: codes of the old row are gone before the old row is.
    connection.execute(
        "UPDATE code_spaces SET identity = identity || ' (old ' || id || ')' WHERE identity = ?", (space.id,)
    )
    cursor = connection.execute(
        "INSERT INTO code_spaces (identity, content, checksum, active) VALUES (?,?,?,1)",
        (space.id, content, checksum(content)),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid
