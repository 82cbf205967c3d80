"""An open gallery file: one connection for several threads, its transactions, its end."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from typing import TypeVar

from edge_claid.gallery.storage.connection import Connection, close, transaction
from edge_claid.gallery.storage.failures import plain_errors

Self = TypeVar("Self", bound="OpenFile")


class OpenFile:
    """path: as it was opened. To be used in a ``with`` block."""

    def __init__(self, path: str, connection: Connection):
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file; whoever wrote, and the last one to close, folds the write-ahead log into it."""
        with self._lock:
            close(self._connection)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the file for several queries.

        Raises StorageError where the file is gone meanwhile, GalleryError where another one has taken its place.
        """
        with self._lock, plain_errors(self.path):
            nested = self._connection.in_transaction
            if not nested:
                self._connection.watch.require_same()
                self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if not nested and self._connection.in_transaction:
                    # A commit would fail by a damaged page that was met, also where its reader had another way.
                    self._connection.execute("ROLLBACK")
            if not nested and self._connection.watch.frozen:
                # Without locks it may have been changed while it was read.
                self._connection.watch.require_same()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction for other modules of this package."""
        with self._lock, transaction(self._connection, self.path):
            yield self._connection

    @contextlib.contextmanager
    def attached(self, uri: str, name: str) -> Iterator[None]:
        """Another database file beside this one, for other modules of this package."""
        with self._lock, plain_errors(self.path):
            self._connection.execute(f"ATTACH ? AS {name}", (uri,))
            try:
                yield
            finally:
                self._connection.execute(f"DETACH {name}")
