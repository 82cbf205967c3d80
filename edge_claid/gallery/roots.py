"""Enrolment roots: the folders that image paths start from, told apart even where they share a name or a mount point.

A stick that comes back under another mount point is the same root; another stick under the same mount point is not.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass

from edge_claid.gallery.storage.rows import name_bytes, name_from_bytes
from edge_claid.gallery.store import Gallery


@dataclass(frozen=True)
class Root:
    """location: absolute path it was last seen at. volume: file system and place on it, "" where unknown."""

    id: int
    name: str
    location: str
    volume: str


def all_roots(gallery: Gallery) -> list[Root]:
    """Every root, in the order they were first enrolled."""
    with gallery.reading() as connection:
        return _stored(connection)


def find_root(gallery: Gallery, location: str, name: str) -> Root | None:
    """The stored root that this folder is, or None where it is a new one."""
    return _match(all_roots(gallery), os.path.abspath(location), name, volume_of(location))


def register_root(gallery: Gallery, location: str, name: str) -> Root:
    """The stored root that this folder is, made where it is new, its location brought up to date."""
    location, volume = os.path.abspath(location), volume_of(location)
    with gallery.writing() as connection:
        known = _match(_stored(connection), location, name, volume)
        if known is None:
            query = "INSERT INTO roots (name, location, volume) VALUES (?,?,?)"
            row = connection.execute(query, (name_bytes(name), name_bytes(location), volume)).lastrowid
            assert row is not None
            return Root(row, name, location, volume)
        volume = volume or known.volume
        if (known.location, known.volume) != (location, volume):
            query = "UPDATE roots SET location = ?, volume = ? WHERE id = ?"
            connection.execute(query, (name_bytes(location), volume, known.id))
        return Root(known.id, known.name, location, volume)


def volume_of(location: str) -> str:
    """``UUID:path on that file system`` where the system tells it, else ""."""
    try:
        device = os.stat(location).st_dev
        with os.scandir("/dev/disk/by-uuid") as entries:
            uuid = next(entry.name for entry in entries if os.stat(entry.path).st_rdev == device)
    except (OSError, StopIteration):
        return ""
    mount = os.path.realpath(location)
    while not os.path.ismount(mount):
        mount = os.path.dirname(mount)
    inside = os.path.relpath(os.path.realpath(location), mount)
    return f"{uuid}:{inside}".encode(errors="backslashreplace").decode()


def is_mounted(root: Root) -> bool:
    """False where the root's folder is gone, or only the empty mount point of its medium is left."""
    if not os.path.isdir(root.location):
        return False
    return not root.volume or volume_of(root.location) == root.volume


def _stored(connection: sqlite3.Connection) -> list[Root]:
    rows = connection.execute("SELECT id, name, location, volume FROM roots ORDER BY id")
    return [Root(row[0], name_from_bytes(row[1]), name_from_bytes(row[2]), row[3]) for row in rows]


def _match(roots: list[Root], location: str, name: str, volume: str) -> Root | None:
    for root in roots:
        if volume and root.volume == volume:
            return root
    for root in roots:
        if root.location == location and not (volume and root.volume):
            return root
    for root in roots:
        # Moved as a whole: the same name, and nothing left where it was.
        if root.name == name and not (volume and root.volume) and not os.path.isdir(root.location):
            return root
    return None
