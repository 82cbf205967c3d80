"""The code space of a gallery as it is stored: twice, since without it no code says anything.

A damaged row of an image costs that image; a damaged code space would cost the gallery, unless float descriptors are
kept. What ``code_spaces`` holds lies once more in ``space_copies``, written in the same transaction after all codes, so
that these lie between the two in the file. Whoever reads takes the first one that is sound.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import GalleryError
from edge_claid.gallery.storage.rows import checksum

_DAMAGED = "its code space is damaged"
_OF = {
    "code_spaces": "SELECT {} FROM code_spaces WHERE active = 1",
    "space_copies": "SELECT {} FROM space_copies",
}
_CONTENT = "identity, content, checksum"


@dataclass(frozen=True)
class StoredSpace:
    """The active code space. row: its id, which codes refer to. content: as ``Space.to_bytes`` made it.

    copied: it was read from the copy, the first one being damaged.
    """

    row: int
    identity: str
    content: bytes
    copied: bool


def read(connection: sqlite3.Connection) -> StoredSpace | None:
    """The active code space with its content; None before there is one. Raises GalleryError where none is sound."""
    row, copied = _first_sound(connection, _CONTENT, _is_whole)
    return StoredSpace(row[0], row[1], row[2], copied) if row else None


def active(connection: sqlite3.Connection) -> tuple[int, str] | None:
    """Row id and identity of the active code space, without its content; None before there is one."""
    row, _ = _first_sound(connection, "identity", lambda row: isinstance(row[0], int) and isinstance(row[1], str))
    return (row[0], row[1]) if row else None


def measured(connection: sqlite3.Connection) -> tuple[Any, Any] | None:
    """(mean squared error of the codes when it was adopted, id of the newest image then), see drift; None before it."""
    row, _ = _first_sound(connection, "error, newest", lambda row: True)
    return (row[1], row[2]) if row else None


def seal(connection: sqlite3.Connection) -> None:
    """Write the copy anew, as the last step of every change of ``code_spaces`` and in its transaction.

    A damaged code space is not copied.
    """
    connection.execute("DELETE FROM space_copies")
    try:
        row = connection.execute(_OF["code_spaces"].format(f"id, {_CONTENT}, error, newest")).fetchone()
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return
    if row is not None and _is_whole(row):
        space, identity, content, *rest = row
        connection.execute("INSERT INTO space_copies VALUES (?,?,?,?,?,?)", (space, content, identity, *rest))


def problems(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with the code space or with its copy; nothing where a gallery has none, or an older layout."""
    if "space_copies" not in _tables(connection):
        return
    names = {"code_spaces": "its code space", "space_copies": "the copy of its code space"}
    found: dict[str, Any] = {}
    for table, name in names.items():
        try:
            rows = connection.execute(_query(table, _CONTENT)).fetchall()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            yield f"{name} is damaged ({error})"
            continue
        if len(rows) > 1:
            yield f"{name} is there {len(rows)} times"
        elif rows and not _is_whole(rows[0]):
            yield f"{name} is damaged"
        else:
            found[table] = rows[0] if rows else None
    if len(found) == len(names):
        first, second = found.values()
        if first is None and second is not None:
            yield "its code space is gone, only the copy is there"
        elif first is not None and second is None:
            yield "its code space has no copy"
        elif first != second:
            yield "the copy of its code space is of another one"


def _first_sound(
    connection: sqlite3.Connection, columns: str, is_sound: Callable[[tuple[Any, ...]], bool]
) -> tuple[tuple[Any, ...] | None, bool]:
    """(row, whether it is the copy's) of the first table that has a sound one; (None, False) where neither has any.

    Raises what is wrong with the first where none is sound.
    """
    damage: Exception | None = None
    for table in ("code_spaces", "space_copies"):
        if table == "space_copies" and table not in _tables(connection):
            continue
        try:
            row = connection.execute(_query(table, columns)).fetchone()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            damage = damage or error
            continue
        if row is not None and is_sound(row):
            return row, table == "space_copies"
        if row is not None:
            damage = damage or GalleryError(_DAMAGED)
    if damage is not None:
        raise damage
    return None, False


def _query(table: str, columns: str) -> str:
    return _OF[table].format(f"{'id' if table == 'code_spaces' else 'space'}, {columns}")


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Galleries of layout 2 are read as they are, and have no copy."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_whole(row: tuple[Any, ...]) -> bool:
    """Row id, identity, content and its checksum."""
    kinds = (int, str, bytes, int)
    return all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=False)) and checksum(row[2]) == row[3]


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """True where it is the file's content that is wrong; a lock, a failing medium or a full disk concern all of it."""
    return type(error) is sqlite3.DatabaseError or "decode" in str(error).lower()
