"""Is a source still there? A pulled stick must not look like a folder whose files were deleted or are all broken."""

from __future__ import annotations

import errno
import os

# What the kernel says of a medium that went away under a mounted file system.
_MEDIUM = {
    getattr(errno, name)
    for name in ("EIO", "ENODEV", "ENXIO", "ESTALE", "ENOTCONN", "EREMOTEIO", "ENOMEDIUM", "ESHUTDOWN")
    if hasattr(errno, name)
}
# One unreadable file is a damaged file; so many in a row are a medium that is gone while its folder is still in cache.
_IN_A_ROW = 5


class Presence:
    """Remembers which folder of which file system a root is, and counts its read errors."""

    def __init__(self, root: str):
        self._root = root
        self._identity = _identity(root)
        self._errors = 0
        self.lost: str | None = None

    def read_failed(self, error: BaseException | None) -> str | None:
        """After a file that could not be read: why the whole source is held to be lost, or None."""
        if isinstance(error, OSError) and error.errno in _MEDIUM:
            self._errors += 1
        if self._errors >= _IN_A_ROW:
            self.lost = self.lost or f"{self._errors} files in a row: {os.strerror(errno.EIO).lower()}"
        return self.look()

    def read_worked(self) -> None:
        self._errors = 0

    def look(self) -> str | None:
        """Why the source is lost, or None while its root is the same folder that can be listed."""
        if self.lost is None:
            self.lost = self._missing()
        return self.lost

    def _missing(self) -> str | None:
        if self._identity is None:
            return None
        try:
            with os.scandir(self._root) as entries:
                next(entries, None)
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return None if _identity(self._root) == self._identity else "another file system lies there now"


def _identity(root: str) -> tuple[int, int] | None:
    try:
        status = os.stat(root)
    except OSError:
        return None
    return status.st_dev, status.st_ino
