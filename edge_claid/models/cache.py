"""Where network files lie on this machine, and how a file gets there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_claid.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: without the lock two processes may do the same work; the result is right all the same
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 20
# ENOENT too: below /proc, or on a medium that was pulled, no folder can be made.
_NOT_WRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOENT,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EIO,
)


def cache_home() -> Path:
    """``EDGE_CLAID_CACHE_DIR``, else ``$XDG_CACHE_HOME/edge-claid``, else ``~/.cache/edge-claid``."""
    own = os.environ.get("EDGE_CLAID_CACHE_DIR")
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "edge-claid"


def models_folder(cache_dir: Path | None = None) -> Path:
    """The folder of network files, made if missing. cache_dir stands for ``$XDG_CACHE_HOME/edge-claid``.

    Raises StorageError where it cannot be made.
    """
    folder = (cache_dir or cache_home()) / "models"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def offline() -> bool:
    """Whether ``EDGE_CLAID_OFFLINE`` forbids to fetch anything (set, and neither empty nor 0)."""
    return os.environ.get("EDGE_CLAID_OFFLINE", "0") not in ("", "0")


@contextlib.contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turns the errors of a full or read-only disk into StorageError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise StorageError(
                f"no space left for {place}: free some, or set EDGE_CLAID_CACHE_DIR elsewhere"
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise StorageError(
                f"cannot write {place} ({error.strerror}): set EDGE_CLAID_CACHE_DIR to a folder of yours"
            ) from error
        raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write; on leaving without an error it is flushed to disk and takes the place of ``path`` at once."""
    with storage_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            part.chmod(0o644)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Held by one process (or thread) at a time; freed by the system if its holder dies.

    waiting: called once where another holds it.
    """
    with storage_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
