"""Bytes of files that come from anywhere: regular files only, of bounded size, whole or not at all."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import IO

from edge_claid.errors import BadImageError


@dataclass(frozen=True)
class ReadLimits:
    """What is refused before it is decoded.

    pixels: largest width * height. side: largest width or height. smallest: least width and height, in pixels.
    bytes: largest file.
    """

    pixels: int = 64_000_000
    side: int = 65_500
    smallest: int = 16
    bytes: int = 256_000_000


@dataclass(frozen=True)
class FileBytes:
    """Content of a file with the size in bytes and modification time (ns since 1970) it had while it was read."""

    data: bytes
    size: int
    mtime_ns: int


def read_bytes(path: str | os.PathLike[str], limits: ReadLimits | None = None) -> FileBytes:
    """Read a regular file of bounded size.

    Raises BadImageError where it is missing, unreadable, no regular file, too large, or changes while it is read.
    """
    limits = limits or ReadLimits()
    name = os.fspath(path)
    try:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            if before.st_size > limits.bytes:
                raise BadImageError(f"{name}: {before.st_size:,} bytes, more than the limit of {limits.bytes:,}")
            data = file.read(limits.bytes + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise BadImageError(f"{name}: cannot be read ({error.strerror or error})") from error
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or len(data) != after.st_size:
        raise BadImageError(f"{name}: changed while it was read")
    return FileBytes(data, after.st_size, after.st_mtime_ns)


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A regular file, opened to be read. Raises BadImageError where it is none or cannot be opened."""
    name = os.fspath(path)
    # O_NONBLOCK: opening a FIFO must not wait for a writer that never comes.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadImageError(f"{name}: cannot be read ({reason})") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadImageError(f"{name}: no regular file")
    return file
