"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO

from edge_claid.errors import StorageError, UsageError


@contextlib.contextmanager
def whole_file(path: str, overwrite: bool) -> Iterator[IO[str]]:
    """A text file (UTF-8) to write to, renamed to ``path`` when the block ends without an error.

    Raises UsageError where ``path`` exists and ``overwrite`` is False, StorageError where it cannot be written.
    """
    require_free(path, overwrite)
    beside = path + ".part"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); free some space or name another") from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(beside)


def require_free(path: str, overwrite: bool) -> None:
    """Raises UsageError where something is at ``path`` and may not be overwritten."""
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists; name another file, or add --overwrite")
