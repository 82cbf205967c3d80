"""What is sound in a damaged gallery file, written into a new one row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge_claid.errors import EdgeClaidError, GalleryError
from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.batch import Space
from edge_claid.gallery.storage.pages import Pages, Value
from edge_claid.gallery.storage.rows import MOST_REGIONS, checksum, name_from_bytes
from edge_claid.gallery.store import Gallery

_AT_ONCE = 500  # rows that are committed together
_IDENTITY = {"pipeline_id", "describe_settings", "descriptor_dim"}

_NUMBER = float | int | None
_WORDS = (str | None, str | None, _NUMBER, _NUMBER)  # label, time, place
# table -> types of its values as they lie in a row; the first column is the row's id and lies there as NULL.
_SHAPES: dict[str, tuple[object, ...]] = {
    "roots": (None, bytes, bytes, str),
    "images": (None, int, bytes, bytes, int, int, int, int, int, *_WORDS, int),
    "regions": (None, bytes, bytes, int),
    "masks": (None, int, int, bytes, int),
    "descriptors": (None, bytes, int),
    "code_spaces": (None, str, bytes, int, int, _NUMBER, int | None),
    "codes": (None, int, bytes, int, _NUMBER),
    "space_copies": (None, bytes, str, int, _NUMBER, int | None),
}
# Rows written before these columns came end before them.
_SHORTEST = {"code_spaces": 5, "codes": 4}
_HEADS = ("roots", "images", "code_spaces", "space_copies")
_CONTENT = ("regions", "masks", "descriptors", "codes")


@dataclass
class Salvage:
    """What was found. names: path of each image that an index knows. reasons: image id to what was wrong with it.

    images: ids whose entry was sound. space_row: id of the active code space, None where none is sound.
    copied: it is the copy's, the first one being damaged. was_coded: there were codes.
    """

    meta: dict[str, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    hashes: dict[int, bytes] = field(default_factory=dict)
    paths: dict[int, bytes] = field(default_factory=dict)
    images: set[int] = field(default_factory=set)
    reasons: dict[int, list[str]] = field(default_factory=dict)
    content_ids: set[int] = field(default_factory=set)
    space_row: int | None = None
    copied: bool = False
    was_coded: bool = False

    def blame(self, image_id: int, reason: str) -> None:
        self.reasons.setdefault(image_id, []).append(reason)


def salvage(path: str, into: Gallery) -> Salvage:
    """Write every sound row of the file at ``path`` into an empty gallery, unfinished images included.

    Raises GalleryError where nothing says which pipeline the file belongs to.
    """
    found = Salvage()
    with Pages(path) as pages:
        _read_indices(pages, found)
        if not found.meta.keys() >= _IDENTITY:
            raise GalleryError(
                f"gallery {path}: it cannot be told any more which pipeline made it; restore it from a copy, "
                "or enrol the pictures into a new gallery"
            )
        _write(into, lambda run: identity.write_meta(run, **found.meta))
        heads = [(table, row) for table, row in _rows(pages) if table in _HEADS]
        _write(into, lambda run: _write_heads(run, heads, found, into.space_reader))
        content = ((table, row) for table, row in _rows(pages) if table in _CONTENT)
        for some in _by(_AT_ONCE, content):
            _write(into, lambda run, some=some: _write_content(run, some, found))  # type: ignore[misc]
    into.forget_space()
    return found


def _write(into: Gallery, change: Callable[[sqlite3.Connection], None]) -> None:
    with into.writing() as connection:
        change(connection)


def _by(count: int, rows: Iterator[tuple[str, tuple[Value, ...]]]) -> Iterator[list[tuple[str, tuple[Value, ...]]]]:
    some: list[tuple[str, tuple[Value, ...]]] = []
    for row in rows:
        some.append(row)
        if len(some) == count:
            yield some
            some = []
    yield some


def _rows(pages: Pages) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """(table, whole row with its id) of every row that has the shape of a row of ours."""
    for rowid, values in pages.table_rows():
        for table, shape in _SHAPES.items():
            if _SHORTEST.get(table, len(shape)) <= len(values) <= len(shape) and all(
                value is None if kind is None else isinstance(value, kind)  # type: ignore[arg-type]
                for value, kind in zip(values, shape, strict=False)
            ):
                missing = (None,) * (len(shape) - len(values))
                yield table, (rowid, *values[1:], *missing)
                break


def _read_indices(pages: Pages, found: Salvage) -> None:
    for values in pages.index_rows():
        match values:
            case (str(key), str(value)):
                found.meta[key] = value
            case (bytes(content_hash), int(image_id)):
                found.hashes[image_id] = content_hash
            case (int(), bytes(path), int(image_id)):
                found.paths[image_id] = path
                found.names[image_id] = name_from_bytes(path)


def _write_heads(
    connection: sqlite3.Connection,
    rows: list[tuple[str, tuple[Value, ...]]],
    found: Salvage,
    read_space: Callable[[bytes], Space],
) -> None:
    """Roots, code space and the images' entries."""
    for table, row in rows:
        if table == "roots":
            connection.execute("INSERT OR IGNORE INTO roots VALUES (?,?,?,?)", row)
    _write_space(connection, rows, found, read_space)
    for table, row in rows:
        if table == "images":
            _write_image(connection, row, found)


