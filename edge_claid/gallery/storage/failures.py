"""SQLite's errors in our words: what is wrong with the gallery, or with the medium it lies on, and what to do."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from edge_claid.errors import EdgeClaidError, GalleryError, StorageError, UsageError
from edge_claid.gallery.storage import medium
from edge_claid.gallery.storage.holder import writer_of

_STORAGE = ("disk i/o error", "unable to open", "large file")
_ROOM = 64 * 2**20  # with this much free space it is the file that is full, not its disk


@contextlib.contextmanager
def plain_errors(path: str) -> Iterator[None]:
    """SQLite's errors as GalleryError (its content) or StorageError (its medium); each names the gallery."""
    try:
        yield
    except GalleryError as error:
        if path in str(error):
            raise
        raise GalleryError(f"gallery {path}: {error}") from error
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    except OSError as error:
        # Of the gallery's own files; an error of another file is not this gallery's.
        if not os.fsdecode(error.filename or "").startswith(path):
            raise
        raise StorageError(f"gallery {path} cannot be read or written ({error.strerror})") from error
    except UnicodeDecodeError as error:
        # SQLite quotes damaged text in its own message, which is then no text either.
        raise GalleryError(f"gallery {path} is damaged (text that is none)") from error


def is_busy(error: sqlite3.Error) -> bool:
    """True where another connection holds the lock that was wanted."""
    return "locked" in str(error).lower() or "busy" in str(error).lower()


def _translated(path: str, error: sqlite3.Error) -> EdgeClaidError:
    text = str(error).lower()
    if "closed database" in text:
        return UsageError(f"gallery {path} is closed; a gallery is used in its with block")
    if is_busy(error):
        return StorageError(
            f"gallery {path}: {writer_of(path)} is writing to it and did not finish in time; try again when it has"
        )
    if "disk is full" in text:
        return StorageError(f"gallery {path}: {_why_full(path)}; what was committed before is safe")
    if "readonly database" in text or "read-only" in text:
        return StorageError(f"gallery {path} was opened to be read only; nothing was written")
    if any(word in text for word in _STORAGE):
        if not os.path.exists(path):
            return StorageError(f"gallery {path} is gone: it was removed, or its medium was; bring it back")
        return StorageError(
            f"gallery {path}: its file or folder cannot be read or written ({error}); "
            "check the medium and run the same command again: what was committed before is safe"
        )
    trouble = medium.read_trouble(path)
    if trouble is not None:
        # SQLite takes a disk that cannot be read for a damaged file.
        return StorageError(f"gallery {path} cannot be read ({trouble}): its medium is failing, or was removed")
    return GalleryError(f"gallery {path} is damaged ({error}); `edge-claid gallery verify` says what is sound")


def _why_full(path: str) -> str:
    limit, free = medium.largest_file(path), medium.free_bytes(path)
    if limit is not None and free is not None and free > _ROOM:
        return (
            f"it is as large as a file may be on {medium.file_system(path)} ({limit / 1e9:.1f} GB); "
            "copy it to an exFAT or ext4 medium and go on there"
        )
    return "no space left on its disk; free some and run the same command again"
