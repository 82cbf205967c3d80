"""A finished database file takes the place of another at once, and never beside a log that is not its own."""

from __future__ import annotations

import contextlib
import os

from edge_claid.errors import StorageError
from edge_claid.gallery.storage.failures import plain_errors


def put_in_place(finished: str, path: str, keep_as: str | None = None) -> str:
    """Rename ``finished``, closed and complete, to ``path``; the file there before stays as ``keep_as``.

    keep_as: with -2, -3 … where that name is taken; None to let the old file go. Returns the name it has now.
    Raises StorageError while another process has the old file open.
    """
    if os.path.exists(path + "-wal") or os.path.exists(path + "-shm"):
        # SQLite would read the old file's log into the new one.
        raise StorageError(f"gallery {path} is in use by another process; stop that one and run this again")
    if os.path.exists(finished + "-wal"):
        # Closing could not fold its log into it: renamed without, it would lack what is in the log.
        raise StorageError(f"{finished} could not be completed; free some space on its disk and run this again")
    kept = ""
    try:
        _flush(finished)
        if keep_as is not None and os.path.lexists(path):
            kept = _unused(keep_as)
            try:
                os.link(path, kept)
            except OSError:
                # vfat and exFAT have no links.
                os.rename(path, kept)
        os.replace(finished, path)
        _flush_folder(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise StorageError(f"{finished} cannot be renamed to {path} ({error.strerror})") from error
    return kept


def remove_database(path: str) -> None:
    """Remove a database file with its logs, where there is one."""
    with plain_errors(path):
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path + suffix)


def _unused(name: str) -> str:
    number, candidate = 2, name
    while os.path.lexists(candidate):
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _flush(path: str) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def _flush_folder(path: str) -> None:
    """The new name itself on the disk; Windows has no way to ask for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
