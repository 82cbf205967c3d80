"""Opening a gallery's SQLite file.

A committed batch survives a cut of power: write-ahead log with ``synchronous=FULL``. Several processes may read and
one may write; a second writer waits for the first one's batch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from edge_claid.errors import GalleryError, StorageError, UsageError
from edge_claid.gallery.storage import medium, schema
from edge_claid.gallery.storage.failures import is_busy, plain_errors
from edge_claid.gallery.storage.holder import writer_of

_HEADER = b"SQLite format 3\0"
_TELL_AFTER = 2.0  # seconds a writer waits for another one before it says for whom
_LOG_KEPT = 32 * 2**20  # bytes the write-ahead log keeps on disk after a large transaction

log = logging.getLogger(__name__)


class Connection(sqlite3.Connection):
    """SQLite's connection, and which file it was made to. wait_seconds: how long it waits for another writer."""

    wait_seconds: float
    watch: medium.Watch


def connect(path: str, mode: str, wait_seconds: float) -> Connection:
    """Open a gallery file: "r" reads, "rw" writes, "create" writes and makes the file where it is missing.

    Raises GalleryError where the file is no gallery, is damaged or newer than this program; StorageError where the
    place cannot be read or written; UsageError for a mode that is none.
    """
    if mode not in ("r", "rw", "create"):
        raise UsageError(f"gallery mode {mode!r} is none of r, rw, create")
    made = _prepare(path, mode)
    if mode != "r":
        medium.require_writable(path)
    with plain_errors(path):
        connection = _open(path, mode, wait_seconds)
    with _closed_on_error(connection), plain_errors(path):
        if made or (mode == "create" and _is_blank(connection)):
            _lay_out(connection)
        _check_layout(connection, path, mode)
        if mode != "r":
            _make_durable(connection, path)
    return connection


@contextlib.contextmanager
def transaction(connection: Connection, path: str) -> Iterator[None]:
    """All or nothing: commits at the end of the block, rolls back where it raises. Waits for another writer.

    Raises StorageError or GalleryError where the file was removed or replaced meanwhile: nothing is safe in it then.
    """
    with plain_errors(path):
        connection.watch.require_same()
        _begin(connection, path)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # After a full disk SQLite may have rolled back already.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        connection.watch.require_same()


def close(connection: Connection) -> None:
    """Close, and fold the write-ahead log into the file, so that it holds everything even while others read it."""
    with contextlib.suppress(sqlite3.Error):
        if not connection.execute("PRAGMA query_only").fetchone()[0]:
            connection.execute("PRAGMA busy_timeout = 500")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _begin(connection: Connection, path: str) -> None:
    deadline = time.monotonic() + connection.wait_seconds
    first = min(_TELL_AFTER, connection.wait_seconds)
    try:
        connection.execute(f"PRAGMA busy_timeout = {int(first * 1000)}")
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        left = deadline - time.monotonic()
        if not is_busy(error) or left <= 0:
            raise
        log.warning("gallery %s: waiting for %s", path, writer_of(path))
        connection.execute(f"PRAGMA busy_timeout = {int(left * 1000)}")
        connection.execute("BEGIN IMMEDIATE")


def _prepare(path: str, mode: str) -> bool:
    """True where the layout has yet to be made. Refuses what is no gallery before SQLite sees it."""
    try:
        if medium.nothing_at(path):
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


def _open(path: str, mode: str, wait_seconds: float) -> Connection:
    uri = "file:" + quote(os.fsencode(os.path.abspath(path)))
    if mode != "r":
        return _connected(path, f"{uri}?mode={'rw' if mode == 'rw' else 'rwc'}", wait_seconds)
    # Writes nothing either, but may clear away the write-ahead log when it is the last to close.
    writable = os.access(path, os.W_OK) and os.access(medium.folder_of(path), os.W_OK)
    connection = _connected(path, f"{uri}?mode={'rw' if writable else 'ro'}", wait_seconds)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError) or is_busy(error) or _holds(path + "-journal"):
            raise
        # No place, or none left on a full disk, for the shared memory of a write-ahead log: so nobody writes.
        connection = _unlocked(path, uri, wait_seconds)
    return connection


