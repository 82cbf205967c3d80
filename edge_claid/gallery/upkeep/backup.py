"""A consistent copy of a gallery while others read and write it, and a gallery from outside as one of ours."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from edge_claid.errors import GalleryError, StorageError, UsageError
from edge_claid.gallery.storage import medium
from edge_claid.gallery.storage.batch import Space
from edge_claid.gallery.storage.failures import plain_errors
from edge_claid.gallery.storage.replace import put_in_place, remove_database
from edge_claid.gallery.storage.whole_file import require_free
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify


def copy_to(gallery: Gallery, path: str, overwrite: bool = False) -> int:
    """Copy a gallery as it is at this moment to a new file, by SQLite's backup; bytes written.

    The copy appears under its name when it is whole and on the disk. Raises UsageError where ``path`` exists and
    ``overwrite`` is False, StorageError where it does not fit or is in use.
    """
    _require_other(gallery.path, path)
    require_free(path, overwrite)
    _copy(gallery, path, lambda beside: None)
    return os.path.getsize(path)


def import_gallery(source: Gallery, path: str, read_space: Callable[[bytes], Space] | None = None) -> int:
    """Take a gallery from outside as a new one at ``path``, after every byte of the copy has been verified; images.

    Raises GalleryError where anything in it is wrong, UsageError where ``path`` exists.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} exists; `edge-claid gallery merge {path} {source.path}` adds to it")

    def check(beside: str) -> None:
        with Gallery.open(beside, "r", read_space=read_space) as copy:
            problem = next(verify(copy), None)
        if problem is not None:
            where = f"{problem.image}: " if problem.image is not None else ""
            raise GalleryError(
                f"gallery {source.path} is damaged ({where}{problem.what}); nothing was imported. "
                f"`edge-claid gallery verify --repair {source.path}` keeps what is sound"
            )

    _copy(source, path, check)
    return len(source)


def _copy(gallery: Gallery, path: str, check: Callable[[str], None]) -> None:
    size = sum(os.path.getsize(file) for file in (gallery.path, gallery.path + "-wal") if os.path.exists(file))
    free, most = medium.free_bytes(path), medium.largest_file(path)
    medium.require_place(path)
    if free is not None and free < size:
        raise StorageError(f"{path} needs up to {size:,} bytes and {free:,} are free on its disk; free some")
    if most is not None and os.path.getsize(gallery.path) > most:
        raise StorageError(
            f"{path}: {medium.file_system(path)} holds files of at most {most:,} bytes; use exFAT or ext4"
        )
    beside = path + ".copying"
    remove_database(beside)
    try:
        with gallery.reading() as connection, plain_errors(beside):
            target = sqlite3.connect(beside, isolation_level=None)
            try:
                connection.backup(target)
            finally:
                target.close()
        check(beside)
        put_in_place(beside, path)
    except BaseException:
        remove_database(beside)
        raise


def _require_other(source: str, path: str) -> None:
    if os.path.exists(path) and os.path.samefile(source, path):
        raise UsageError(f"{path} is the gallery itself; name another file to copy it to")
