"""What a gallery file holds: one SQLite database, and how its layout is told and checked.

Per image and table one row, blobs little-endian and row-major:
    regions      boxes (R, 4) float32; tree: parents, depths, areas (R,) int32, energy, connectivity (R,) float32,
                 one array after the other
    masks        zlib of the packed token masks (R, ceil(rows * columns / 8)) uint8
    descriptors  (R, D) float16, unit norm, before projection
    codes        (R, M) uint8 of the active code space; residual: mean squared error of the image's codes (see drift)
Of the gallery: the active code space in code_spaces, and once more in space_copies (see stored_space).
Small and large things lie in tables of their own, so that reading all codes reads nothing else.

``checksum`` is the CRC-32 of the row's blobs in column order. ``displaced`` marks an image whose file now holds another
picture: it is no longer searched, and is taken up again when its content turns up under another name.

To change the layout: raise VERSION, change STATEMENTS, and add the step from the version before to MIGRATIONS. What a
step leaves must be STATEMENTS to the letter; tests/gallery/storage/layouts/ holds a gallery of every layout there was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from edge_claid.gallery.storage import stored_space

APPLICATION_ID = 0x434C4944  # "CLID"
VERSION = 3
READABLE = 2  # from this layout on a gallery is read as it is; only who writes to it renews it

STATEMENTS = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "roots": "CREATE TABLE roots (id INTEGER PRIMARY KEY, name BLOB NOT NULL, location BLOB NOT NULL,"
    " volume TEXT NOT NULL)",
    "images": "CREATE TABLE images (id INTEGER PRIMARY KEY AUTOINCREMENT, root INTEGER NOT NULL REFERENCES roots(id),"
    " path BLOB NOT NULL, hash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, regions INTEGER NOT NULL, label TEXT, taken TEXT,"
    " latitude REAL, longitude REAL, displaced INTEGER NOT NULL DEFAULT 0)",
    "images_by_path": "CREATE UNIQUE INDEX images_by_path ON images (root, path) WHERE displaced = 0",
    "images_by_label": "CREATE INDEX images_by_label ON images (label) WHERE label IS NOT NULL",
    "images_displaced": "CREATE INDEX images_displaced ON images (root) WHERE displaced = 1",
    "regions": "CREATE TABLE regions (image INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,"
    " boxes BLOB NOT NULL, tree BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "masks": "CREATE TABLE masks (image INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,"
    " rows INTEGER NOT NULL, columns INTEGER NOT NULL, packed BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "descriptors": "CREATE TABLE descriptors (image INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,"
    " content BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "code_spaces": "CREATE TABLE code_spaces (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE,"
    " content BLOB NOT NULL, checksum INTEGER NOT NULL, active INTEGER NOT NULL, error REAL, newest INTEGER)",
    "one_active": "CREATE UNIQUE INDEX one_active ON code_spaces (active) WHERE active = 1",
    "codes": "CREATE TABLE codes (image INTEGER PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,"
    " space INTEGER NOT NULL REFERENCES code_spaces(id), content BLOB NOT NULL, checksum INTEGER NOT NULL,"
    " residual REAL)",
    "space_copies": "CREATE TABLE space_copies (space INTEGER PRIMARY KEY REFERENCES code_spaces(id) ON DELETE CASCADE,"
    " content BLOB NOT NULL, identity TEXT NOT NULL, checksum INTEGER NOT NULL, error REAL, newest INTEGER)",
}
# What came with a later layout than the first.
_SINCE = {"images_by_label": 2, "images_displaced": 2, "space_copies": 3}


def _from_first(connection: sqlite3.Connection) -> None:
    """What the codes lose is kept, so that a gallery that has outgrown its code book is noticed; indices."""
    connection.execute("ALTER TABLE codes ADD COLUMN residual REAL")
    connection.execute("ALTER TABLE code_spaces ADD COLUMN error REAL")
    connection.execute("ALTER TABLE code_spaces ADD COLUMN newest INTEGER")
    connection.execute(STATEMENTS["images_by_label"])
    connection.execute(STATEMENTS["images_displaced"])


def _from_second(connection: sqlite3.Connection) -> None:
    """The code space has a copy."""
    connection.execute(STATEMENTS["space_copies"])
    stored_space.seal(connection)


# version -> what brings a gallery of that version to the next; run in one transaction by the first who may write.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_first, 2: _from_second}


def create(connection: sqlite3.Connection) -> None:
    """Lay out an empty database; to be called inside a transaction."""
    for statement in STATEMENTS.values():
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def differences(connection: sqlite3.Connection, version: int = VERSION) -> list[str]:
    """What the file has beyond or short of a layout. A foreign trigger or view could act on our behalf."""
    stored, expected = _stored(connection), _layout(version)
    missing = [f"{name} is missing" for name in expected if name not in stored]
    changed = [f"{name} has another layout" for name, sql in expected.items() if stored.get(name, sql) != sql]
    return missing + foreign(connection, version) + changed


def foreign(connection: sqlite3.Connection, version: int = VERSION) -> list[str]:
    """What a layout does not have; to be known before a step to the next one is taken."""
    return [f"{name} does not belong there" for name in _stored(connection) if name not in _layout(version)]


def _layout(version: int) -> dict[str, str]:
    return {name: sql for name, sql in STATEMENTS.items() if _SINCE.get(name, 0) <= version}


def _stored(connection: sqlite3.Connection) -> dict[str, str]:
    stored = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    stored.pop("sqlite_sequence", None)
    return stored