def _unlocked(path: str, uri: str, wait_seconds: float) -> Connection:
    """For a read-only place or a full one. What a write-ahead log beside the file holds is part of the gallery."""
    if not _holds(path + "-wal"):
        return _connected(path, f"{uri}?immutable=1", wait_seconds, frozen=True)
    # An exclusive lock on nothing keeps the log's index in memory instead of in a file beside it.
    connection = _connected(path, f"{uri}?mode=ro&vfs=unix-none", wait_seconds, frozen=True)
    with _closed_on_error(connection):
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def _holds(path: str) -> bool:
    return os.path.exists(path) and os.path.getsize(path) > 0


def _connected(path: str, uri: str, wait_seconds: float, frozen: bool = False) -> Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=wait_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
        factory=Connection,
    )
    with _closed_on_error(connection):
        try:
            connection.wait_seconds = wait_seconds
            connection.watch = medium.Watch.on(path, frozen)
        except OSError as error:
            raise StorageError(f"gallery {path} cannot be read ({error.strerror})") from error
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    return connection


@contextlib.contextmanager
def _closed_on_error(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _make_durable(connection: Connection, path: str) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
    # Some builds overwrite what is deleted: a log as large as all descriptors when these are dropped.
    connection.execute("PRAGMA secure_delete = FAST")
    _mind_largest_file(connection, path)
    if medium.shared_by_machines(path):
        log.warning("gallery %s lies on a network file system: let only one machine use it at a time", path)


def _mind_largest_file(connection: Connection, path: str) -> None:
    """SQLite refuses the page that would not fit, before the file system does in the middle of a write."""
    limit = medium.largest_file(path)
    if limit is None:
        return
    page_bytes, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count"))
    # The log of a compaction holds every page with a header of 24 bytes, and one of its own.
    most = (limit - 32) // (page_bytes + 24)
    connection.execute(f"PRAGMA max_page_count = {most}")
    if pages > 0.9 * most:
        log.warning(
            "gallery %s is %.2f GB of the %.2f GB a file may have on %s; copy it to an exFAT or ext4 medium in time",
            path,
            pages * page_bytes / 1e9,
            most * page_bytes / 1e9,
            medium.file_system(path),
        )


def _is_blank(connection: Connection) -> bool:
    """True where a power cut ended the making of the file, and SQLite has rolled it back on opening."""
    return not any(
        connection.execute(query).fetchone()[0]
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )


def _lay_out(connection: Connection) -> None:
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


def _check_layout(connection: Connection, path: str, mode: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != schema.APPLICATION_ID:
        if _is_blank(connection):
            raise GalleryError(f"{path} is no gallery: it is empty, its making was cut short; enrol into it again")
        raise GalleryError(f"{path} is an SQLite database of another program, no gallery; name another file")
    version, wrong = _held_against(connection, schema.foreign)
    if version > schema.VERSION:
        newest = f"layout {version}, this program knows up to {schema.VERSION}"
        raise GalleryError(f"gallery {path} was made by a newer edge-claid ({newest}); update edge-claid")
    if version < (schema.READABLE if mode == "r" else schema.VERSION) and not wrong:
        _migrate(connection, path, mode)
    wrong = wrong or _held_against(connection, schema.differences)[1]
    if wrong:
        raise GalleryError(f"gallery {path} is damaged: {'; '.join(wrong[:3])}")


def _held_against(
    connection: Connection, check: Callable[[sqlite3.Connection, int], list[str]]
) -> tuple[int, list[str]]:
    """The layout's version, and what a check of the tables against it finds; another process may just renew it."""
    connection.execute("BEGIN")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return version, check(connection, version)
    finally:
        connection.execute("ROLLBACK")


def _migrate(connection: Connection, path: str, mode: str) -> None:
    """Bring an older layout to the present one; done by a reader of one it cannot read too, where it may write."""
    if mode == "r":
        try:
            medium.require_writable(path)
        except StorageError as error:
            raise GalleryError(f"gallery {path} has an older layout that has to be renewed: {error}") from error
        return connect(path, "rw", connection.wait_seconds).close()
    with transaction(connection, path):
        # Another process may have moved it while this one waited.
        for step in range(connection.execute("PRAGMA user_version").fetchone()[0], schema.VERSION):
            if step not in schema.MIGRATIONS:
                raise GalleryError(f"gallery {path} has the unknown layout {step}")
            schema.MIGRATIONS[step](connection)
            connection.execute(f"PRAGMA user_version = {step + 1}")
