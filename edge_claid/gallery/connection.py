"""Opening a gallery's SQLite file, and SQLite's errors in our words.

A committed batch survives a cut of power: write-ahead log with ``synchronous=FULL``. Several processes may read and
one may write; a second writer waits for the first one's batch.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from urllib.parse import quote

from edge_claid.errors import EdgeClaidError, GalleryError, StorageError, UsageError
from edge_claid.gallery import schema

_HEADER = b"SQLite format 3\0"
_STORAGE = ("disk is full", "disk i/o error", "readonly database", "unable to open", "read-only", "large file")


@contextlib.contextmanager
def plain_errors(path: str) -> Iterator[None]:
    """SQLite's errors as GalleryError (its content) or StorageError (its medium)."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    except UnicodeDecodeError as error:
        # SQLite quotes damaged text in its own message, which is then no text either.
        raise GalleryError(f"gallery {path} is damaged (text that is none)") from error


def _translated(path: str, error: sqlite3.Error) -> EdgeClaidError:
    text = str(error).lower()
    if "locked" in text or "busy" in text:
        return StorageError(f"gallery {path}: another process is writing to it and did not finish in time; try again")
    if "disk is full" in text:
        return StorageError(f"gallery {path}: no space left on its disk; what was committed before is safe")
    if any(word in text for word in _STORAGE):
        return StorageError(f"gallery {path}: its file or folder cannot be read or written ({error})")
    return GalleryError(f"gallery {path} is damaged ({error}); `edge-claid gallery verify` says what is sound")


def connect(path: str, mode: str, wait_seconds: float) -> sqlite3.Connection:
    """Open a gallery file: "r" reads, "rw" writes, "create" writes and makes the file where it is missing.

    Raises GalleryError where the file is no gallery, is damaged or newer than this program; StorageError where the
    place cannot be read or written; UsageError for a mode that is none.
    """
    if mode not in ("r", "rw", "create"):
        raise UsageError(f"gallery mode {mode!r} is none of r, rw, create")
    made = _prepare(path, mode)
    with plain_errors(path):
        connection = _open(path, mode, wait_seconds)
    try:
        with plain_errors(path):
            if made:
                _lay_out(connection)
            _check_layout(connection, path, mode)
            if mode != "r":
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: str) -> Iterator[None]:
    """All or nothing: commits at the end of the block, rolls back where it raises. Waits for another writer."""
    with plain_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # After a full disk SQLite may have rolled back already.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def _prepare(path: str, mode: str) -> bool:
    """True where the layout has yet to be made. Refuses what is no gallery before SQLite sees it."""
    try:
        if not os.path.lexists(path):
            if mode == "create":
                return True
            raise UsageError(f"no gallery at {path}; `edge-claid enroll FOLDER --gallery {path}` makes one")
        if not os.path.isfile(path):
            raise GalleryError(f"{path} is no gallery: not a regular file")
        with open(path, "rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StorageError(f"gallery {path} cannot be read ({error.strerror})") from error
    if not header:
        # What a power cut leaves between making the file and its first commit.
        if mode == "create":
            return True
        raise GalleryError(f"{path} is no gallery: the file is empty")
    if len(header) < 100 or header[:16] != _HEADER:
        raise GalleryError(f"{path} is no gallery; name another file")
    version, application = struct.unpack_from(">I", header, 60)[0], struct.unpack_from(">I", header, 68)[0]
    if (version, application) == (0, 0) and mode == "create":
        return True  # An unfinished creation, or an empty database: _lay_out finds out.
    if application != schema.APPLICATION_ID:
        raise GalleryError(f"{path} is an SQLite database of another program, no gallery; name another file")
    return False


def _open(path: str, mode: str, wait_seconds: float) -> sqlite3.Connection:
    uri = "file:" + quote(os.fsencode(os.path.abspath(path)))
    if mode != "r":
        return _connected(f"{uri}?mode={'rw' if mode == 'rw' else 'rwc'}", wait_seconds)
    folder = os.path.dirname(os.path.abspath(path))
    if os.access(path, os.W_OK) and os.access(folder, os.W_OK):
        # Writes nothing either, but may clear away the write-ahead log when it is the last to close.
        connection = _connected(f"{uri}?mode=rw", wait_seconds)
        connection.execute("PRAGMA query_only = ON")
        return connection
    connection = _connected(f"{uri}?mode=ro", wait_seconds)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
            raise
        # A read-only medium has no place for the shared memory of a write-ahead log, and nobody who writes.
        connection = _connected(f"{uri}?immutable=1", wait_seconds)
    return connection


def _connected(uri: str, wait_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=wait_seconds, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _lay_out(connection: sqlite3.Connection) -> None:
    # Freed pages can be given back without writing the whole file anew; must precede the first table.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first; a database with foreign tables is left alone.
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            schema.create(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _check_layout(connection: sqlite3.Connection, path: str, mode: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != schema.APPLICATION_ID:
        raise GalleryError(f"{path} is an SQLite database of another program, no gallery; name another file")
    if version > schema.VERSION:
        newest = f"layout {version}, this program knows up to {schema.VERSION}"
        raise GalleryError(f"gallery {path} was made by a newer edge-claid ({newest}); update edge-claid")
    if version < schema.VERSION:
        _migrate(connection, path, mode, version)
    wrong = schema.differences(connection)
    if wrong:
        raise GalleryError(f"gallery {path} is damaged: {'; '.join(wrong[:3])}")


def _migrate(connection: sqlite3.Connection, path: str, mode: str, version: int) -> None:
    if mode == "r":
        raise GalleryError(
            f"gallery {path} has the older layout {version}; `edge-claid gallery compact {path}` moves it"
        )
    with transaction(connection, path):
        for step in range(version, schema.VERSION):
            if step not in schema.MIGRATIONS:
                raise GalleryError(f"gallery {path} has the unknown layout {step}")
            schema.MIGRATIONS[step](connection)
            connection.execute(f"PRAGMA user_version = {step + 1}")
