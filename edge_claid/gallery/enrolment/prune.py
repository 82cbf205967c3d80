"""Images whose files are gone leave the gallery, when that is asked for and certain."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from edge_claid.gallery.clips import file_of
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.enrolment.survey import Finding
from edge_claid.gallery.roots import Root, is_mounted
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery

log = logging.getLogger(__name__)

_AT_ONCE = 256


def gone(gallery: Gallery, root: Root, listed: int) -> Iterator[ImageRow]:
    """Images of a root whose files no longer exist. None at all where the folder listed no file.

    An empty folder is what a pulled stick leaves behind; a file that merely cannot be looked at is not gone.
    """
    if listed == 0:
        log.warning("%s lists no files: nothing is pruned; `gallery remove` removes what is meant to go", root.location)
        return
    for row in gallery.images():
        if row.root_id == root.id and _is_gone(os.path.join(root.location, row.path)):
            yield row


def prune(gallery: Gallery, root: Root, listed: int, copies: dict[int, Finding]) -> Iterator[Outcome]:
    """Remove what is gone, in committed batches; an image with a copy elsewhere in the run goes there instead."""
    candidates = list(gone(gallery, root, listed))
    for start in range(0, len(candidates), _AT_ONCE):
        outcomes = []
        with gallery.batch() as batch:
            for row in candidates[start : start + _AT_ONCE]:
                # Looked at once more: a medium pulled since would make everything look gone.
                if not is_mounted(root) or not _holds_anything(root.location):
                    break
                copy = copies.get(row.id)
                if copy is not None and copy.root is not None and not _is_gone(copy.path):
                    batch.move(row.id, copy.root.id, copy.relative, copy.size, copy.mtime_ns)
                    outcomes.append(Outcome(copy.path, "moved", row.regions, f"was {row.path}"))
                else:
                    batch.remove(row.id)
                    file = os.path.join(root.location, row.path)
                    outcomes.append(Outcome(file, "removed", row.regions, "no longer in its folder"))
        yield from outcomes


def _holds_anything(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(entries)


def _is_gone(path: str) -> bool:
    try:
        os.stat(file_of(path))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