def _write_space(
    connection: sqlite3.Connection,
    rows: list[tuple[str, tuple[Value, ...]]],
    found: Salvage,
    read_space: Callable[[bytes], Space],
) -> None:
    """The active code space, from its copy where it is damaged itself; and a new copy of it."""
    stored = [row for table, row in rows if table == "code_spaces" and row[4] == 1]
    copies = [(row[0], row[2], row[1], row[3], 1, *row[4:]) for table, row in rows if table == "space_copies"]
    for row in (*stored, *copies):
        if _is_sound_space(row, read_space):
            connection.execute("INSERT INTO code_spaces VALUES (?,?,?,?,?,?,?)", row)
            stored_space.seal(connection)
            found.space_row, found.copied = int(row[0]), row not in stored  # type: ignore[arg-type]
            return


def _write_image(connection: sqlite3.Connection, row: tuple[Value, ...], found: Salvage) -> None:
    image_id, root, path, content_hash, size, _, width, height, regions = row[:9]
    assert isinstance(image_id, int)
    assert isinstance(path, bytes)
    found.names.setdefault(image_id, name_from_bytes(path))
    displaced = bool(row[-1])
    others = [found.hashes.get(image_id, content_hash) != content_hash]
    others.append(not displaced and found.paths.get(image_id, path) != path)
    if any(others):
        return found.blame(image_id, "its entry is damaged (path or hash differs from the index)")
    if min(width, height, regions) < 1 or regions > MOST_REGIONS or size < 0 or not content_hash:  # type: ignore
        return found.blame(image_id, "its entry is damaged (impossible values)")
    # A lost root is made up: where its pictures lie is learned again at the next enrolment, by their content.
    made_up = (root, f"recovered-{root!r}".encode(), b"", "")
    connection.execute("INSERT OR IGNORE INTO roots VALUES (?,?,?,?)", made_up)
    columns = ",".join("?" * len(row))
    if connection.execute(f"INSERT OR IGNORE INTO images VALUES ({columns})", row).rowcount:
        found.images.add(image_id)
    else:
        found.blame(image_id, "another image has its content or its path")


def _is_sound_space(row: tuple[Value, ...], read_space: Callable[[bytes], Space]) -> bool:
    content = row[2]
    assert isinstance(content, bytes)
    if checksum(content) != row[3]:
        return False
    try:
        return read_space(content).id == row[1]
    except (EdgeClaidError, ValueError):
        return False


def _write_content(connection: sqlite3.Connection, rows: list[tuple[str, tuple[Value, ...]]], found: Salvage) -> None:
    for table, row in rows:
        image_id = row[0]
        assert isinstance(image_id, int)
        found.content_ids.add(image_id)
        found.was_coded |= table == "codes"
        if image_id not in found.images:
            continue
        if table == "codes" and (found.space_row is None or row[1] != found.space_row):
            found.blame(image_id, "its codes are of a code space that is gone")
            continue
        stored = row[3] if table == "codes" else row[-1]
        blobs = [value for value in row if isinstance(value, bytes)]
        if checksum(*blobs) != stored:
            found.blame(image_id, f"its {_named(table)} are damaged (checksum)")
            continue
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)


def _named(table: str) -> str:
    return "region masks" if table == "masks" else table
