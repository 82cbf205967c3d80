"""A damaged gallery keeps all that is sound: salvaged into a new file beside it, which then takes its place at once.

The damaged file stays as NAME.claid.damaged. An interrupted repair leaves the gallery as it was; run it again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_claid.errors import GalleryError, StorageError, UsageError
from edge_claid.gallery.clips import look_again
from edge_claid.gallery.storage import identity, medium, schema
from edge_claid.gallery.storage.batch import Space, write_codes
from edge_claid.gallery.storage.failures import plain_errors
from edge_claid.gallery.storage.replace import put_in_place, remove_database
from edge_claid.gallery.storage.rows import ImageRow, matrix_from_bytes
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.salvage import Salvage, salvage
from edge_claid.gallery.upkeep.verify import Expected, expected_of, image_problems, verify

_AT_ONCE = 500  # images that are committed together


@dataclass(frozen=True)
class Mended:
    """What became of one image that was not whole. image, root: its path and root, None where no longer known.

    status: "lost"; "recoded": its codes were made again from its descriptors; "lightened": it is kept without its
    float descriptors. reason: what was wrong with it.
    """

    image: str | None
    root: str | None
    status: str
    reason: str


@dataclass(frozen=True)
class Repaired:
    """images: in the repaired gallery. mended: every image that was not whole. damaged: where the old file lies.

    lost_space: the code space was damaged; the images are searched by their descriptors until `retrain`.
    restored_space: it was damaged and is as it was, from its copy.
    """

    images: int
    mended: list[Mended]
    damaged: str
    lost_space: bool
    restored_space: bool


def repair(path: str, *, wait_seconds: float = 30.0, read_space: Callable[[bytes], Space] | None = None) -> Repaired:
    """Mend the gallery at ``path``. Raises GalleryError where nothing can be kept, StorageError without room for it
    or while another process has the gallery open; then nothing was changed."""
    _finish_interrupted(path)
    if not os.path.isfile(path):
        raise UsageError(f"no gallery at {path}")
    free = medium.free_bytes(path)
    if free is not None and free < os.path.getsize(path):
        raise StorageError(f"gallery {path}: a repair needs {os.path.getsize(path):,} free bytes beside it")
    trouble = medium.read_trouble(path)
    if trouble is not None:
        # The pages are mapped: one that the disk does not give would end the process.
        raise StorageError(
            f"gallery {path} cannot be read ({trouble}): its medium is failing; copy what can be read to a sound disk "
            "(ddrescue does) and repair the copy"
        )
    beside = path + ".repairing"
    remove_database(beside)
    try:
        with (
            plain_errors(path),
            _held(path, wait_seconds),
            Gallery.open(beside, "create", read_space=read_space) as fresh,
        ):
            mended, found = _mend(path, fresh)
            images = len(fresh)
        damaged = put_in_place(beside, path, keep_as=path + ".damaged")
    except BaseException:
        remove_database(beside)
        raise
    return Repaired(images, mended, damaged, found.was_coded and found.space_row is None, found.copied)


def _mend(path: str, fresh: Gallery) -> tuple[list[Mended], Salvage]:
    found = salvage(path, fresh)
    mended = [_lost(found, image_id) for image_id in sorted(_entries_lost(found))]
    if found.space_row is None:
        with fresh.writing() as connection:
            connection.execute("DELETE FROM codes")
    expected = expected_of(fresh)
    rows = [*fresh.images(), *fresh.images(displaced=True)]
    for start in range(0, len(rows), _AT_ONCE):
        with fresh.writing() as connection:
            for row in rows[start : start + _AT_ONCE]:
                mended += _mend_image(connection, row, expected, found)
    if any(one.status == "lost" for one in mended):
        # It may have been a frame of a video: the next enrolment looks at every video again.
        with fresh.writing() as connection:
            look_again(connection)
    problems = list(verify(fresh))
    if problems:
        raise GalleryError(f"gallery {path} cannot be repaired ({problems[0].what}); restore it from a copy")
    if not len(fresh) and mended:
        raise GalleryError(
            f"gallery {path}: no image in it is whole any more, nothing was changed; enrol the pictures anew"
        )
    return mended, found


def _entries_lost(found: Salvage) -> set[int]:
    """Images whose entry is gone: something else still speaks of them."""
    return (found.paths.keys() | found.content_ids | found.reasons.keys()) - found.images


def _lost(found: Salvage, image_id: int) -> Mended:
    reasons = found.reasons.get(image_id) or ["its entry is damaged"]
    return Mended(found.names.get(image_id), None, "lost", "; ".join(dict.fromkeys(reasons)))


def _mend_image(connection: sqlite3.Connection, row: ImageRow, expected: Expected, found: Salvage) -> list[Mended]:
    """Codes are made again from descriptors; an image that cannot be searched any more, or not drawn, is removed."""
    wrong = dict(image_problems(connection, row, expected))
    kept = connection.execute("SELECT content FROM descriptors WHERE image = ?", (row.id,)).fetchone()
    reason = "; ".join(dict.fromkeys([*found.reasons.get(row.id, []), *wrong.values()]))
    tell = lambda status: [Mended(row.path, row.root, status, reason)]  # noqa: E731
    if wrong.keys() <= {"codes"} and "codes" in wrong and kept and expected.space is not None:
        values = matrix_from_bytes(kept[0], row.regions, "<f2").astype(np.float32)
        write_codes(connection, row.id, expected.space, values)
        return tell("recoded")
    if wrong.keys() == {"descriptors"} and expected.space is not None:
        connection.execute("DELETE FROM descriptors WHERE image = ?", (row.id,))
        return tell("lightened")
    if wrong:
        connection.execute("DELETE FROM images WHERE id = ?", (row.id,))
        return tell("lost")
    if kept is None and identity.read_meta(connection).get("keep_descriptors") == "1":
        return [Mended(row.path, row.root, "lightened", reason or "its descriptors are missing")]
    return []


@contextlib.contextmanager
def _held(path: str, wait_seconds: float) -> Iterator[None]:
    """Nobody else writes to the gallery, and the file itself holds all that was committed."""
    connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
    try:
        if not _readable(connection):
            if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
                raise GalleryError(
                    f"gallery {path} cannot be opened, and its write-ahead log {path}-wal can only be read with it; "
                    "restore the gallery from a copy"
                )
            yield
            return
        with plain_errors(path):
            if connection.execute("PRAGMA user_version").fetchone()[0] > schema.VERSION:
                raise GalleryError(f"gallery {path} was made by a newer edge-claid; update edge-claid to repair it")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("BEGIN IMMEDIATE")
        if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
            raise StorageError(f"gallery {path} is in use by another process; stop that one and repair again")
        yield
    finally:
        connection.close()


def _readable(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if "locked" in str(error) or "busy" in str(error):
            raise StorageError(f"a gallery is in use by another process: {error}") from error
        return False
    return True


def _finish_interrupted(path: str) -> None:
    """A repair that was cut off between its two renames, where a file system has no links."""
    beside = path + ".repairing"
    if not os.path.lexists(path) and os.path.exists(path + ".damaged") and os.path.exists(beside):
        os.rename(beside, path)
